"""Refusals: each has its own code and sentence."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from messaging_core import errors
from messaging_core.errors import FieldError, Invalid, Refused, TooManyRequests, Unauthenticated, UserNotFound


def leaves(kind: type[Refused] = Refused) -> Iterator[type[Refused]]:
    below = kind.__subclasses__()
    if not below:
        yield kind
    for each in below:
        yield from leaves(each)


LEAVES = [leaf for leaf in leaves() if leaf.__module__ == errors.__name__]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.__name__)
def test_every_refusal_has_a_code_and_a_sentence(leaf: type[Refused]) -> None:
    """Every refusal has its own code for clients and its own sentence for people."""
    assert "code" in vars(leaf)
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", leaf.code)
    assert "sentence" in vars(leaf)
    assert re.fullmatch(r"[A-Z].*[.>]['.]?", leaf.sentence)


def test_codes_are_unique() -> None:
    """A code belongs to one refusal."""
    assert max(Counter(leaf.code for leaf in LEAVES).values()) == 1
    assert len(LEAVES) >= 20


def test_the_contract_s_codes() -> None:
    """Every code of the contract exists."""
    named = {
        "email_taken",
        "invalid_credentials",
        "token_invalid",
        "token_expired",
        "session_revoked",
        "refresh_token_invalid",
        "refresh_token_expired",
        "refresh_token_reused",
        "not_a_participant",
        "direct_chat_with_self",
        "idempotency_key_reused",
    }
    assert named <= {leaf.code for leaf in LEAVES}
    assert {leaf.code for leaf in leaves(Unauthenticated)} >= {"token_missing", "session_revoked"}


def test_the_text_of_a_refusal() -> None:
    """A refusal's text is its default sentence, or the one that it was given."""
    assert (str(UserNotFound()), UserNotFound().detail, UserNotFound().errors) == (
        UserNotFound.sentence,
        UserNotFound.sentence,
        (),
    )
    assert UserNotFound("No user 7.").detail == "No user 7."


def test_the_text_of_an_invalid_request() -> None:
    """The detail is one string that names every field; without fields it is the default sentence."""
    refused = Invalid(FieldError("a", "x", "is bad"), FieldError("b.0", "y", "is worse"))
    assert refused.detail == "a: is bad; b.0: is worse"
    assert [error.code for error in refused.errors] == ["x", "y"]
    assert Invalid().detail == Invalid.sentence


@pytest.mark.parametrize(("wait", "shown"), [(0.02, "1 s"), (1.0, "1 s"), (1.25, "2 s")])
def test_too_many_requests_state_the_wait(wait: float, shown: str) -> None:
    """The refusal holds the exact wait, and its text rounds up, so that a retry at that time succeeds."""
    refused = TooManyRequests(wait)
    assert refused.retry_after == wait
    assert f"Try again in {shown}." in refused.detail

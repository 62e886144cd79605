"""Idempotency keys: how they are read, replayed, refused and forgotten."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.effects import Decision, StoreAnswer
from messaging_core.errors import IdempotencyKeyInvalid, IdempotencyKeyReused
from messaging_core.idempotency import fingerprint, keep, parse_key, replayed
from messaging_core.ids import UserId
from messaging_core.limits import Limits
from messaging_core.models import Answer, IdempotencyKey

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LIMITS = Limits()
KEY = IdempotencyKey(UserId(1), "POST", "/api/v1/messages", "k")
ANSWER = Answer(KEY, fingerprint(b"body"), 201, b"answer", NOW)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (" \tk\t ", "k"),
        ('  "k"  ', "k"),
        ("k" * 255, "k" * 255),
        ('"' + "k" * 255 + '"', "k" * 255),
        ("!~", "!~"),
        ("a,b;c=d", "a,b;c=d"),
        ('"', '"'),
        ('"k', '"k'),
        ('k"', 'k"'),
    ],
)
def test_keys(header: str, key: str) -> None:
    """A key is taken bare, as the known client sends it, and quoted, as the IETF draft does: the same key."""
    assert parse_key(header) == key


@pytest.mark.parametrize(
    "header",
    [
        "",
        " ",
        '""',
        "k" * 256,
        '"' + "k" * 256 + '"',
        "a b",
        '"a b"',
        "a\tb",
        "ключ",
        "k\x7f",
        "k\n",
        "\x00",
        "k\xa0",
    ],
)
def test_what_is_no_key(header: str) -> None:
    """Nothing, too much, white space inside, and what is not visible ASCII are refused."""
    with pytest.raises(IdempotencyKeyInvalid):
        parse_key(header)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=253))
def test_quoting_a_key_changes_nothing(key: str) -> None:
    """A key in quotes is the key."""
    assert parse_key(f'"{key}"') == key


@given(st.binary(), st.binary())
def test_fingerprints_tell_bodies_apart(one: bytes, other: bytes) -> None:
    """Equal bodies have equal fingerprints of 16 bytes, others different ones."""
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
    assert len(fingerprint(one)) == 16


def test_the_first_request_goes_on() -> None:
    """With no answer kept there is nothing to replay."""
    assert replayed(None, fingerprint(b"body"), now=NOW, limits=LIMITS) is None


def test_the_same_request_is_answered_again() -> None:
    """Key and body again: the kept answer, until it is 24 hours old."""
    last = NOW + timedelta(hours=24) - timedelta(seconds=1)
    for now in (NOW, last):
        assert replayed(ANSWER, fingerprint(b"body"), now=now, limits=LIMITS) is ANSWER
    assert replayed(ANSWER, fingerprint(b"body"), now=NOW + timedelta(hours=24), limits=LIMITS) is None


def test_another_body_is_refused() -> None:
    """A key stands for one body for as long as it is kept; afterwards it is free."""
    with pytest.raises(IdempotencyKeyReused):
        replayed(ANSWER, fingerprint(b"other"), now=NOW, limits=LIMITS)
    later = NOW + timedelta(hours=24)
    assert replayed(ANSWER, fingerprint(b"other"), now=later, limits=LIMITS) is None


def test_keeping_an_answer() -> None:
    """What was answered is kept with its key, fingerprint and time."""
    decision = keep(KEY, fingerprint(b"body"), status=201, body=b"answer", now=NOW)
    assert decision == Decision(ANSWER, (StoreAnswer(ANSWER),))
    assert keep(evolve(KEY, user_id=None), b"", status=204, body=b"", now=NOW).result.key.user_id is None

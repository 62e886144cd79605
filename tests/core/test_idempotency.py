"""Idempotency keys: parsing, replay, refusal and expiry."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.effects import Decision, StoreResponse
from messaging_core.errors import IdempotencyKeyInvalid, IdempotencyKeyReused
from messaging_core.idempotency import (
    IdempotentRequest,
    fingerprint,
    parse_key,
    replayed,
    resource_of,
    store,
)
from messaging_core.ids import ChatId, UserId
from messaging_core.limits import Limits
from messaging_core.models import (
    Chat,
    ChatView,
    IdempotencyKey,
    MemberPage,
    MemberView,
    Message,
    NewlyRead,
    Resource,
    ResourceKind,
    Role,
    StoredResponse,
    User,
    UserView,
)
from messaging_core.testing import strategies as values

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LIMITS = Limits()
KEY = IdempotencyKey(UserId(1), "POST", "/api/v1/messages", "k")
REQUEST = IdempotentRequest(KEY, fingerprint(b"command"), b"body")
RESPONSE = StoredResponse(KEY, REQUEST.fingerprint, 201, Resource(ResourceKind.MESSAGE, 7), NOW)
DAY = timedelta(hours=24)


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
        ("XkX", "XkX"),
        ("a,b;c=d", "a,b;c=d"),
        ('"', '"'),
        ('"k', '"k'),
        ('k"', 'k"'),
    ],
)
def test_keys(header: str, key: str) -> None:
    """A bare key, as the known client sends it, and a quoted key, as in the IETF draft, are the same key."""
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
def test_invalid_keys(header: str) -> None:
    """Empty and too long keys, white space inside, and characters other than visible ASCII are refused."""
    with pytest.raises(IdempotencyKeyInvalid):
        parse_key(header)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=253))
def test_quoting_a_key_changes_nothing(key: str) -> None:
    """A quoted key equals the key."""
    assert parse_key(f'"{key}"') == key


@given(st.binary(), st.binary())
def test_fingerprints_distinguish_encodings(one: bytes, other: bytes) -> None:
    """Equal encodings have equal fingerprints of 16 bytes, other encodings different ones."""
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
    assert len(fingerprint(one)) == 16


def test_the_first_request_runs() -> None:
    """Without a stored response there is no replay."""
    assert replayed(None, REQUEST, now=NOW, limits=LIMITS) is None


def test_the_same_request_is_replayed() -> None:
    """The same key and command return the stored response for 24 hours, whatever the body's bytes."""
    for now in (NOW, NOW + DAY - timedelta(seconds=1)):
        for body in (b"body", b"another spelling", None):
            request = evolve(REQUEST, body=body)
            assert replayed(RESPONSE, request, now=now, limits=LIMITS) is RESPONSE
    assert replayed(RESPONSE, REQUEST, now=NOW + DAY, limits=LIMITS) is None


def test_another_command_is_refused() -> None:
    """A key belongs to one command while its response is stored, and is free afterwards."""
    other = evolve(REQUEST, fingerprint=fingerprint(b"other"))
    with pytest.raises(IdempotencyKeyReused):
        replayed(RESPONSE, other, now=NOW, limits=LIMITS)
    assert replayed(RESPONSE, other, now=NOW + DAY, limits=LIMITS) is None


@pytest.mark.parametrize("body", [b"other", None])
def test_a_response_of_an_earlier_schema(body: bytes | None) -> None:
    """Schema 0003 compared the body's bytes, so its responses are replayed only for the same bytes."""
    earlier = evolve(RESPONSE, fingerprint=fingerprint(b"body"))
    assert replayed(earlier, REQUEST, now=NOW, limits=LIMITS) is earlier
    with pytest.raises(IdempotencyKeyReused):
        replayed(earlier, evolve(REQUEST, body=body), now=NOW, limits=LIMITS)


def test_storing_a_response() -> None:
    """A stored response has the key, the command's fingerprint, the status, the resource and the time."""
    decision = store(REQUEST, status=201, resource=RESPONSE.resource, now=NOW)
    assert decision == Decision(RESPONSE, (StoreResponse(RESPONSE),))
    deletion = store(evolve(REQUEST, key=evolve(KEY, user_id=None)), status=204, resource=None, now=NOW)
    assert (deletion.result.key.user_id, deletion.result.resource) == (None, None)


@given(values.messages(), values.users)
def test_resources(message: Message, user: User) -> None:
    """A stored response names the message, chat or user that it shows, and copies nothing of it."""
    chat = ChatView(Chat(ChatId(5), "Trip", True, NOW, (), 1, NOW, None), (), Role.OWNER, None)
    person = UserView(user.id, None, user.display_name, user.tag, None, NOW)
    member = MemberView(person, Role.MEMBER, NOW)
    assert resource_of(message) == Resource(ResourceKind.MESSAGE, message.id)
    assert resource_of(user) == Resource(ResourceKind.USER, user.id)
    assert resource_of(chat) == Resource(ResourceKind.CHAT, 5)
    assert resource_of(None) is None
    assert resource_of(NewlyRead(ChatId(5), (message.id,))) is None
    assert (
        resource_of(member)
        == resource_of(MemberPage((member, member)))
        == Resource(ResourceKind.MEMBER, user.id)
    )

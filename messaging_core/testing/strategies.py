"""Hypothesis strategies for the domain's values, all valid under the default limits."""

from datetime import UTC, datetime, timedelta
from functools import partial
from string import ascii_lowercase, digits
from typing import Any

from attrs import evolve
from hypothesis import strategies as st

from messaging_core.characters import is_blank, unsafe_in_name
from messaging_core.commands import CreateGroup, EditMessage, ListMessages, RegisterUser, SendMessage
from messaging_core.constraints import UNSET, NormalForm, normalised
from messaging_core.events import (
    EVENTS,
    DurableEvent,
    EphemeralEvent,
    Facts,
    MemberAdded,
    MemberUpdated,
    MessageCreated,
    MessageRead,
    Typing,
    rebuild,
)
from messaging_core.idempotency import IdempotentRequest
from messaging_core.ids import MAX_ID, ChatId, MessageId, SessionId, UserId
from messaging_core.limits import Rate
from messaging_core.marks import Mark
from messaging_core.models import (
    Chat,
    History,
    IdempotencyKey,
    Member,
    Message,
    MessageType,
    Resource,
    ResourceKind,
    Role,
    Session,
    StoredResponse,
    Tombstone,
    User,
)
from messaging_core.positions import FOUNDER, Range, ended, joining
from messaging_core.tokens import NONCE_BYTES

EPOCH = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
"""An ordinary moment."""

times = st.integers(0, 10 * 365 * 86_400).map(lambda seconds: EPOCH + timedelta(seconds=seconds))
"""Times as the domain stores them: UTC, whole seconds."""

ids = st.one_of(st.integers(1, 50), st.integers(1, MAX_ID))
user_ids = ids.map(UserId)
session_ids = ids.map(SessionId)
chat_ids = ids.map(ChatId)
message_ids = ids.map(MessageId)


def texts(*, max_size: int, lines: bool = False) -> st.SearchStrategy[str]:
    """Text in any script that is not blank, without NUL and lone surrogates, which databases refuse.

    Without `lines`, the text is one line in the normal form of a name.
    """
    if lines:
        characters = st.characters(exclude_categories=["Cs"], exclude_characters="\x00")
        return st.text(characters, min_size=1, max_size=max_size).filter(lambda text: not is_blank(text))
    characters = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
    return (
        st.text(characters, min_size=1, max_size=max_size)
        .map(partial(normalised, NormalForm.NAME))
        .filter(lambda text: len(text) <= max_size and not is_blank(text) and unsafe_in_name(text) is None)
    )


contents = texts(max_size=200, lines=True)
emails = st.builds(
    "{}@{}.test".format,
    st.text(ascii_lowercase + digits + "_+-", min_size=1, max_size=20),
    st.text(ascii_lowercase, min_size=1, max_size=10),
)
tags = st.from_regex(r"[a-z0-9][a-z0-9_.]{1,30}[a-z0-9]", fullmatch=True)

_keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=10)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_ID, MAX_ID)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts(max_size=20, lines=True)
)
json_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=8,
)
payloads: st.SearchStrategy[dict[str, Any]] = st.dictionaries(_keys, json_values, max_size=4)
"""JSON objects whose numbers JavaScript represents exactly."""

avatar_urls = st.none() | st.just("https://example.com/a.png")

users = st.builds(
    User,
    id=user_ids,
    email=emails,
    display_name=texts(max_size=64),
    tag=tags,
    avatar_url=avatar_urls,
    created_at=times,
)


nonces = st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES)


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """Sessions of any age, ended or not."""
    created_at = draw(times)
    refreshed_at = created_at + timedelta(seconds=draw(st.integers(0, 10**7)))
    return Session(
        draw(session_ids),
        draw(user_ids),
        draw(st.text(ascii_lowercase, max_size=20)),
        created_at,
        refreshed_at,
        refreshed_at + timedelta(days=draw(st.integers(7, 60))),
        draw(st.integers(1, 10**6)),
        draw(st.booleans()),
        draw(st.none() | st.just(refreshed_at)),
        draw(st.none() | nonces),
    )


@st.composite
def ranges(draw: st.DrawFn, *, until: int) -> Range:
    """Ranges that last, of members who joined with the number `until` or before."""
    if draw(st.booleans()):
        return FOUNDER
    first = draw(st.integers(1, until))
    return Range(first, draw(st.sampled_from([1, first])))


def _marks(message_count: int) -> st.SearchStrategy[Mark]:
    return st.builds(Mark, message_ids, st.integers(0, message_count))


@st.composite
def chats(draw: st.DrawFn, *, is_group: bool | None = None) -> Chat:
    """Chats with at least their `chat.created` in the log; people join groups later, too."""
    group = draw(st.booleans()) if is_group is None else is_group
    created_at = draw(times)
    people = draw(st.lists(user_ids, unique=True, min_size=1 if group else 2, max_size=6 if group else 2))
    roles = [Role.OWNER, *draw(st.lists(st.sampled_from(Role), min_size=5, max_size=5))]
    sequence = draw(st.integers(1, 10**9))
    members = tuple(
        Member(user_id, role, created_at, draw(ranges(until=sequence)))
        if group
        else Member(user_id, Role.MEMBER, created_at)
        for user_id, role in zip(people, roles, strict=False)
    )
    return Chat(
        draw(chat_ids),
        draw(texts(max_size=128)) if group else "Direct Message",
        group,
        created_at,
        members,
        sequence,
        created_at + timedelta(seconds=draw(st.integers(0, 10**7))),
        draw(st.none() | message_ids),
        draw(st.sampled_from(History)) if group else History.ALL,
        draw(avatar_urls) if group else None,
        message_count := draw(st.integers(0, 10**6)),
        () if group else draw(st.just(()) | st.tuples(_marks(message_count), _marks(message_count))),
    )


@st.composite
def messages(draw: st.DrawFn, *, chat: Chat | None = None, is_new: bool = False) -> Message:
    """Messages that are not deleted; with a chat, their author is one of its members.

    With `is_new`, their creation is the chat's next event, otherwise one that it has.
    """
    last = 10**9 if chat is None else chat.sequence
    content, payload = draw(_substance())
    ts = draw(times)
    number = last + 1 if is_new else draw(st.integers(1, last))
    return Message(
        draw(message_ids),
        draw(chat_ids) if chat is None else chat.id,
        draw(user_ids) if chat is None else draw(st.sampled_from(chat.member_ids)),
        draw(st.sampled_from([kind for kind in MessageType if kind is not MessageType.SYSTEM])),
        content,
        payload,
        ts,
        draw(st.none() | message_ids),
        draw(st.none() | st.just(ts + timedelta(seconds=1))),
        None,
        number,
        number if is_new else draw(st.integers(number, last)),
    )


@st.composite
def events(draw: st.DrawFn, *, chat: Chat | None = None) -> DurableEvent:
    """Durable events of every kind in the table; with a chat, they are the next event of this chat."""
    kind = draw(st.sampled_from([kind for kind in EVENTS if kind.is_durable]))
    of = draw(chats()) if chat is None else chat
    number = of.sequence + 1
    if kind.event is MemberUpdated:
        member = evolve(draw(st.sampled_from(of.members)), role=draw(st.sampled_from(Role)))
        count = of.member_count
    elif kind.event is MemberAdded:
        user_id = draw(user_ids.filter(lambda each: of.member(each) is None))
        member = Member(user_id, Role.MEMBER, draw(times), joining(number, reads_all=draw(st.booleans())))
        count = of.member_count + 1
    else:
        member = draw(st.sampled_from(of.members))
        member = evolve(member, range=ended(member.range, number))
        count = of.member_count - 1
    tombstone = Tombstone(of.id, number, draw(times), draw(st.none() | user_ids))
    message = draw(messages(chat=of, is_new=kind.event is MessageCreated))
    facts = Facts(of, message, draw(payloads), member, count, tombstone)
    event = rebuild(kind.name or draw(st.sampled_from(["acme.pinned", "acme.poll.opened"])), facts)
    assert event is not None
    return event


ephemeral_events: st.SearchStrategy[EphemeralEvent] = st.builds(
    Typing, chat_ids, user_ids, st.booleans()
) | st.builds(
    MessageRead,
    chat_ids,
    user_ids,
    message_ids,
    st.lists(message_ids, max_size=3).map(tuple),
    st.integers(0, 100),
    st.integers(1, 100),
)


def _substance() -> st.SearchStrategy[tuple[str | None, dict[str, Any] | None]]:
    """Content and payload, of which at least one is not None."""
    return st.one_of(
        st.tuples(contents, st.none() | payloads),
        st.tuples(st.none(), payloads),
    )


register_commands = st.builds(
    RegisterUser,
    email=emails,
    password=st.text(ascii_lowercase, min_size=8, max_size=128),
    display_name=texts(max_size=64),
    avatar_url=avatar_urls,
)
create_group_commands = st.builds(
    CreateGroup,
    title=texts(max_size=128),
    member_ids=st.lists(user_ids, max_size=6).map(tuple),
    history=st.sampled_from(History),
)


@st.composite
def send_commands(draw: st.DrawFn, *, chat_id: st.SearchStrategy[ChatId] = chat_ids) -> SendMessage:
    """Commands to send a message that is no reply, valid for a member of the chat."""
    content, payload = draw(_substance())
    kind = draw(st.sampled_from([kind for kind in MessageType if kind is not MessageType.SYSTEM]))
    return SendMessage(draw(chat_id), kind, content, payload)


edit_commands = st.builds(
    EditMessage,
    message_id=message_ids,
    content=st.just(UNSET) | st.none() | contents,
    payload=st.just(UNSET) | st.none() | payloads,
)
list_commands = st.builds(
    ListMessages,
    chat_id=chat_ids,
    limit=st.none() | st.integers(1, 200),
    before_id=st.none() | message_ids,
)

rates = st.builds(Rate, per_second=st.floats(0.01, 100), burst=st.integers(1, 200))

idempotency_keys = st.builds(
    IdempotencyKey,
    user_id=st.none() | user_ids,
    method=st.sampled_from(["POST", "PATCH", "PUT", "DELETE"]),
    path=st.sampled_from(["/api/v1/messages", "/api/v1/chats/direct", "/api/v1/messages/7"]),
    key=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=255),
)
resources = st.builds(Resource, kind=st.sampled_from(ResourceKind), id=st.integers(1, MAX_ID))
stored_responses = st.builds(
    StoredResponse,
    key=idempotency_keys,
    fingerprint=st.binary(min_size=16, max_size=16),
    status=st.sampled_from([200, 201, 204]),
    resource=st.none() | resources,
    created_at=times,
)
idempotent_requests = st.builds(
    IdempotentRequest,
    key=idempotency_keys,
    fingerprint=st.binary(min_size=16, max_size=16),
    body=st.none() | st.binary(max_size=20),
)

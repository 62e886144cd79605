"""Converts between the driver's rows and the domain's values."""

from collections.abc import Mapping
from datetime import UTC, datetime
from json import JSONDecoder, JSONEncoder
from typing import Any, Literal, assert_never

from adapters.storage_sql.driver import Row
from messaging_core.events import (
    THE_CHAT,
    ChatSubject,
    CustomSubject,
    LogEntry,
    MemberSubject,
    MessageSubject,
    Subject,
)
from messaging_core.ids import UserId
from messaging_core.marks import NOTHING_READ, Mark
from messaging_core.models import (
    Chat,
    Excerpt,
    History,
    IdempotencyKey,
    Member,
    Message,
    MessageType,
    Resource,
    ResourceKind,
    Session,
    StoredResponse,
    Tombstone,
    User,
)

Kind = Literal["user", "session", "chat", "message"]
KINDS: tuple[Kind, ...] = ("user", "session", "chat", "message")
"""Kinds of objects with an identifier."""

NO_USER = 0
"""Means "no account yet" in a key, where NULL would equal nothing, itself included."""

MEMBERS_VERSION, MEMBER_COUNT = -2, -1
"""The indices of these columns in a chat's row."""

PAYLOAD = 5
"""The index of the payload's text in a message's row."""

# A look-up here takes a tenth of the time of a call of the class.
_TYPES = {type_.value: type_ for type_ in MessageType}
_HISTORIES = {history.value: history for history in History}

_encode = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = JSONDecoder().decode


def seconds(at: datetime) -> int:
    return int(at.timestamp())


def moment(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _seconds_or_none(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())


def _moment_or_none(at: int | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def user_row(user: User) -> Row:
    return (user.id, user.email, user.display_name, user.tag, user.avatar_url, seconds(user.created_at))


def user_of(row: Row) -> User:
    id_, email, display_name, tag, avatar_url, created_at = row
    return User(id_, email, display_name, tag, avatar_url, moment(created_at))


def session_row(session: Session) -> Row:
    return (
        session.id,
        session.user_id,
        session.device,
        seconds(session.created_at),
        seconds(session.refreshed_at),
        seconds(session.expires_at),
        session.generation,
        session.confirmed,
        _seconds_or_none(session.ended_at),
        session.nonce,
    )


def session_of(row: Row) -> Session:
    id_, user_id, device, created_at, refreshed_at, expires_at, generation, confirmed, ended_at, nonce = row
    return Session(
        id_,
        user_id,
        device,
        moment(created_at),
        moment(refreshed_at),
        moment(expires_at),
        generation,
        bool(confirmed),
        _moment_or_none(ended_at),
        nonce,
    )


def chat_row(chat: Chat, *, members_version: int) -> Row:
    first, second = chat.marks or (NOTHING_READ, NOTHING_READ)
    return (
        chat.id,
        chat.title,
        chat.is_group,
        seconds(chat.created_at),
        chat.sequence,
        seconds(chat.active_at),
        chat.last_message_id,
        chat.avatar_url,
        chat.history._value_,
        chat.message_count,
        *first,
        *second,
        members_version,
        len(chat.members),
    )


def chat_of(row: Row, members: tuple[Member, ...]) -> Chat:
    id_, title, is_group, created_at, sequence, active_at, last_message_id = row[:7]
    avatar_url, history, message_count, *marks, _, _ = row[7:]
    return Chat(
        id_,
        title,
        bool(is_group),
        moment(created_at),
        members,
        sequence,
        moment(active_at),
        last_message_id,
        _HISTORIES[history] if is_group else History.ALL,
        avatar_url,
        message_count,
        (Mark(*marks[:2]), Mark(*marks[2:])) if any(marks) else (),
    )


def excerpt_of(row: Row, member_ids: tuple[UserId, ...] = ()) -> Excerpt:
    id_, title, is_group, created_at, sequence, active_at, last_message_id = row[:7]
    avatar_url, history, message_count = row[7:10]
    member_count = row[MEMBER_COUNT]
    return Excerpt(
        id_,
        title,
        bool(is_group),
        moment(created_at),
        moment(active_at),
        last_message_id,
        member_count,
        sequence,
        _HISTORIES[history] if is_group else History.ALL,
        avatar_url,
        message_count,
        member_ids,
    )


def tombstone_of(row: Row) -> Tombstone:
    id_, sequence, deleted_at, deleted_by = row
    return Tombstone(id_, sequence, moment(deleted_at), deleted_by)


def message_row(message: Message) -> Row:
    return (
        message.id,
        message.chat_id,
        message.author_id,
        message.type._value_,
        message.content,
        _payload_text(message.payload),
        seconds(message.ts),
        message.reply_to_id,
        _seconds_or_none(message.edited_at),
        _seconds_or_none(message.deleted_at),
        message.sequence,
        None if message.revision == message.sequence else message.revision,
    )


def changed_message_row(message: Message) -> Row:
    """The columns that may change, and then the message's id."""
    id_, _chat_id, *changeable, _sequence, revision = message_row(message)
    return (*changeable, revision, id_)


def message_of(row: Row) -> Message:
    (
        id_,
        chat_id,
        author_id,
        type_,
        content,
        payload,
        ts,
        reply_to_id,
        edited_at,
        deleted_at,
        sequence,
        revision,
    ) = row
    return Message(
        id_,
        chat_id,
        author_id,
        _TYPES[type_],
        content,
        None if payload is None else _decode(payload),
        moment(ts),
        reply_to_id,
        _moment_or_none(edited_at),
        _moment_or_none(deleted_at),
        sequence,
        revision or sequence,
    )


def _payload_text(payload: Mapping[str, Any] | None) -> str | None:
    return None if payload is None else _encode(payload)


def entry_row(entry: LogEntry) -> Row:
    message_id = data = user_id = None
    match entry.subject:
        case MessageSubject():
            message_id = entry.subject.message_id
        case MemberSubject():
            user_id = entry.subject.user_id
        case CustomSubject():
            data = _encode(entry.subject.data)
        case ChatSubject():
            pass
        case _:
            assert_never(entry.subject)
    return (entry.chat_id, entry.sequence, entry.name, message_id, seconds(entry.at), data, user_id)


def entry_of(row: Row) -> LogEntry:
    chat_id, sequence, name, message_id, at, data, user_id = row
    subject: Subject = THE_CHAT
    if message_id is not None:
        subject = MessageSubject(message_id)
    elif user_id is not None:
        subject = MemberSubject(user_id)
    elif data is not None:
        subject = CustomSubject(_decode(data))
    return LogEntry(chat_id, sequence, name, subject, moment(at))


def key_row(key: IdempotencyKey) -> Row:
    return (NO_USER if key.user_id is None else key.user_id, key.method, key.path, key.key)


def stored_response_row(response: StoredResponse) -> Row:
    resource = response.resource
    return (
        *key_row(response.key),
        response.fingerprint,
        response.status,
        None if resource is None else resource.kind._value_,
        None if resource is None else resource.id,
        seconds(response.created_at),
    )


def stored_response_of(key: IdempotencyKey, row: Row) -> StoredResponse:
    fingerprint, status, kind, id_, created_at = row
    resource = None if kind is None else Resource(ResourceKind(kind), id_)
    return StoredResponse(key, fingerprint, status, resource, moment(created_at))

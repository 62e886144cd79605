"""Facts, durable and ephemeral, and one table of how each kind is named, logged, replayed and shown.

To add a durable event: write its class, add it to `DurableEvent`, give it a row in `EVENTS`, and name the
storage effects that keep it in `fanout.announce`. An ephemeral event needs its class in `EphemeralEvent`, and
a row. The log, the signals between processes, the hub, the description of the wire and the tests read the
table.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Literal

from attrs import asdict, field, frozen

from messaging_core.frames import (
    ChatDeletedData,
    ChatUpdatedData,
    ForViewer,
    MemberAddedData,
    MemberData,
    MessageReadData,
    PlainFrame,
    ShownChat,
    ShownMessage,
    TypingData,
    Views,
    plain_message,
)
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, History, Member, Message, Tombstone
from messaging_core.positions import FOUNDER, may_see

# --- durable events -----------------------------------------------------------------------------------------


@frozen
class ChatCreated:
    chat: Chat


@frozen
class ChatUpdated:
    """What a chat is called and looks like, and what its new members read, after a change of any of these."""

    chat_id: ChatId
    title: str
    avatar_url: str | None
    history: History


@frozen
class ChatDeleted:
    """The chat's last event; all its memberships end with it."""

    tombstone: Tombstone


@frozen
class MemberAdded:
    """A person joined; their range begins with this event's number."""

    member: Member
    member_count: int
    """How many members the chat has after the event, or now where it is replayed."""


@frozen
class MemberUpdated:
    """A member has another role."""

    member: Member
    member_count: int
    """How many members the chat has."""


@frozen
class MemberRemoved:
    """A person left or was removed; their range ends with this event's number, the last one they receive."""

    member: Member
    member_count: int
    """How many members the chat has after the event, or now where it is replayed."""


@frozen
class MessageCreated:
    message: Message


@frozen
class MessageUpdated:
    message: Message


@frozen
class MessageDeleted:
    """An author or an admin deleted a message; its place in the chat stays."""

    message: Message


OWN_NAMESPACES: Final = frozenset(
    {
        "ack",
        "chat",
        "error",
        "hello",
        "keepalive",
        "me",
        "member",
        "message",
        "presence",
        "reaction",
        "resumed",
        "resync_required",
        "typing",
        "user",
    }
)
"""First parts of event names that this library keeps for itself."""

CUSTOM_NAME: Final = r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)+"
_CUSTOM_NAME: Final = re.compile(CUSTOM_NAME)
CUSTOM_NAME_CHARACTERS: Final = 64


def _check_custom_name(_event: object, _attribute: object, name: str) -> None:
    fits = len(name) <= CUSTOM_NAME_CHARACTERS and _CUSTOM_NAME.fullmatch(name)
    if not fits or name.partition(".")[0] in OWN_NAMESPACES:
        raise ValueError(
            f"{name!r} cannot name a custom event: write NAMESPACE.NAME in lower case, like 'acme.pinned', "
            f"with at most {CUSTOM_NAME_CHARACTERS} characters and in a namespace of your own"
        )


@frozen
class Custom:
    """An importer's event, such as `Custom("acme.pinned", {"message_id": 5})`: logged and delivered by name.

    `data` is a JSON object, which the log keeps. Raises `ValueError` for a name without a namespace, or in
    one of `OWN_NAMESPACES`.
    """

    name: str = field(validator=_check_custom_name)
    data: Mapping[str, Any]


DurableEvent = (
    ChatCreated
    | ChatUpdated
    | ChatDeleted
    | MemberAdded
    | MemberUpdated
    | MemberRemoved
    | MessageCreated
    | MessageUpdated
    | MessageDeleted
    | Custom
)

# --- ephemeral events ---------------------------------------------------------------------------------------


@frozen
class Typing:
    """Somebody types in a chat, or has stopped."""

    chat_id: ChatId
    user_id: UserId
    is_typing: bool


@frozen
class MessageRead:
    """A member has read a chat further than before."""

    chat_id: ChatId
    user_id: UserId
    read_up_to: MessageId
    message_ids: tuple[MessageId, ...]
    """Some of the messages that were read, newest first."""
    unread_count: int
    """The reader's, of the chat up to the number `sequence`."""
    sequence: int


EphemeralEvent = Typing | MessageRead

Event = DurableEvent | EphemeralEvent

# --- the log ------------------------------------------------------------------------------------------------


@frozen
class ChatSubject:
    """The entry is about the chat itself."""


@frozen
class MessageSubject:
    """The entry is about a message, which is read when the entry is replayed."""

    message_id: MessageId


@frozen
class MemberSubject:
    """The entry is about a person's membership of the chat."""

    user_id: UserId


@frozen
class CustomSubject:
    """The entry carries an importer's data, which is kept nowhere else."""

    data: Mapping[str, Any]


Subject = ChatSubject | MemberSubject | MessageSubject | CustomSubject

THE_CHAT: Final = ChatSubject()


@frozen
class LogEntry:
    """One durable event in its chat's order, by reference.

    The log copies nothing of a chat or a message, so an edited or deleted text is gone from it too.
    """

    chat_id: ChatId
    sequence: int
    """Counts the chat's events from 1, without gaps."""
    name: str
    subject: Subject
    at: datetime


# --- the table ----------------------------------------------------------------------------------------------


@frozen
class Facts:
    """What an event is rebuilt from: of the log's subject its current state, of a signal what it carries."""

    chat: Chat | None = None
    message: Message | None = None
    data: Mapping[str, Any] | None = None
    member: Member | None = None
    member_count: int = 0
    tombstone: Tombstone | None = None


@frozen
class Needs:
    """What a frame of profile 2 shows beyond its event, and must be read for its viewer."""

    user_id: UserId | None = None
    """A person."""
    chat: bool = False
    """The chat as it is now."""


@frozen
class EventKind:
    """A row of `EVENTS`; the functions take an event of the row's class."""

    name: str | None
    """On the wire and in the log; None where each event has a name of its own."""
    event: type[Any]
    summary: str
    """What happened, for the authors of clients."""
    subject: Callable[[Any], Subject] | None
    """What the log's entry refers to; None for an ephemeral event, which the log does not have."""
    audience: Callable[[Any, Chat], tuple[UserId, ...]]
    """Whom it is delivered to, by the chat as it was before the event."""
    facts: Callable[[Any], Facts]
    """What a signal carries, so that another process need not read it."""
    replay: Callable[[str, Facts], Event | None]
    """The event of that name as it is now; None where what it is about is gone."""
    plain: Callable[[Any], PlainFrame | None]
    """What profile 1 shows."""
    data: Any
    """The type of the data that profile 2 shows."""
    full: Callable[[Any, Any, Views, ForViewer], object]
    """The data of what profile 2 shows of the event with this log entry, or with none."""
    needs: Callable[[Any, UserId], Needs] | None = None
    """What must be read to show it to a user in profile 2; None where it is the same for all readers.

    Such an event is shown from the log, so it must be durable.
    """

    @property
    def is_durable(self) -> bool:
        """Whether it is logged, and never shed; otherwise it is delivered to open sockets, or lost."""
        return self.subject is not None


def readers(members: Iterable[Member], fact: int, created: int) -> tuple[UserId, ...]:
    """Those of the members who may see a fact: `may_see`."""
    return tuple(
        [
            member.user_id
            for member in members
            if member.range is FOUNDER or may_see(member.range, fact, created)
        ]
    )


def _members(_: Event, chat: Chat) -> tuple[UserId, ...]:
    return chat.member_ids


def _readers_of_message(event: MessageUpdated | MessageDeleted, chat: Chat) -> tuple[UserId, ...]:
    return readers(chat.members, chat.sequence + 1, event.message.sequence)


def _about_message(
    name: str,
    event: type[MessageCreated | MessageUpdated | MessageDeleted],
    plain_name: Literal["message.created", "message.updated"],
    audience: Callable[[Any, Chat], tuple[UserId, ...]],
    summary: str,
) -> EventKind:
    return EventKind(
        name,
        event,
        summary,
        subject=lambda event: MessageSubject(event.message.id),
        audience=audience,
        facts=lambda event: Facts(message=event.message),
        replay=lambda _, facts: None if facts.message is None else event(facts.message),
        plain=lambda event: PlainFrame(plain_name, plain_message(event.message)),
        data=ShownMessage,
        full=lambda event, _, views, __: views.message(event.message),
    )


def _typing(data: Mapping[str, Any] | None) -> Typing | None:
    match data:
        case {"chat_id": int(chat_id), "user_id": int(user_id), "is_typing": bool(is_typing)}:
            return Typing(ChatId(chat_id), UserId(user_id), is_typing)
        case _:
            return None


def _message_read(data: Mapping[str, Any] | None) -> MessageRead | None:
    match data:
        case {
            "chat_id": int(chat_id),
            "user_id": int(user_id),
            "read_up_to": int(read_up_to),
            "message_ids": list() | tuple() as message_ids,
            "unread_count": int(unread_count),
            "sequence": int(sequence),
        }:
            read = tuple(map(MessageId, message_ids))
            return MessageRead(
                ChatId(chat_id), UserId(user_id), MessageId(read_up_to), read, unread_count, sequence
            )
        case _:
            return None


def _chat_updated(facts: Facts) -> ChatUpdated | None:
    if facts.chat is not None:
        return ChatUpdated(facts.chat.id, facts.chat.title, facts.chat.avatar_url, facts.chat.history)
    match facts.data:
        case {"chat_id": int(chat_id), "title": str(title), "avatar_url": avatar_url, "history": history}:
            return ChatUpdated(ChatId(chat_id), title, avatar_url, History(history))
        case _:
            return None


def _member_data(
    event: MemberUpdated | MemberRemoved, entry: LogEntry, views: Views, more: ForViewer
) -> MemberData:
    member = event.member
    user = None if more.user is None else views.user(more.user)
    return MemberData(entry.chat_id, user, member.role, member.joined_at, event.member_count)


def _added_data(event: MemberAdded, entry: LogEntry, views: Views, more: ForViewer) -> MemberAddedData:
    member = event.member
    user = None if more.user is None else views.user(more.user)
    chat = None if more.chat is None else views.chat(more.chat)
    return MemberAddedData(entry.chat_id, user, member.role, member.joined_at, event.member_count, chat)


def _about_member(
    name: str,
    event: type[MemberAdded | MemberUpdated | MemberRemoved],
    audience: Callable[[Any, Chat], tuple[UserId, ...]],
    full: Callable[[Any, LogEntry, Views, ForViewer], object],
    summary: str,
    *,
    data: type[MemberData | MemberAddedData] = MemberData,
    shows_chat: bool = False,
) -> EventKind:
    """`shows_chat`: whether the person whom it is about sees the chat in it."""
    return EventKind(
        name,
        event,
        summary,
        subject=lambda event: MemberSubject(event.member.user_id),
        audience=audience,
        facts=lambda event: Facts(member=event.member, member_count=event.member_count),
        replay=lambda _, facts: None if facts.member is None else event(facts.member, facts.member_count),
        plain=lambda _: None,
        data=data,
        full=full,
        needs=lambda event, viewer: Needs(
            event.member.user_id, chat=shows_chat and event.member.user_id == viewer
        ),
    )


CREATED: Final = "message.created"

EVENTS: Final = (
    EventKind(
        "chat.created",
        ChatCreated,
        "A chat was created, or is new to you: the chat as you see it.",
        subject=lambda _: THE_CHAT,
        audience=_members,
        facts=lambda event: Facts(chat=event.chat),
        replay=lambda _, facts: None if facts.chat is None else ChatCreated(facts.chat),
        plain=lambda _: None,
        data=ShownChat,
        full=lambda _, __, views, more: None if more.chat is None else views.chat(more.chat),
        needs=lambda _, __: Needs(chat=True),
    ),
    EventKind(
        "chat.updated",
        ChatUpdated,
        "A group has another title, avatar, or history for new members.",
        subject=lambda _: THE_CHAT,
        audience=_members,
        facts=lambda event: Facts(data=asdict(event)),
        replay=lambda _, facts: _chat_updated(facts),
        plain=lambda _: None,
        data=ChatUpdatedData,
        full=lambda event, *_: ChatUpdatedData(event.chat_id, event.title, event.avatar_url, event.history),
    ),
    EventKind(
        "chat.deleted",
        ChatDeleted,
        "A chat was deleted: its last event.",
        subject=lambda _: THE_CHAT,
        audience=_members,
        facts=lambda event: Facts(tombstone=event.tombstone),
        replay=lambda _, facts: None if facts.tombstone is None else ChatDeleted(facts.tombstone),
        plain=lambda _: None,
        data=ChatDeletedData,
        full=lambda event, *_: ChatDeletedData(event.tombstone.chat_id, event.tombstone.deleted_by),
    ),
    _about_member(
        "member.added",
        MemberAdded,
        lambda event, chat: (*chat.member_ids, event.member.user_id),
        _added_data,
        "A person joined a chat. If it is you, `chat` is the chat: drop what you hold of it.",
        data=MemberAddedData,
        shows_chat=True,
    ),
    _about_member("member.updated", MemberUpdated, _members, _member_data, "A member has another role."),
    _about_member(
        "member.removed",
        MemberRemoved,
        _members,
        _member_data,
        "A person left a chat or was removed. If it is you, it is your last event of the chat.",
    ),
    # No range needs to be looked at: all members joined before the message, which is new.
    _about_message(CREATED, MessageCreated, CREATED, _members, "A message was sent."),
    _about_message(
        "message.updated", MessageUpdated, "message.updated", _readers_of_message, "A message was edited."
    ),
    _about_message(
        "message.deleted",
        MessageDeleted,
        "message.updated",
        _readers_of_message,
        "A message was deleted: it stays in the history, without its content.",
    ),
    EventKind(
        None,
        Custom,
        "An event of an extension, under a name in a namespace of its own.",
        subject=lambda event: CustomSubject(event.data),
        audience=_members,
        facts=lambda event: Facts(data=event.data),
        replay=lambda name, facts: None if facts.data is None else Custom(name, facts.data),
        plain=lambda _: None,
        data=Mapping[str, Any],
        full=lambda event, *_: event.data,
    ),
    EventKind(
        "typing",
        Typing,
        "Somebody types in a chat, or has stopped. It is forgotten after 10 s.",
        subject=None,
        audience=lambda event, chat: tuple([each for each in chat.member_ids if each != event.user_id]),
        facts=lambda event: Facts(data=asdict(event)),
        replay=lambda _, facts: _typing(facts.data),
        plain=lambda _: None,
        data=TypingData,
        full=lambda event, *_: TypingData(event.chat_id, event.user_id, event.is_typing),
    ),
    EventKind(
        "message.read",
        MessageRead,
        "A member has read a chat up to a message. In a large chat only the reader receives it.",
        subject=None,
        audience=_members,
        facts=lambda event: Facts(data=asdict(event)),
        replay=lambda _, facts: _message_read(facts.data),
        plain=lambda _: None,
        data=MessageReadData,
        full=lambda event, *_: MessageReadData(
            event.chat_id,
            event.user_id,
            event.read_up_to,
            event.message_ids,
            event.unread_count,
            event.sequence,
        ),
    ),
)
"""Every kind of event."""

_BY_CLASS: Final = MappingProxyType({kind.event: kind for kind in EVENTS})
_BY_NAME: Final = MappingProxyType({kind.name: kind for kind in EVENTS})


MESSAGE_EVENTS: Final = frozenset(
    kind.name for kind in EVENTS if kind.event in (MessageCreated, MessageUpdated, MessageDeleted)
)
"""The names of the events that show a whole message."""


def kind_of(event: Event) -> EventKind:
    """The event's row."""
    return _BY_CLASS[type(event)]


def event_name(event: Event) -> str:
    """The event's name on the wire and in the log."""
    return event.name if isinstance(event, Custom) else str(kind_of(event).name)


def rebuild(name: str, facts: Facts) -> DurableEvent | None:
    """The durable event of that name, from the state of what it is about; None where that is gone.

    Raises `ValueError` for any other name.
    """
    event = _rebuild(name, facts)
    if event is None or not isinstance(event, EphemeralEvent):
        return event
    raise ValueError(f"{name!r} names an ephemeral event")


def rebuild_ephemeral(name: str, facts: Facts) -> EphemeralEvent | None:
    """The ephemeral event of that name; None where the facts are not its own.

    Raises `ValueError` for any other name.
    """
    event = _rebuild(name, facts)
    if event is None or isinstance(event, EphemeralEvent):
        return event
    raise ValueError(f"{name!r} names a durable event")


def _rebuild(name: str, facts: Facts) -> Event | None:
    return (_BY_NAME.get(name) or _BY_NAME[None]).replay(name, facts)


def log_entry(chat_id: ChatId, sequence: int, event: DurableEvent, at: datetime) -> LogEntry:
    """The log's entry for an event, other than a message's creation on the hot path: see `creation`."""
    subject = kind_of(event).subject
    if subject is None:
        raise TypeError(f"{type(event).__name__} is ephemeral in EVENTS, and cannot be logged")
    return LogEntry(chat_id, sequence, event_name(event), subject(event), at)


def creation(message: Message) -> LogEntry:
    """The log's entry for a new message; storages keep it with the message, not as a row of its own."""
    return LogEntry(message.chat_id, message.sequence, CREATED, MessageSubject(message.id), message.ts)

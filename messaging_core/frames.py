"""What a socket receives, encoded as JSON: the keys and their order are the wire's.

Profile 1 has two event names, and the checklist's seven keys of a message. Profile 2 has a frame for every
event. What both its frames and responses show (a message, a chat, a person) has one description, that of
responses: `Views` makes it, and `ShownUser`, `ShownChat` and `ShownMessage` stand for it in these classes.
The description of the wire is made of the classes, and of `CONTROL_FRAMES`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from attrs import frozen

from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.models import ChatView, History, Message, MessageType, PresenceStatus, Role, UserView

# --- profile 1 ----------------------------------------------------------------------------------------------


@frozen(slots=False)
class PlainMessage:
    """A message as profile 1 shows it; its keys and their order are frozen."""

    id: MessageId
    chat_id: ChatId
    author_id: UserId | None
    type: MessageType
    content: str | None
    payload: Mapping[str, Any] | None
    ts: datetime


@frozen(slots=False)
class PlainFrame:
    """The only frame of profile 1."""

    event: Literal["message.created", "message.updated"]
    data: PlainMessage


def plain_message(message: Message) -> PlainMessage:
    return PlainMessage(
        message.id,
        message.chat_id,
        message.author_id,
        message.type,
        message.content,
        message.payload,
        message.ts,
    )


# --- profile 2 ----------------------------------------------------------------------------------------------


@frozen
class Views:
    """The functions that make what a response shows of a model, which a frame shows too."""

    user: Callable[[UserView], object]
    chat: Callable[[ChatView], object]
    message: Callable[[Message], object]


ShownUser = Annotated[object, UserView]
"""What `Views.user` makes of a `UserView`."""
ShownChat = Annotated[object, ChatView]
ShownMessage = Annotated[object, Message]


@frozen
class ForViewer:
    """What a frame shows beyond its event, as its reader sees it; None where it shows no such thing."""

    user: UserView | None = None
    """The person whom the event is about."""
    chat: ChatView | None = None
    """The chat as it is now."""


NOTHING_MORE = ForViewer()


@frozen(slots=False)
class Frame:
    """A frame that shows no event of a log."""

    event: str
    data: object


@frozen(slots=False)
class NumberedFrame:
    """A frame that shows an event of a chat's log, or a chat, with the number up to which it is true."""

    event: str
    chat_id: ChatId
    sequence: int
    data: object


@frozen(slots=False)
class ChatUpdatedData:
    """The data of `chat.updated`."""

    id: ChatId
    title: str
    avatar_url: str | None
    history: History


@frozen(slots=False)
class ChatDeletedData:
    """The data of `chat.deleted`."""

    id: ChatId
    deleted_by: UserId | None
    """Null where nobody did, or the account is gone."""


@frozen(slots=False)
class MemberData:
    """The data of `member.updated` and `member.removed`; `user` is null where the account is gone."""

    chat_id: ChatId
    user: ShownUser | None
    role: Role
    joined_at: datetime
    participants_count: int


@frozen(slots=False)
class MemberAddedData:
    """The data of `member.added`; `chat` is the Chat for the person who was added, null for the others."""

    chat_id: ChatId
    user: ShownUser | None
    role: Role
    joined_at: datetime
    participants_count: int
    chat: ShownChat | None


@frozen(slots=False)
class TypingData:
    """The data of `typing`."""

    chat_id: ChatId
    user_id: UserId
    is_typing: bool


@frozen(slots=False)
class MessageReadData:
    """The data of `message.read`; `message_ids` names the newest 100 of the messages that were read.

    `unread_count` is the reader's, of the chat up to the number `sequence` of its log.
    """

    chat_id: ChatId
    user_id: UserId
    read_up_to: MessageId
    message_ids: Sequence[MessageId]
    unread_count: int
    sequence: int


@frozen(slots=False)
class ShownLimits:
    """The bounds that a client must know."""

    message_characters: int
    message_payload_bytes: int
    group_members: int
    frame_bytes: int
    resume_bytes: int
    commands_queued: int


@frozen(slots=False)
class HelloData:
    """The data of `hello`, the first frame of a socket."""

    user: ShownUser
    session_id: SessionId
    log: str
    """The incarnation of the log: numbers of another one mean nothing."""
    server_time: datetime
    limits: ShownLimits


@frozen(slots=False)
class ResumedChat:
    """A chat of the person, the number up to which the client has received it, and how far it is read."""

    id: ChatId
    sequence: int
    unread_count: int
    read_up_to: MessageId | None
    others_read_up_to: MessageId | None


@frozen(slots=False)
class ResumedData:
    """The data of `resumed`, the frame between the missed events and the live ones."""

    chats: Sequence[ResumedChat]
    users: Sequence[ShownUser]
    """The people whose names or pictures have changed."""


@frozen(slots=False)
class ResyncRequiredData:
    """The data of `resync_required`: the client fetches everything, in `retry_after` seconds."""

    reason: Literal["other_log", "unknown_number"]
    retry_after: int


@frozen(slots=False)
class PresenceData:
    """The data of `presence`."""

    user_id: UserId
    status: PresenceStatus
    last_seen: datetime | None
    """Now, if they are online; null if they never were."""


@frozen(slots=False)
class KeepaliveData:
    """The data of `keepalive`: an empty object."""


@frozen
class FrameKind:
    """A kind of frame that shows no event of `EVENTS`."""

    name: str
    summary: str
    """For the authors of clients."""
    data: Any
    """The type of its data."""
    is_numbered: bool = False
    """Whether it is a `NumberedFrame`."""


CONTROL_FRAMES: Final = (
    FrameKind("hello", "The first frame of every socket.", HelloData),
    FrameKind(
        "chat.resync",
        "The chat as it is, in place of too many missed events: drop its messages, and fetch a page.",
        ShownChat,
        is_numbered=True,
    ),
    FrameKind("resumed", "Every missed event was sent; from here on, events are live.", ResumedData),
    FrameKind(
        "resync_required",
        "The numbers of `resume` are worth nothing: fetch everything, in `retry_after` seconds.",
        ResyncRequiredData,
    ),
    FrameKind(
        "presence",
        "Whether somebody is online whom you watch: sent after `watch`, and when it has changed.",
        PresenceData,
    ),
    FrameKind(
        "keepalive",
        "The reply to `ping`, and the sign of life after 45 s without another frame.",
        KeepaliveData,
    ),
)
"""The frames of profile 2 that show no event."""

"""The domain's values: frozen. Times are UTC and whole seconds."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from attrs import frozen

from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.marks import Marks
from messaging_core.positions import FOUNDER, Range


@frozen
class User:
    """A person with an account."""

    id: UserId
    email: str
    display_name: str
    tag: str
    avatar_url: str | None
    created_at: datetime


@frozen
class UserView:
    """A user as one viewer sees them (`messaging_core.privacy`); hidden fields are None."""

    id: UserId
    email: str | None
    display_name: str
    tag: str
    avatar_url: str | None
    created_at: datetime


@frozen
class EmailForms:
    """An e-mail address in its two spellings: equal unless its domain has letters beyond ASCII."""

    unicode: str
    ascii: str
    """With the domain in the form for name servers; the part before the `@` is the same."""


@frozen
class Session:
    """One login on one device, and the generation of its tokens."""

    id: SessionId
    user_id: UserId
    device: str
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    generation: int
    """Counts refreshes from 1; the current tokens carry this number."""
    confirmed: bool
    """Whether a token of the current generation has been used."""
    ended_at: datetime | None
    nonce: bytes | None
    """16 random bytes that its tokens carry; None for a session from before there were nonces.

    It distinguishes two sessions to which a restored backup of an older version has assigned one identifier.
    """


@frozen
class Actor:
    """The caller: a user, through one of their sessions."""

    user_id: UserId
    session_id: SessionId


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


class History(StrEnum):
    """From where a new member reads a chat; fixed for each member when they join."""

    ALL = "all"
    """From its beginning."""
    JOINED = "joined"
    """From their joining on."""


@frozen
class Member:
    """A person's membership of a chat; one that has ended is found by `Reader.ended_members` only."""

    user_id: UserId
    role: Role
    joined_at: datetime
    range: Range = FOUNDER
    """What the person may see of the chat."""


@frozen
class Chat:
    """A direct chat of two people, or a group, with the number of its last event."""

    id: ChatId
    title: str
    is_group: bool
    created_at: datetime
    members: tuple[Member, ...]
    sequence: int
    """The number of the chat's last event; the next event takes the next number."""
    active_at: datetime
    """When its last message was sent; without a message, when it was created."""
    last_message_id: MessageId | None
    history: History = History.ALL
    """What people who join from now on read."""
    avatar_url: str | None = None
    message_count: int = 0
    """How many messages were sent, deleted ones included: the ordinal of the last one."""
    marks: Marks = ()
    """How far the two people of a direct chat have read; those of a group are read apart from it."""

    @property
    def member_ids(self) -> tuple[UserId, ...]:
        return tuple([member.user_id for member in self.members])

    @property
    def member_count(self) -> int:
        return len(self.members)

    def member(self, user_id: UserId) -> Member | None:
        for member in self.members:
            if member.user_id == user_id:
                return member
        return None


@frozen
class Tombstone:
    """What stays of a deleted chat, besides its log and its memberships, which have all ended."""

    chat_id: ChatId
    sequence: int
    """The number of its `chat.deleted`, the last one of its log."""
    deleted_at: datetime
    deleted_by: UserId | None
    """None where nobody deleted it, or where their account is gone."""


class PresenceStatus(StrEnum):
    ONLINE = "online"
    OFFLINE = "offline"


@frozen
class Sighting:
    """That a user was there."""

    at: datetime
    until: datetime
    """Until when they count as being there."""


@frozen
class Presence:
    """Whether a user is there, as people who share a chat with them see it."""

    user_id: UserId
    status: PresenceStatus
    last_seen: datetime | None
    """Now, if they are there; None if they never were."""


class Excerpt(NamedTuple):
    """A chat with some of its many members, or with none, for a list.

    A tuple, because a list creates up to some thousands of them.
    """

    id: ChatId
    title: str
    is_group: bool
    created_at: datetime
    active_at: datetime
    last_message_id: MessageId | None
    member_count: int
    """How many members the chat has."""
    sequence: int
    history: History
    avatar_url: str | None
    message_count: int
    member_ids: tuple[UserId, ...] = ()
    viewer: Member | None = None
    """The membership of whom it is for; None where it is for nobody in particular."""


class ChatView(NamedTuple):
    """A chat as one of its participants sees it; a tuple for the same reason as `Excerpt`."""

    chat: Chat | Excerpt
    participants: tuple[UserView, ...]
    """The chat's people, or some of many."""
    role: Role
    """The participant's own."""
    last_message: "Message | None"
    """As it is shown; None where the participant may read none, or where a list has no room for it."""
    unread_count: int = 0
    read_up_to: MessageId | None = None
    """The last message that the participant has read."""
    others_read_up_to: MessageId | None = None
    """The last message that anybody else has read; None in a large chat."""

    @property
    def id(self) -> ChatId:
        return self.chat.id


@frozen
class NewlyRead:
    """What somebody has read of a chat just now."""

    chat_id: ChatId
    message_ids: tuple[MessageId, ...]
    """Newest first."""


class MemberView(NamedTuple):
    """A member as another one sees them."""

    user: UserView
    role: Role
    joined_at: datetime


@frozen
class MemberPage:
    """Some members of a chat."""

    members: tuple[MemberView, ...]
    next_cursor: str | None = None
    """The `cursor` of the page below; None on the last page."""


@frozen
class ChatPage:
    """A page of a person's chats, latest activity first."""

    chats: tuple[ChatView, ...]
    next_cursor: str | None
    """The `cursor` of the page below; None on the last page."""


class MessageType(StrEnum):
    TEXT = "text"
    VOICE = "voice"
    IMAGE = "image"
    VIDEO = "video"
    FILE = "file"
    SYSTEM = "system"
    """Created by the server only."""


@frozen
class Message:
    """A message; a deleted one keeps its position, without content."""

    id: MessageId
    chat_id: ChatId
    author_id: UserId | None
    type: MessageType
    content: str | None
    payload: Mapping[str, Any] | None
    ts: datetime
    reply_to_id: MessageId | None
    edited_at: datetime | None
    deleted_at: datetime | None
    sequence: int
    """The number of its creation in its chat's log: who may not see that, may not see the message."""
    revision: int
    """The number of its last change; of its creation at first."""


@frozen
class Page:
    """A page of history, newest first."""

    messages: tuple[Message, ...]
    has_more: bool
    """Whether there are more messages beyond the page in the requested direction."""
    next_cursor: MessageId | None
    """The `before_id` of the next older page; None where there are no older messages."""


@frozen
class AccessClaims:
    """The claims of an access token."""

    user_id: UserId
    session_id: SessionId
    generation: int
    issued_at: datetime
    expires_at: datetime
    nonce: bytes | None
    """The session's; None where the token has no such claim."""


@frozen
class RefreshClaims:
    """The claims of a refresh token."""

    user_id: UserId
    session_id: SessionId
    generation: int
    issued_at: datetime
    expires_at: datetime
    nonce: bytes | None
    """The session's; None where the token has no such claim."""


@frozen
class IdempotencyKey:
    """Names one intended request; `user_id` is None where the caller has no account yet."""

    user_id: UserId | None
    method: str
    path: str
    key: str


class ResourceKind(StrEnum):
    MESSAGE = "message"
    CHAT = "chat"
    USER = "user"
    MEMBER = "member"
    """A member, or the first of several, of the chat that the request's path names."""


@frozen
class Resource:
    """The identifier of what a stored response shows; a replay shows its state at that time."""

    kind: ResourceKind
    id: int


@frozen
class StoredResponse:
    """The response to the first request with a key, for replays: its status and its resource."""

    key: IdempotencyKey
    fingerprint: bytes
    """16 bytes that distinguish commands; never derived from a password."""
    status: int
    resource: Resource | None
    """None for a response without a body."""
    created_at: datetime

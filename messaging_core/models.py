"""What the domain is made of: frozen values, each as it is shown on the wire where it is shown at all.

Times are UTC and whole seconds. What is shown has no slots: Python sorts them by name, and JSON comes in the
order in which an object holds its fields.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from attrs import frozen

from messaging_core.ids import ChatId, MessageId, SessionId, UserId


@frozen(slots=False)
class User:
    """A person with an account."""

    id: UserId
    email: str
    display_name: str
    tag: str
    avatar_url: str | None
    created_at: datetime


@frozen(slots=False)
class UserView:
    """A user as one viewer sees them (`messaging_core.privacy`); what is hidden is None."""

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
    """With the domain as name servers know it; the part before the `@` is the same."""


@frozen
class Session:
    """One login on one device, and how far its refresh tokens have moved on."""

    id: SessionId
    user_id: UserId
    device: str
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    generation: int
    """Counts refreshes from 1; the tokens of this generation are the current ones."""
    confirmed: bool
    """Whether a token of the current generation has been seen in use."""
    ended_at: datetime | None
    nonce: bytes | None
    """16 random bytes that its tokens carry; None for a session from before there were nonces.

    After a restored backup an identifier is given again: the nonce tells the two sessions apart.
    """


@frozen
class Actor:
    """Who asks: a person, through one of their sessions."""

    user_id: UserId
    session_id: SessionId


class Role(StrEnum):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


@frozen
class Member:
    user_id: UserId
    role: Role
    joined_at: datetime


@frozen
class Chat:
    """A direct chat of two people, or a group, with its place in the order of events."""

    id: ChatId
    title: str
    is_group: bool
    created_at: datetime
    members: tuple[Member, ...]
    sequence: int
    """The number of the chat's last event; the next event takes the next number."""
    active_at: datetime
    """When its last message was sent, or it was made."""
    last_message_id: MessageId | None

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


class Excerpt(NamedTuple):
    """A chat with some of its many members, or with none: as much of it as a list needs.

    A list makes up to some thousands of them, so it is a tuple.
    """

    id: ChatId
    title: str
    is_group: bool
    created_at: datetime
    active_at: datetime
    last_message_id: MessageId | None
    member_count: int
    """How many members the chat has."""
    member_ids: tuple[UserId, ...] = ()


@frozen(slots=False)
class ChatView:
    """A chat as one of its participants sees it; where it has many, `participants` holds some of them."""

    id: ChatId
    title: str
    is_group: bool
    created_at: datetime
    participants: tuple[UserView, ...]
    participants_count: int
    """How many take part in all."""


@frozen(slots=False)
class ChatPage:
    """A page of a person's chats, latest activity first."""

    chats: tuple[ChatView, ...]
    next_cursor: str | None
    """The `cursor` of the page below; None where nothing is below."""


class MessageType(StrEnum):
    TEXT = "text"
    VOICE = "voice"
    IMAGE = "image"
    VIDEO = "video"
    FILE = "file"
    SYSTEM = "system"
    """Made by the server only."""


@frozen(slots=False)
class Message:
    """A message; one that was deleted keeps its place, without content."""

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


@frozen(slots=False)
class Page:
    """A page of history, newest first."""

    messages: tuple[Message, ...]
    has_more: bool
    """Whether more messages lie beyond the page in the direction that was asked for."""
    next_cursor: MessageId | None
    """The `before_id` of the next older page; None where nothing is older."""


@frozen
class AccessClaims:
    """What an access token says."""

    user_id: UserId
    session_id: SessionId
    generation: int
    issued_at: datetime
    expires_at: datetime
    nonce: bytes | None
    """The session's; None where the token has no such claim."""


@frozen
class RefreshClaims:
    """What a refresh token says."""

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


@frozen
class Resource:
    """What a stored response shows, by its identifier: a replay shows it as it is then."""

    kind: ResourceKind
    id: int


@frozen
class StoredResponse:
    """The response to the first request with a key, for replays: its status, and what its body shows."""

    key: IdempotencyKey
    fingerprint: bytes
    """16 bytes that distinguish commands; never made from a password."""
    status: int
    resource: Resource | None
    """None for a response without a body."""
    created_at: datetime

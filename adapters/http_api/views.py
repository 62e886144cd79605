"""The wire's shapes: which fields of the domain's models a response shows, and in which order.

A field of a model reaches the wire only if a view names it. In the API's description a view has its class's
name without the end `Json`.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from adapters.runtime.messaging import SignedIn, TokenPair
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import (
    ChatView,
    History,
    MemberPage,
    MemberView,
    Message,
    MessageType,
    NewlyRead,
    Page,
    Presence,
    PresenceStatus,
    Role,
    UserView,
)

SUFFIX = "Json"


class View(Struct, frozen=True, gc=False):
    """A shape; JSON has its fields in the order of their declaration."""


class UserViewJson(View, frozen=True, gc=False):
    """A person as one viewer sees them; `email` is null where it is hidden."""

    id: UserId
    email: str | None
    display_name: str
    tag: str
    avatar_url: str | None
    created_at: datetime


class PresenceJson(View, frozen=True, gc=False):
    """Whether a person is there; `last_seen` is now if they are, and null if they never were."""

    user_id: UserId
    status: PresenceStatus
    last_seen: datetime | None


class MessageJson(View, frozen=True, gc=False):
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
    revision: int


class ChatViewJson(View, frozen=True, gc=False):
    """A chat as one of its participants sees it.

    `participants` holds only some of many, `participants_count` is the number of all. `updated_at` is when it
    was last active, `sequence` the number of its last event, `history` what people who join it read.
    `unread_count` includes deleted messages. `read_up_to` is the last message that the reader has read or
    sent, `others_read_up_to` the last one that anybody else has, null in a chat of more than 100 people.
    `last_message` is null where the reader may read none, and in a list beyond a million characters of them.
    """

    id: ChatId
    title: str
    is_group: bool
    created_at: datetime
    participants: list[UserViewJson]
    participants_count: int
    my_role: Role
    last_message: MessageJson | None
    unread_count: int
    read_up_to: MessageId | None
    others_read_up_to: MessageId | None
    sequence: int
    updated_at: datetime
    history: History
    avatar_url: str | None


class NewlyReadJson(View, frozen=True, gc=False):
    """The messages that were read just now, newest first, at most 1,000; none in the response to a replay."""

    message_ids: list[MessageId]


class ReadJson(View, frozen=True, gc=False):
    """How far a member has read a chat; `read_up_to` is null where they have read nothing."""

    user_id: UserId
    read_up_to: MessageId | None


class MemberViewJson(View, frozen=True, gc=False):
    user: UserViewJson
    role: Role
    joined_at: datetime


class MemberPageJson(View, frozen=True, gc=False):
    members: list[MemberViewJson]
    next_cursor: str | None


class AddedMembersJson(View, frozen=True, gc=False):
    members: list[MemberViewJson]


class ChatPageJson(View, frozen=True, gc=False):
    chats: list[ChatViewJson]
    next_cursor: str | None


class PageJson(View, frozen=True, gc=False):
    messages: list[MessageJson]
    has_more: bool
    next_cursor: MessageId | None


class TokenPairJson(View, frozen=True, gc=False):
    access_token: str
    refresh_token: str
    token_type: Literal["bearer"]
    expires_in: int


class SignedInJson(View, frozen=True, gc=False):
    """The tokens twice, at the root and under `tokens`: clients exist for both readings of the checklist."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"]
    expires_in: int
    user: UserViewJson
    tokens: TokenPairJson


# --- from models to shapes: the calls are spelled out, because a list has hundreds of them ------------------


def users_json(found: Iterable[UserView]) -> list[UserViewJson]:
    return [
        UserViewJson(each.id, each.email, each.display_name, each.tag, each.avatar_url, each.created_at)
        for each in found
    ]


def user_json(found: UserView) -> UserViewJson:
    return users_json((found,))[0]


def chats_json(found: Iterable[ChatView]) -> list[ChatViewJson]:
    return [
        ChatViewJson(
            chat.id,
            chat.title,
            chat.is_group,
            chat.created_at,
            users_json(participants),
            chat.member_count,
            role,
            None if last_message is None else message_json(last_message),
            unread_count,
            read_up_to,
            others_read_up_to,
            chat.sequence,
            chat.active_at,
            chat.history,
            chat.avatar_url,
        )
        for chat, participants, role, last_message, unread_count, read_up_to, others_read_up_to in found
    ]


def chat_json(found: ChatView) -> ChatViewJson:
    return chats_json((found,))[0]


def newly_read_json(found: NewlyRead | None) -> NewlyReadJson:
    return NewlyReadJson([] if found is None else list(found.message_ids))


def reads_json(found: Mapping[UserId, MessageId | None]) -> list[ReadJson]:
    return [ReadJson(user_id, read_up_to) for user_id, read_up_to in found.items()]


def members_json(found: Iterable[MemberView]) -> list[MemberViewJson]:
    return [MemberViewJson(user_json(each.user), each.role, each.joined_at) for each in found]


def member_json(found: MemberView) -> MemberViewJson:
    return members_json((found,))[0]


def member_page_json(found: MemberPage) -> MemberPageJson:
    return MemberPageJson(members_json(found.members), found.next_cursor)


def added_members_json(found: MemberPage) -> AddedMembersJson:
    return AddedMembersJson(members_json(found.members))


def messages_json(found: Iterable[Message]) -> list[MessageJson]:
    return [
        MessageJson(
            each.id,
            each.chat_id,
            each.author_id,
            each.type,
            each.content,
            each.payload,
            each.ts,
            each.reply_to_id,
            each.edited_at,
            each.deleted_at,
            each.revision,
        )
        for each in found
    ]


def message_json(found: Message) -> MessageJson:
    return messages_json((found,))[0]


def page_json(found: Page) -> PageJson:
    return PageJson(messages_json(found.messages), found.has_more, found.next_cursor)


def presence_json(presence: Presence) -> PresenceJson:
    return PresenceJson(presence.user_id, presence.status, presence.last_seen)


def token_pair_json(found: TokenPair) -> TokenPairJson:
    return TokenPairJson(found.access_token, found.refresh_token, "bearer", found.expires_in)


def signed_in_json(found: SignedIn) -> SignedInJson:
    pair = token_pair_json(found.tokens)
    user = user_json(found.user)
    return SignedInJson(pair.access_token, pair.refresh_token, pair.token_type, pair.expires_in, user, pair)

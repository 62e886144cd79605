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
from messaging_core.models import ChatView, Message, MessageType, Page, UserView

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


class ChatViewJson(View, frozen=True, gc=False):
    """A chat; `participants` holds only some of many, `participants_count` is the number of all."""

    id: ChatId
    title: str
    is_group: bool
    created_at: datetime
    participants: list[UserViewJson]
    participants_count: int


class ChatPageJson(View, frozen=True, gc=False):
    chats: list[ChatViewJson]
    next_cursor: str | None


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
            chat.id, chat.title, chat.is_group, chat.created_at, users_json(participants), chat.member_count
        )
        for chat, participants in found
    ]


def chat_json(found: ChatView) -> ChatViewJson:
    return chats_json((found,))[0]


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
        )
        for each in found
    ]


def message_json(found: Message) -> MessageJson:
    return messages_json((found,))[0]


def page_json(found: Page) -> PageJson:
    return PageJson(messages_json(found.messages), found.has_more, found.next_cursor)


def token_pair_json(found: TokenPair) -> TokenPairJson:
    return TokenPairJson(found.access_token, found.refresh_token, "bearer", found.expires_in)


def signed_in_json(found: SignedIn) -> SignedInJson:
    pair = token_pair_json(found.tokens)
    user = user_json(found.user)
    return SignedInJson(pair.access_token, pair.refresh_token, pair.token_type, pair.expires_in, user, pair)

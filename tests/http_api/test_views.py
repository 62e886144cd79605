"""The wire shows what views name: models of the domain may gain fields, and the JSON stays."""

import json
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from hypothesis import given

from adapters.http_api.views import (
    chat_json,
    message_json,
    messages_json,
    page_json,
    signed_in_json,
    user_json,
)
from adapters.http_api.wire import encode
from adapters.runtime import SignedIn, TokenPair
from messaging_core.chats import open_direct_chat
from messaging_core.commands import OpenDirectChat
from messaging_core.ids import ChatId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Chat, ChatView, Message, Page, Role, User, UserView
from messaging_core.testing import strategies as values

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
TOKENS = TokenPair("access", "refresh", 900)


def with_secret(model: Any) -> Any:
    """The same value of a class that has one more field, which comes first in alphabetical order."""
    extended = attrs.make_class(
        "Extended", {"a_secret": attrs.field(default="hidden")}, bases=(type(model),), frozen=True, slots=True
    )
    return extended(**{each.name: getattr(model, each.name) for each in attrs.fields(type(model))})


def view_of(user: User) -> UserView:
    return UserView(**attrs.asdict(user))


def direct_chat(user: User, other: User) -> Chat:
    """The chat that `user` opens with `other`."""
    decision = open_direct_chat(
        OpenDirectChat(other.id),
        actor=user.id,
        other=other,
        existing=None,
        created_before=0,
        chat_id=ChatId(5),
        now=user.created_at,
        limits=Limits(),
    )
    return decision.result


@given(values.messages())
def test_a_new_field_of_a_message_is_not_sent(message: Message) -> None:
    """Neither alone, nor in a page, nor in an array."""
    longer = with_secret(message)
    assert encode(message_json(longer)) == encode(message_json(message))
    assert encode(messages_json((longer,))) == encode(messages_json((message,)))
    page, longer_page = Page((message,), True, None), with_secret(Page((longer,), True, None))
    assert encode(page_json(longer_page)) == encode(page_json(page))


@given(values.users)
def test_a_new_field_of_a_user_is_not_sent(user: User) -> None:
    """Neither of a stored user, nor of a view, nor of the participants of a chat."""
    for shown in (user, view_of(user)):
        assert encode(user_json(with_secret(shown))) == encode(user_json(view_of(user)))
    signed_in = SignedIn(view_of(user), TOKENS)
    assert encode(signed_in_json(with_secret(signed_in))) == encode(signed_in_json(signed_in))


@given(values.users, values.users, values.messages())
def test_a_new_field_of_a_chat_is_not_sent(user: User, other: User, message: Message) -> None:
    """Neither of the chat, nor of its participants, nor of its last message."""
    if user.id == other.id:
        return
    chat = direct_chat(user, other)
    participants = tuple(map(view_of, (user, other)))
    longer = ChatView(
        with_secret(chat), tuple(map(with_secret, participants)), Role.MEMBER, with_secret(message)
    )
    assert encode(chat_json(longer)) == encode(chat_json(ChatView(chat, participants, Role.MEMBER, message)))


def test_the_keys_are_the_contracts() -> None:
    """Each object has its keys in the order of the contract, and no others."""
    user = UserView(UserId(1), None, "Alice", "alice", None, NOW)
    signed_in = json.loads(encode(signed_in_json(SignedIn(user, TOKENS))))
    pair = {"access_token": "access", "refresh_token": "refresh", "token_type": "bearer", "expires_in": 900}
    assert list(signed_in) == [*pair, "user", "tokens"]
    assert {**pair, "user": signed_in["user"], "tokens": pair} == signed_in
    assert list(signed_in["user"]) == ["id", "email", "display_name", "tag", "avatar_url", "created_at"]
    assert signed_in["user"]["email"] is None


@pytest.mark.parametrize("model", [User, UserView, Message, Page, Chat, SignedIn, TokenPair])
def test_models_have_slots(model: type) -> None:
    """No model has a dictionary of its own, by which an encoder could send every field."""
    assert "__slots__" in vars(model)

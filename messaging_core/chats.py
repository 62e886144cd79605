"""Chats: direct ones, of which two people have exactly one, and groups."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime

from attrs import evolve

from messaging_core.commands import CreateGroup, OpenDirectChat
from messaging_core.constraints import check
from messaging_core.effects import Decision
from messaging_core.errors import (
    ChatNotFound,
    DirectChatWithSelf,
    FieldError,
    Invalid,
    NotAParticipant,
    UserNotFound,
)
from messaging_core.events import ChatCreated
from messaging_core.fanout import announce
from messaging_core.ids import ChatId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Chat, ChatView, Member, Role, User, UserView

DIRECT_CHAT_TITLE = "Direct Message"


def open_direct_chat(
    command: OpenDirectChat,
    *,
    actor: UserId,
    other: User | None,
    existing: Chat | None,
    chat_id: ChatId,
    now: datetime,
) -> Decision[Chat]:
    """The one chat of these two people: `existing`, or a new one under `chat_id`.

    `existing` must have been looked up in the transaction that applies the effects. Raises
    `DirectChatWithSelf` and `UserNotFound`.
    """
    if command.user_id == actor:
        raise DirectChatWithSelf
    if other is None:
        raise UserNotFound
    if existing is not None:
        return Decision(existing)
    members = tuple(Member(user_id, Role.MEMBER, now) for user_id in (actor, other.id))
    return _created(Chat(chat_id, DIRECT_CHAT_TITLE, False, now, members, 0, now, None))


def create_group(
    command: CreateGroup,
    *,
    actor: UserId,
    known: Collection[UserId],
    chat_id: ChatId,
    now: datetime,
    limits: Limits,
) -> Decision[Chat]:
    """A group whose owner is the actor; people named twice, and the actor, are counted once.

    `known` holds those of `command.member_ids` who exist. Raises `Invalid`, naming each of the others.
    """
    command = check(command, limits)
    unknown = tuple(
        FieldError(f"member_ids.{position}", UserNotFound.code, f"there is no user {user_id}")
        for position, user_id in enumerate(command.member_ids)
        if user_id not in known
    )
    if unknown:
        raise Invalid(*unknown)
    others = dict.fromkeys(user_id for user_id in command.member_ids if user_id != actor)
    members = (
        Member(actor, Role.OWNER, now),
        *(Member(user_id, Role.MEMBER, now) for user_id in others),
    )
    if len(members) > limits.group_members:
        too_many = f"makes a group of {len(members)}, at most {limits.group_members} are allowed"
        raise Invalid(FieldError("member_ids", "too_long", too_many))
    return _created(Chat(chat_id, command.title, True, now, members, 0, now, None))


def readable(chat: Chat | None, reader: UserId) -> Chat:
    """The chat, for somebody who takes part in it; raises `ChatNotFound`, then `NotAParticipant`."""
    if chat is None:
        raise ChatNotFound
    if chat.member(reader) is None:
        raise NotAParticipant
    return chat


def view(chat: Chat, people: Mapping[UserId, UserView]) -> ChatView:
    """The chat as it is shown, its participants in the order in which they joined."""
    return ChatView(
        chat.id,
        chat.title,
        chat.is_group,
        chat.created_at,
        tuple(people[m] for m in chat.member_ids),
    )


def latest_first(chats: Iterable[Chat]) -> list[Chat]:
    """Chats by their last activity, the latest first."""
    return sorted(
        chats,
        key=lambda chat: (chat.active_at, chat.last_message_id or 0, chat.id),
        reverse=True,
    )


def _created(chat: Chat) -> Decision[Chat]:
    """The chat as it is after the first event of its log, which is that it was created."""
    created = evolve(chat, sequence=chat.sequence + 1)
    return Decision(created, announce(chat, ChatCreated(created), now=chat.created_at))

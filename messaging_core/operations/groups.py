"""Groups, their members, and what changes them."""

from collections.abc import Collection, Mapping
from typing import Any

from messaging_core import chats, groups, members
from messaging_core.commands import (
    AddMembers,
    ChangeRole,
    DeleteGroup,
    ListMembers,
    RemoveMember,
    UpdateGroup,
)
from messaging_core.effects import Decision, Deliver
from messaging_core.errors import MemberNotFound
from messaging_core.events import MessageCreated
from messaging_core.ids import UserId
from messaging_core.models import Chat, ChatView, Member, MemberPage, MemberView, Message, User
from messaging_core.operations.base import Context, Operation, Query
from messaging_core.operations.chats import seen, view
from messaging_core.ports import Reader, Transaction


def update_group(command: UpdateGroup, context: Context) -> Operation[ChatView]:
    """Raises `Invalid`, for an avatar from a host that is not allowed, too."""

    def operation(tx: Transaction) -> Decision[ChatView]:
        if isinstance(command.avatar_url, str):
            context.privacy.avatar_hosts.check(command.avatar_url)
        chat = tx.lock_chat(command.chat_id)
        decision = groups.update_group(
            chat,
            command,
            actor=context.actor.user_id,
            people=_people(tx, chat, command, context),
            message_id=tx.next_message_id(),
            now=context.now,
            limits=context.limits,
        )
        shown = view(tx, decision.result, context, created=_created(decision))
        return Decision(shown, decision.effects)

    return operation


def delete_group(command: DeleteGroup, context: Context) -> Operation[None]:
    def operation(tx: Transaction) -> Decision[None]:
        actor = context.actor.user_id
        chat = groups.may_delete(tx.lock_chat(command.chat_id), actor)
        return Decision(None, members.delete_chat(chat, deleted_by=actor, now=context.now).effects)

    return operation


def list_members(command: ListMembers, context: Context) -> Query[MemberPage]:
    """A page of a chat's members, direct or group; raises `Invalid`."""
    after = groups.check_members_page(command, context.limits)

    def query(reader: Reader) -> MemberPage:
        chat = chats.readable(reader.chat(command.chat_id), context.actor.user_id)
        page, next_cursor = groups.members_page(chat, command, after, context.limits)
        users = reader.users({member.user_id for member in page})
        return MemberPage(_views(page, users, context), next_cursor)

    return query


def add_members(command: AddMembers, context: Context) -> Operation[MemberPage]:
    """The members added."""

    def operation(tx: Transaction) -> Decision[MemberPage]:
        user_ids = groups.named_in(command, context.limits)
        chat = tx.lock_chat(command.chat_id)
        people = _people(tx, chat, command, context)
        decision = groups.add_members(
            chat,
            command,
            actor=context.actor.user_id,
            people=people,
            message_id=tx.next_message_id(),
            now=context.now,
            limits=context.limits,
        )
        added = decision.result.members[-len(user_ids) :]
        return Decision(MemberPage(_views(added, people, context)), decision.effects)

    return operation


def members_added(command: AddMembers, context: Context) -> Query[MemberPage]:
    """Those of the people whom the command has added who are members now: what a replay shows."""

    def query(reader: Reader) -> MemberPage:
        chat = chats.readable(reader.chat(command.chat_id), context.actor.user_id)
        named = frozenset(groups.named_in(command, context.limits))
        found = [member for member in chat.members if member.user_id in named]
        return MemberPage(_views(found, reader.users(named), context))

    return query


def change_role(command: ChangeRole, context: Context) -> Operation[MemberView]:
    def operation(tx: Transaction) -> Decision[MemberView]:
        chat = tx.lock_chat(command.chat_id)
        people = _people(tx, chat, command, context)
        decision = groups.change_role(
            chat,
            command,
            actor=context.actor.user_id,
            people=people,
            message_id=tx.next_message_id(),
            now=context.now,
        )
        return Decision(_one(decision.result, command.user_id, people, context), decision.effects)

    return operation


def member_changed(command: ChangeRole, context: Context) -> Query[MemberView]:
    """The member as they are now: what a replay shows."""

    def query(reader: Reader) -> MemberView:
        chat = chats.readable(reader.chat(command.chat_id), context.actor.user_id)
        return _one(chat, command.user_id, reader.users((command.user_id,)), context)

    return query


def remove_member(command: RemoveMember, context: Context) -> Operation[None]:
    def operation(tx: Transaction) -> Decision[None]:
        chat = tx.lock_chat(command.chat_id)
        return groups.remove_member(
            chat,
            command,
            actor=context.actor.user_id,
            people=_people(tx, chat, command, context),
            message_ids=[tx.next_message_id() for _ in range(groups.SYSTEM_MESSAGES)],
            now=context.now,
        )

    return operation


def _people(
    tx: Transaction,
    chat: Chat | None,
    command: UpdateGroup | AddMembers | ChangeRole | RemoveMember,
    context: Context,
) -> Mapping[UserId, User]:
    return tx.users(groups.concerned(chat, command, context.actor.user_id))


def _created(decision: Decision[Any]) -> Message | None:
    """The last message that a decision has created, as it is shown."""
    created = None
    for effect in decision.effects:
        if isinstance(effect, Deliver) and isinstance(effect.event, MessageCreated):
            created = effect.event.message
    return created


def _one(chat: Chat, user_id: UserId, users: Mapping[UserId, User], context: Context) -> MemberView:
    member = chat.member(user_id)
    if member is None:
        raise MemberNotFound
    return _views((member,), users, context)[0]


def _views(
    found: Collection[Member], users: Mapping[UserId, User], context: Context
) -> tuple[MemberView, ...]:
    people = seen(context, users)
    return tuple([MemberView(people[each.user_id], each.role, each.joined_at) for each in found])

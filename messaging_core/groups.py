"""Groups: who may change one, its members and their roles, and what the server writes into it about that.

The caller passes the chat as read under its lock, or None where there is no such chat; `people`, the users
with the ids of `concerned`, those who exist; and ids for system messages. What an event does to a chat is
decided in `members`, and who may cause it in `rights`.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from heapq import nsmallest
from typing import Any, TypeVar, assert_never

from attrs import evolve

from messaging_core import members, rights, system_messages
from messaging_core.chats import reading
from messaging_core.commands import AddMembers, ChangeRole, ListMembers, RemoveMember, UpdateGroup
from messaging_core.constraints import UNSET, check
from messaging_core.cursors import decode_cursor, encode_cursor
from messaging_core.effects import Decision, DeliveryEffect
from messaging_core.errors import (
    AlreadyAMember,
    FieldError,
    Invalid,
    LastOwner,
    MemberNotFound,
    NotAGroup,
    UserNotFound,
)
from messaging_core.events import ChatUpdated
from messaging_core.fanout import announce
from messaging_core.ids import MessageId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Chat, History, Member, Role, User
from messaging_core.rights import Right

T = TypeVar("T")

People = Mapping[UserId, User]

SYSTEM_MESSAGES = 2
"""The most system messages that one decision writes."""


def update_group(
    chat: Chat | None,
    command: UpdateGroup,
    *,
    actor: UserId,
    people: People,
    message_id: MessageId,
    now: datetime,
    limits: Limits,
) -> Decision[Chat]:
    """The group with the fields that the command sets, at least one; without effects if none has changed.

    Raises `Invalid`, `ChatNotFound`, `NotAParticipant`, `NotAGroup`, `InsufficientRole`.
    """
    command = check(command, limits)
    if command.title is UNSET and command.avatar_url is UNSET and command.history is UNSET:
        raise Invalid(FieldError("title", "required", "give title, avatar_url or history"))
    chat, member = _group(chat, actor)
    if command.title is not UNSET or command.avatar_url is not UNSET:
        rights.require(member.role, Right.EDIT)
    if command.history is not UNSET:
        rights.require(member.role, Right.CHANGE_HISTORY)
    title = chat.title if command.title is UNSET else command.title
    avatar_url = chat.avatar_url if command.avatar_url is UNSET else command.avatar_url
    history = chat.history if command.history is UNSET else command.history
    changed = evolve(chat, title=title, avatar_url=avatar_url, history=history)
    if changed == chat:
        return Decision(chat)
    event = ChatUpdated(chat.id, title, avatar_url, history)
    decision = Decision(evolve(changed, sequence=chat.sequence + 1), announce(chat, event, now=now))
    if title == chat.title:
        return decision
    facts = system_messages.chat_renamed(actor, title)
    return _then(
        decision,
        system_messages.write(decision.result, facts, people=people, message_id=message_id, now=now),
    )


def may_delete(chat: Chat | None, actor: UserId) -> Chat:
    """The group, for one who may delete it.

    Raises `ChatNotFound`, `NotAParticipant`, `NotAGroup`, `InsufficientRole`.
    """
    chat, member = _group(chat, actor)
    rights.require(member.role, Right.DELETE_GROUP)
    return chat


def named_in(command: AddMembers, limits: Limits) -> tuple[UserId, ...]:
    """The people whom the command adds, each once; raises `Invalid`."""
    check(command, limits)
    if command.user_id is None and command.user_ids is None:
        raise Invalid(FieldError("user_id", "required", "give user_id or user_ids"))
    if command.user_id is not None and command.user_ids is not None:
        raise Invalid(FieldError("user_ids", "conflict", "give user_id or user_ids, not both"))
    user_ids = tuple(dict.fromkeys(command.user_ids or ())) if command.user_id is None else (command.user_id,)
    if not user_ids:
        raise Invalid(FieldError("user_ids", "too_short", "is empty"))
    return user_ids


def add_members(
    chat: Chat | None,
    command: AddMembers,
    *,
    actor: UserId,
    people: People,
    message_id: MessageId,
    now: datetime,
    limits: Limits,
) -> Decision[Chat]:
    """The group with all the people of the command, who join together; they are its last members.

    Raises `Invalid`, naming each person who does not exist, `ChatNotFound`, `NotAParticipant`, `NotAGroup`,
    `InsufficientRole`, `AlreadyAMember`.
    """
    user_ids = named_in(command, limits)
    chat, member = _group(chat, actor)
    rights.require(member.role, Right.ADD)
    fields = {user_id: _field(command, user_id) for user_id in user_ids}
    unknown = [
        FieldError(field, UserNotFound.code, f"there is no user {user_id}")
        for user_id, field in fields.items()
        if user_id not in people
    ]
    if unknown:
        raise Invalid(*unknown)
    known = [
        FieldError(field, AlreadyAMember.code, f"user {user_id} is a member already")
        for user_id, field in fields.items()
        if chat.member(user_id) is not None
    ]
    if known:
        raise AlreadyAMember(errors=tuple(known))
    decision = members.add_members(chat, user_ids, reads_all=chat.history is History.ALL, now=now)
    if decision.result.member_count > limits.group_members:
        count = decision.result.member_count
        too_many = f"makes a group of {count}, at most {limits.group_members} are allowed"
        raise Invalid(FieldError("user_ids" if command.user_id is None else "user_id", "too_long", too_many))
    facts = system_messages.members_added(actor, user_ids)
    return _then(
        decision,
        system_messages.write(decision.result, facts, people=people, message_id=message_id, now=now),
    )


def change_role(
    chat: Chat | None,
    command: ChangeRole,
    *,
    actor: UserId,
    people: People,
    message_id: MessageId,
    now: datetime,
) -> Decision[Chat]:
    """The group with a member in another role; without effects if they have it already.

    Raises `ChatNotFound`, `NotAParticipant`, `NotAGroup`, `MemberNotFound`, `InsufficientRole`, `LastOwner`.
    """
    chat, member = _group(chat, actor)
    other = chat.member(command.user_id)
    if other is None:
        raise MemberNotFound
    if other.role is command.role:
        return Decision(chat)
    if other is member and _is_lower(command.role, member.role):
        rights.require(member.role, Right.STEP_DOWN)
        if member.role is Role.OWNER and _owners(chat) == 1:
            raise LastOwner
    else:
        rights.require(member.role, rights.ROLE_CHANGES[other.role, command.role])
    decision = members.give_role(chat, other.user_id, command.role, now=now)
    if command.role is not Role.OWNER:
        return decision
    facts = system_messages.owner_changed(actor, other.user_id)
    return _then(
        decision,
        system_messages.write(decision.result, facts, people=people, message_id=message_id, now=now),
    )


def remove_member(
    chat: Chat | None,
    command: RemoveMember,
    *,
    actor: UserId,
    people: People,
    message_ids: Sequence[MessageId],
    now: datetime,
) -> Decision[None]:
    """The removal of a member, or one's own leaving.

    The last owner's leaving makes the longest-standing admin, else member, an owner before. The last member's
    leaving deletes the group. Raises `ChatNotFound`, `NotAParticipant`, `NotAGroup`, `MemberNotFound`,
    `InsufficientRole`.
    """
    chat, member = _group(chat, actor)
    other = chat.member(command.user_id)
    if other is None:
        raise MemberNotFound
    if other is not member:
        rights.require(member.role, rights.REMOVAL[other.role])
        removal = members.remove_member(chat, other.user_id, now=now)
        facts = system_messages.member_removed(actor, other.user_id)
        written = system_messages.write(
            removal.result, facts, people=people, message_id=message_ids[0], now=now
        )
        return _then(Decision(None, removal.effects), Decision(None, written.effects))
    rights.require(member.role, Right.LEAVE)
    if chat.member_count == 1:
        return Decision(None, members.delete_chat(chat, deleted_by=actor, now=now).effects)
    heir = heir_of(chat, member)
    decision = Decision(chat) if heir is None else members.give_role(chat, heir, Role.OWNER, now=now)
    decision = _then(decision, members.remove_member(decision.result, actor, now=now))
    happened = [system_messages.member_left(actor)]
    if heir is not None:
        happened.append(system_messages.owner_changed(None, heir))
    for facts, message_id in zip(happened, message_ids, strict=False):
        written = system_messages.write(decision.result, facts, people=people, message_id=message_id, now=now)
        decision = _then(decision, written)
    return Decision(None, decision.effects)


# --- pages of members ---------------------------------------------------------------------------------------


def check_members_page(command: ListMembers, limits: Limits) -> tuple[int, int]:
    """The position of the last member of the page above; raises `Invalid` for a bad limit or cursor."""
    check(command, limits)
    if command.cursor is None:
        return (0, 0)
    first, user_id = decode_cursor(command.cursor, 2)
    return (first, user_id)


def members_page(
    chat: Chat, command: ListMembers, after: tuple[int, int], limits: Limits
) -> tuple[Sequence[Member], str | None]:
    """The members behind a position, and the cursor of the next page, None on the last.

    They are in the order in which they joined, those who joined together in the order of their ids. `after`
    comes from `check_members_page`. Who joins while a client pages is on a later page.
    """
    size = command.limit or limits.members_page
    behind = [member for member in chat.members if _position(member) > after]
    found = nsmallest(size + 1, behind, key=_position)
    page = found[:size]
    return page, encode_cursor(_position(page[-1])) if len(found) > size else None


def _position(member: Member) -> tuple[int, int]:
    return (member.range.first, member.user_id)


# --- who is concerned ---------------------------------------------------------------------------------------


def heir_of(chat: Chat, leaving: Member) -> UserId | None:
    """Who becomes an owner if this member leaves; None where an owner stays, or nobody does."""
    if leaving.role is not Role.OWNER or _owners(chat) > 1:
        return None
    others = [each for each in chat.members if each is not leaving]
    admins = [each for each in others if each.role is Role.ADMIN]
    return next((each.user_id for each in admins or others), None)


def concerned(
    chat: Chat | None, command: UpdateGroup | AddMembers | ChangeRole | RemoveMember, actor: UserId
) -> set[UserId]:
    """The people whom the decision needs in `people`: those whom the command and its system messages name."""
    found = {actor}
    match command:
        case AddMembers(_, user_id, user_ids):
            found.update(user_ids or ())
            if user_id is not None:
                found.add(user_id)
        case ChangeRole(_, user_id):
            found.add(user_id)
        case RemoveMember(_, user_id):
            found.add(user_id)
            leaving = None if chat is None or user_id != actor else chat.member(actor)
            heir = None if chat is None or leaving is None else heir_of(chat, leaving)
            if heir is not None:
                found.add(heir)
        case UpdateGroup():
            pass
        case _:
            assert_never(command)
    return found


def _group(chat: Chat | None, actor: UserId) -> tuple[Chat, Member]:
    chat, member = reading(chat, actor)
    if not chat.is_group:
        raise NotAGroup
    return chat, member


def _field(command: AddMembers, user_id: UserId) -> str:
    """The field that names a person first."""
    return "user_id" if command.user_ids is None else f"user_ids.{command.user_ids.index(user_id)}"


def _owners(chat: Chat) -> int:
    return sum(member.role is Role.OWNER for member in chat.members)


def _is_lower(role: Role, than: Role) -> bool:
    order = list(Role)
    return order.index(role) > order.index(than)


def _then(first: Decision[Any], second: Decision[T]) -> Decision[T]:
    """Both decisions as one, with the result of the second."""
    effects = [*first.effects, *second.effects]
    effects.sort(key=lambda effect: isinstance(effect, DeliveryEffect))  # stable: deliveries come last
    return Decision(second.result, tuple(effects))

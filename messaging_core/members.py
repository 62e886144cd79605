"""Members: who joins a chat, leaves it or has another role, and how a chat ends.

The caller passes the chat as read under its lock, or None where there is no such chat. Who may do this is
decided in `groups`.
"""

from collections.abc import Sequence
from datetime import datetime

from attrs import evolve

from messaging_core.effects import Decision
from messaging_core.errors import AlreadyAMember, ChatNotFound, MemberNotFound, NotAGroup
from messaging_core.events import ChatDeleted, MemberRemoved, MemberUpdated
from messaging_core.fanout import announce, announce_added
from messaging_core.ids import UserId
from messaging_core.models import Chat, Member, Role, Tombstone
from messaging_core.positions import ended, joining


def add_members(
    chat: Chat | None, user_ids: Sequence[UserId], *, reads_all: bool, now: datetime
) -> Decision[Chat]:
    """The chat with more members, who read it from here on or, with `reads_all`, from its beginning.

    They are different people, and each receives the events of all. A former member begins another range.
    Raises `ChatNotFound`, `AlreadyAMember`.
    """
    chat = _found(chat)
    if not frozenset(chat.member_ids).isdisjoint(user_ids):
        raise AlreadyAMember
    range_ = joining(chat.sequence + 1, reads_all=reads_all)
    added = tuple([Member(user_id, Role.MEMBER, now, range_) for user_id in user_ids])
    changed = evolve(chat, members=(*chat.members, *added), sequence=chat.sequence + len(added))
    return Decision(changed, announce_added(chat, added, now=now))


def add_member(chat: Chat | None, user_id: UserId, *, reads_all: bool, now: datetime) -> Decision[Chat]:
    """The chat with one more member: `add_members`."""
    return add_members(chat, (user_id,), reads_all=reads_all, now=now)


def give_role(chat: Chat | None, user_id: UserId, role: Role, *, now: datetime) -> Decision[Chat]:
    """The chat with a member in another role; unchanged, without an event, where they have it.

    Raises `ChatNotFound`, `MemberNotFound`.
    """
    chat, member = _member(chat, user_id)
    if member.role is role:
        return Decision(chat)
    changed = evolve(member, role=role)
    members = tuple([changed if each is member else each for each in chat.members])
    effects = announce(chat, MemberUpdated(changed, chat.member_count), now=now)
    return Decision(evolve(chat, members=members, sequence=chat.sequence + 1), effects)


def remove_member(chat: Chat | None, user_id: UserId, *, now: datetime) -> Decision[Chat]:
    """The chat without a member, whose last event is their removal.

    Raises `ChatNotFound`, `MemberNotFound`.
    """
    chat, member = _member(chat, user_id)
    last = chat.sequence + 1
    others = tuple([each for each in chat.members if each is not member])
    removed = MemberRemoved(evolve(member, range=ended(member.range, last)), len(others))
    return Decision(evolve(chat, members=others, sequence=last), announce(chat, removed, now=now))


def delete_chat(chat: Chat | None, *, deleted_by: UserId | None, now: datetime) -> Decision[Tombstone]:
    """What stays of the chat; its deletion is the last event of everybody who is a member.

    Raises `ChatNotFound`, and `NotAGroup` for a direct chat, which is one of two people.
    """
    chat = _found(chat)
    if not chat.is_group:
        raise NotAGroup("A direct chat cannot be deleted.")
    tombstone = Tombstone(chat.id, chat.sequence + 1, now, deleted_by)
    return Decision(tombstone, announce(chat, ChatDeleted(tombstone), now=now))


def _member(chat: Chat | None, user_id: UserId) -> tuple[Chat, Member]:
    chat = _found(chat)
    member = chat.member(user_id)
    if member is None:
        raise MemberNotFound
    return chat, member


def _found(chat: Chat | None) -> Chat:
    if chat is None:
        raise ChatNotFound
    return chat

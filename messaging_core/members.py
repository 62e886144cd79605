"""Members: who joins a chat, leaves it, and how a chat ends.

The caller passes the chat as read under its lock, or None where there is no such chat. Who may do this is not
decided here.
"""

from datetime import datetime

from attrs import evolve

from messaging_core.effects import Decision
from messaging_core.errors import AlreadyAMember, ChatNotFound, NotAParticipant
from messaging_core.events import ChatDeleted, MemberAdded, MemberRemoved
from messaging_core.fanout import announce
from messaging_core.ids import UserId
from messaging_core.models import Chat, Member, Role, Tombstone
from messaging_core.positions import ended, joining


def add_member(
    chat: Chat | None,
    user_id: UserId,
    *,
    reads_all: bool,
    now: datetime,
) -> Decision[Chat]:
    """The chat with one more member, who reads it from here on or, with `reads_all`, from its beginning.

    A former member begins another range. Raises `ChatNotFound`, `AlreadyAMember`.
    """
    chat = _found(chat)
    if chat.member(user_id) is not None:
        raise AlreadyAMember
    range_ = joining(chat.sequence + 1, reads_all=reads_all)
    member = Member(user_id, Role.MEMBER, now, range_)
    changed = evolve(chat, members=(*chat.members, member), sequence=chat.sequence + 1)
    return Decision(changed, announce(chat, MemberAdded(member, changed.member_count), now=now))


def remove_member(chat: Chat | None, user_id: UserId, *, now: datetime) -> Decision[Chat]:
    """The chat without a member, whose last event is their removal.

    Raises `ChatNotFound`, `NotAParticipant`.
    """
    chat = _found(chat)
    member = chat.member(user_id)
    if member is None:
        raise NotAParticipant
    last = chat.sequence + 1
    others = tuple([each for each in chat.members if each is not member])
    removed = MemberRemoved(evolve(member, range=ended(member.range, last)), len(others))
    return Decision(evolve(chat, members=others, sequence=last), announce(chat, removed, now=now))


def delete_chat(chat: Chat | None, *, deleted_by: UserId | None, now: datetime) -> Decision[Tombstone]:
    """What stays of the chat; its deletion is the last event of everybody who is a member.

    Raises `ChatNotFound`, for a direct chat too: it is one of two people, and only a group can be deleted.
    """
    chat = _found(chat)
    if not chat.is_group:
        raise ChatNotFound("A direct chat cannot be deleted.")
    tombstone = Tombstone(chat.id, chat.sequence + 1, now, deleted_by)
    return Decision(tombstone, announce(chat, ChatDeleted(tombstone), now=now))


def _found(chat: Chat | None) -> Chat:
    if chat is None:
        raise ChatNotFound
    return chat

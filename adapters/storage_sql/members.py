"""The members of chats: their columns, and how they are read, shortened, cached and changed.

Both databases use this module; beside it, only `tables`, `core_statements` and the revisions name columns.

- A new field of a membership: a column in `tables.members` and `tables.former_members` with a revision, then
  `COLUMNS`, `values_of` and `member_of` here; then run `make statements`.
- A read mark is no such field, because it changes with every message: no cache has the marks of groups. The
  people of a direct chat have theirs in the chat's row, and in `Chat.marks`.
- A new effect on memberships, in `messaging_core.effects.MembershipEffect`: `MemberWriter.apply` stores it,
  and `change_by` says what it changes of cached chats. Until both match it, the type checker fails.

How a cache learns of a change differs. SQLite has one process, which caches whole chats and replaces them by
`change_by` (`sqlite/cache.py`). PostgreSQL has several, so its storage caches members by the version in the
chat's row (`postgresql/members.py`), which `MemberWriter.apply` increments with every effect.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, assert_never

from attrs import evolve

from adapters.storage_sql.driver import Cursor, DriverConnection, Row
from adapters.storage_sql.rows import chat_of, chat_row, excerpt_of, moment, seconds
from adapters.storage_sql.statements import Statements
from messaging_core.chats import shown_members
from messaging_core.effects import (
    DeleteChat,
    EndMembership,
    MembershipEffect,
    StoreChat,
    StoreMember,
    StoreRole,
)
from messaging_core.ids import ChatId, UserId
from messaging_core.marks import Mark, marks_by
from messaging_core.models import Chat, Excerpt, Member, Role, Tombstone
from messaging_core.positions import FOUNDER, Range

MAX_CACHED_MEMBERS = 200_000
"""Members of all cached chats, about 120 bytes each; a chat itself counts as four."""

# --- columns ------------------------------------------------------------------------------------------------

COLUMNS = ("user_id", "role", "joined_at", "first_sequence", "reads_from")
"""The columns of a membership besides its chat, and its position there or its end, in the tables' order."""

MARK = ("read_up_to", "read_count")
"""The columns of a member's mark in a group."""
DIRECT_MARKS = ("first_read_up_to", "first_read_count", "second_read_up_to", "second_read_count")
"""The columns of `chats` with the marks of a direct chat."""

# Takes a tenth of the time of calling the class.
_ROLES = {role.value: role for role in Role}


def values_of(member: Member) -> Row:
    """The values of `COLUMNS`."""
    range_ = member.range
    return (
        member.user_id,
        member.role._value_,
        seconds(member.joined_at),
        range_.first,
        range_.reads_from,
    )


def member_of(row: Row, last: int | None = None) -> Member:
    """A member from the values of `COLUMNS`, and from the number with which a former membership ended."""
    user_id, role, joined_at, first, reads_from = row
    # The one object for nearly all members, by which `may_see` knows a founder at once.
    range_ = FOUNDER if first == 1 and last is None else Range(first, reads_from, last)
    return Member(user_id, _ROLES[role], moment(joined_at), range_)


# --- caches -------------------------------------------------------------------------------------------------


def weight_of(members: Collection[Member]) -> int:
    """What a chat's members count of `MAX_CACHED_MEMBERS`."""
    return 4 + len(members)


class MembershipChange(NamedTuple):
    """What an effect on memberships changes of cached objects."""

    chat_id: ChatId
    chat: Chat | None
    """The chat after it; None where it is deleted, or was not cached before."""
    user_ids: Collection[UserId]
    """The users whose lists of chats it changes."""


def change_by(effect: MembershipEffect, cached: Callable[[ChatId], Chat | None]) -> MembershipChange:
    """What an effect changes; `cached` gives a chat before it, where that is known."""
    match effect:
        case StoreChat(chat):
            return MembershipChange(chat.id, chat, chat.member_ids)
        case StoreMember(chat_id, member):
            before = cached(chat_id)
            after = before and evolve(before, members=(*before.members, member))
            return MembershipChange(chat_id, after, (member.user_id,))
        case StoreRole(chat_id, user_id, role):
            before = cached(chat_id)
            after = before and evolve(
                before,
                members=tuple(
                    [evolve(each, role=role) if each.user_id == user_id else each for each in before.members]
                ),
            )
            return MembershipChange(chat_id, after, ())
        case EndMembership(chat_id, user_id):
            before = cached(chat_id)
            after = before and evolve(
                before, members=tuple([each for each in before.members if each.user_id != user_id])
            )
            return MembershipChange(chat_id, after, (user_id,))
        case DeleteChat(tombstone, member_ids):
            return MembershipChange(tombstone.chat_id, None, member_ids)
        case _:  # pragma: no cover - the type checker proves it unreachable
            assert_never(effect)


# --- reads --------------------------------------------------------------------------------------------------


class MemberReader:
    """Reads the members of chats on one connection, in its current view."""

    def __init__(self, connection: DriverConnection, statements: Statements) -> None:
        self._execute = connection.execute
        self._sql = statements

    def members(self, chat: Row) -> tuple[Member, ...]:
        """The members of the chat in a row of `chats`, in the order in which they joined."""
        rows = self._execute(self._sql.members, (chat[0],)).fetchall()
        return tuple([member_of(row) for row in rows])

    def former_members(self, chat_id: ChatId, since: int) -> Sequence[Member]:
        """See `messaging_core.ports.ChatReader.ended_members`."""
        rows = self._execute(self._sql.ended_members, (chat_id, since)).fetchall()
        return [member_of(row[:-1], last=row[-1]) for row in rows]

    def own_memberships(self, user_id: UserId, chat_ids: object) -> dict[ChatId, Member]:
        """A user's memberships in some chats, by chat."""
        rows = self._execute(self._sql.own_memberships, (user_id, chat_ids)).fetchall()
        return {row[0]: member_of(row[1:]) for row in rows}

    def marks(self, chat_id: ChatId) -> dict[UserId, Mark]:
        """See `messaging_core.ports.ChatReader`, as for the next two."""
        rows = self._execute(self._sql.marks, (chat_id,)).fetchall()
        return {user_id: Mark(*mark) for user_id, *mark in rows}

    def own_marks(self, user_id: UserId, chat_ids: object) -> dict[ChatId, Mark]:
        rows = self._execute(self._sql.own_marks, (user_id, chat_ids)).fetchall()
        return {chat_id: Mark(*mark) for chat_id, *mark in rows}

    def furthest_marks(self, user_id: UserId, chat_ids: object) -> dict[ChatId, Mark]:
        rows = self._execute(self._sql.furthest_marks, (chat_ids, user_id)).fetchall()
        return {chat_id: Mark(*mark) for chat_id, *mark in rows}

    def excerpts(
        self, chats: Sequence[Row], sizes: Mapping[ChatId, int], viewer: UserId
    ) -> dict[ChatId, Chat | Excerpt]:
        """The chats in rows of `chats`, each shortened to its size as by `messaging_core.chats.excerpt`."""
        return {row[0]: self._excerpt(row, sizes[row[0]], viewer) for row in chats}

    def _excerpt(self, chat: Row, size: int, viewer: UserId) -> Chat | Excerpt:
        (*_, member_count) = chat
        if member_count <= size:
            return chat_of(chat, self.members(chat))
        part = (chat[0], size)
        ranked = [user_id for (user_id,) in self._execute(self._sql.ranked_members, part).fetchall()]
        first = [user_id for (user_id,) in self._execute(self._sql.first_members, part).fetchall()]
        return excerpt_of(chat, shown_members((viewer,), ranked, first, count=size))


# --- changes ------------------------------------------------------------------------------------------------


class MemberWriter:
    """Stores the effects on memberships on one connection; `rows_changed` counts what a statement changed."""

    def __init__(
        self, connection: DriverConnection, statements: Statements, rows_changed: Callable[[Cursor], int]
    ) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._sql = statements
        self._rows_changed = rows_changed

    def apply(self, effect: MembershipEffect) -> None:
        """Store it, and the chat's new `members_version` and `member_count`."""
        match effect:
            case StoreChat(chat):
                self._store_chat(chat)  # with version 1
            case StoreMember(chat_id, member):
                self._execute(self._sql.add_member, (chat_id, *values_of(member), chat_id))
                self._version_members(chat_id, more=1)
            case StoreRole(chat_id, user_id, role):
                stored = self._execute(self._sql.store_role, (role._value_, chat_id, user_id))
                if self._rows_changed(stored) == 0:
                    raise LookupError(f"user {user_id} is no member of chat {chat_id}")
                self._version_members(chat_id, more=0)
            case EndMembership(chat_id, user_id, last):
                self._end_membership(chat_id, user_id, last)
                self._version_members(chat_id, more=-1)
            case DeleteChat(tombstone):
                self._delete_chat(tombstone)  # which versions them too
            case _:  # pragma: no cover - the type checker proves it unreachable
                assert_never(effect)

    def advance_mark(self, chat: Chat, user_id: UserId, mark: Mark) -> None:
        if chat.is_group:
            self._execute(self._sql.advance_mark, (*mark, user_id, chat.id))
        elif marks := marks_by(user_id, mark, chat.member_ids):
            first, second = marks
            self._execute(self._sql.advance_direct_marks, (*first, *second, chat.id))

    def _version_members(self, chat_id: ChatId, *, more: int) -> None:
        self._execute(self._sql.count_member, (more, chat_id))

    def _store_chat(self, chat: Chat) -> None:
        self._execute(self._sql.insert_chat, chat_row(chat, members_version=1))
        rows = [(chat.id, position, *values_of(member)) for position, member in enumerate(chat.members, 1)]
        self._connection.cursor().executemany(self._sql.insert_member, rows)
        if not chat.is_group:
            low, high = sorted(chat.member_ids)
            self._execute(self._sql.insert_direct_chat, (low, high, chat.id))

    def _end_membership(self, chat_id: ChatId, user_id: UserId, last: int) -> None:
        self._execute(self._sql.keep_former_member, (last, chat_id, user_id))
        if self._rows_changed(self._execute(self._sql.remove_member, (chat_id, user_id))) == 0:
            raise LookupError(f"user {user_id} is no member of chat {chat_id}")

    def _delete_chat(self, tombstone: Tombstone) -> None:
        chat_id, last = tombstone.chat_id, tombstone.sequence
        self._execute(self._sql.keep_former_members, (last, chat_id))
        self._execute(self._sql.remove_members, (chat_id,))
        deletion = (last, seconds(tombstone.deleted_at), tombstone.deleted_by, chat_id)
        if self._rows_changed(self._execute(self._sql.delete_chat, deletion)) == 0:
            raise LookupError(f"there is no chat {chat_id} to delete")

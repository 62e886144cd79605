"""The members of chats where other processes change them too: cached by the version in their chat's row."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from threading import Lock
from typing import NamedTuple

from adapters.storage_sql.driver import DriverConnection, Row
from adapters.storage_sql.members import (
    COLUMNS,
    MAX_CACHED_MEMBERS,
    MemberReader,
    member_of,
    weight_of,
)
from adapters.storage_sql.rows import MEMBERS_VERSION, chat_of, excerpt_of
from adapters.storage_sql.statements import Statements
from adapters.storage_sql.weighted_cache import WeightedCache
from messaging_core.chats import excerpt, ranked, shown_members
from messaging_core.ids import ChatId, UserId
from messaging_core.models import Chat, Excerpt, Member

EXCERPTS = """
SELECT wanted.id, chats.members_version, found.ranking, COLUMNS
FROM unnest(%s::bigint[], %s::bigint[]) AS wanted (id, size)
JOIN chats ON chats.id = wanted.id
CROSS JOIN LATERAL (
    (SELECT 1 AS ranking, members.* FROM members
     WHERE chat_id = wanted.id AND role <> 'member' ORDER BY role DESC, position LIMIT wanted.size)
    UNION ALL
    (SELECT 2 AS ranking, members.* FROM members
     WHERE chat_id = wanted.id ORDER BY position LIMIT wanted.size)
) AS found
ORDER BY wanted.id, found.ranking, found.position
""".replace("COLUMNS", ", ".join([f"found.{name}" for name in COLUMNS]))
"""The owners, admins and first members of many chats, in one round trip."""


class Versioned(NamedTuple):
    """A chat's members as of one version."""

    version: int
    members: tuple[Member, ...]


class MembersCache:
    """The members of chats, by the version in the chat's row.

    Contains committed members only. So an entry is right for every reader that finds its version in a chat's
    row: a committed version never comes again with other members, and the cache has no version of a
    transaction that has not committed. Safe to use from several threads.
    """

    def __init__(self, max_members: int = MAX_CACHED_MEMBERS) -> None:
        self._by_chat: WeightedCache[ChatId, Versioned] = WeightedCache(
            max_members, lambda entry: weight_of(entry.members)
        )
        self._lock = Lock()

    def get(self, chat_id: ChatId, version: int) -> tuple[Member, ...] | None:
        entry = self._by_chat.get(chat_id)
        return entry.members if entry is not None and entry.version == version else None

    def put(self, chat_id: ChatId, entry: Versioned) -> None:
        """Cache committed members."""
        with self._lock:
            self._by_chat.put(chat_id, entry)


class StagedMembers:
    """Members that a transaction has read, which are cached if it commits."""

    def __init__(self, committed: MembersCache) -> None:
        self._committed = committed
        self._staged: dict[ChatId, Versioned] = {}

    def get(self, chat_id: ChatId, version: int) -> tuple[Member, ...] | None:
        staged = self._staged.get(chat_id)
        if staged is not None and staged.version == version:
            return staged.members
        return self._committed.get(chat_id, version)

    def put(self, chat_id: ChatId, version: int, members: tuple[Member, ...]) -> None:
        self._staged[chat_id] = Versioned(version, members)

    def commit(self) -> None:
        for chat_id, entry in self._staged.items():
            self._committed.put(chat_id, entry)
        self._staged.clear()

    def roll_back(self) -> None:
        """Discard the staged members; they are read again when needed."""
        self._staged.clear()


class MembersChanged(Exception):
    """A chat's members changed between two statements without its lock: run the operation again."""


class VersionedMemberReader(MemberReader):
    """Reads the members of the version in their chat's row, from the cache where possible.

    Raises `MembersChanged`. `of_version` is the statement `LockStatements.members`.
    """

    def __init__(
        self, connection: DriverConnection, statements: Statements, of_version: str, staged: StagedMembers
    ) -> None:
        super().__init__(connection, statements)
        self._of_version = of_version
        self._staged = staged

    def members(self, chat: Row) -> tuple[Member, ...]:
        chat_id, version = chat[0], chat[MEMBERS_VERSION]
        cached = self._staged.get(chat_id, version)
        if cached is not None:
            return cached
        rows = self._execute(self._of_version, (chat_id,)).fetchall()
        if not rows or rows[0][0] != version:
            raise MembersChanged
        found = tuple([member_of(row[1:]) for row in rows if row[1] is not None])
        self._staged.put(chat_id, version, found)
        return found

    def excerpts(
        self, chats: Sequence[Row], sizes: Mapping[ChatId, int], viewer: UserId
    ) -> dict[ChatId, Chat | Excerpt]:
        found: dict[ChatId, Chat | Excerpt] = {}
        missing: dict[ChatId, Row] = {}
        for row in chats:
            members = self._staged.get(row[0], row[MEMBERS_VERSION])
            if members is None:
                missing[row[0]] = row
            else:
                found[row[0]] = excerpt(chat_of(row, members), viewer, sizes[row[0]])
        if missing:
            wanted = (list(missing), [sizes[chat_id] for chat_id in missing])
            rows = self._execute(EXCERPTS, wanted).fetchall()
            for chat_id, parts in groupby(rows, key=itemgetter(0)):
                found[chat_id] = self._excerpt_of(missing[chat_id], [*parts], sizes[chat_id], viewer)
        return found

    def _excerpt_of(self, chat: Row, parts: list[Row], size: int, viewer: UserId) -> Chat | Excerpt:
        """The chat with the members in its rows of `EXCERPTS`."""
        chat_id, version, member_count = chat[0], chat[MEMBERS_VERSION], chat[-1]
        if parts[0][1] != version:
            raise MembersChanged
        ranks = [member_of(part[3:]) for part in parts if part[2] == 1]
        first = tuple([member_of(part[3:]) for part in parts if part[2] != 1])
        if member_count <= size:
            self._staged.put(chat_id, version, first)
            return chat_of(chat, first)
        rankings = ([member.user_id for member in group] for group in (ranked(ranks), first))
        return excerpt_of(chat, shown_members((viewer,), *rankings, count=size))

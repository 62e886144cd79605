"""Caches the members of chats, so that a message to a thousand users does not read a thousand rows."""

from threading import Lock

from messaging_core.ids import ChatId
from messaging_core.models import Member

MAX_CACHED_MEMBERS = 200_000
"""Members of all cached chats; about 120 bytes each."""


class MembersCache:
    """The members of chats, by the version in the chat's row.

    Contains committed members only. So an entry is right for every reader that finds its version in a chat's
    row: a committed version never comes again with other members, and the cache has no version of a
    transaction that has not committed. Safe to use from several threads.
    """

    def __init__(self, max_members: int = MAX_CACHED_MEMBERS) -> None:
        self._max_members = max_members
        self._by_chat: dict[ChatId, tuple[int, tuple[Member, ...]]] = {}
        self._count = 0
        self._lock = Lock()

    def get(self, chat_id: ChatId, version: int) -> tuple[Member, ...] | None:
        entry = self._by_chat.get(chat_id)
        return entry[1] if entry is not None and entry[0] == version else None

    def put(self, chat_id: ChatId, version: int, members: tuple[Member, ...]) -> None:
        """Cache committed members; evicts the chats that were put longest ago."""
        with self._lock:
            self._drop(chat_id)
            while self._by_chat and self._count + len(members) > self._max_members:
                self._drop(next(iter(self._by_chat)))
            self._by_chat[chat_id] = (version, members)
            self._count += len(members)

    def _drop(self, chat_id: ChatId) -> None:
        entry = self._by_chat.pop(chat_id, None)
        if entry is not None:
            self._count -= len(entry[1])


class StagedMembers:
    """Members that a transaction has read or stored, which are cached if it commits."""

    def __init__(self, committed: MembersCache) -> None:
        self._committed = committed
        self._staged: dict[ChatId, tuple[int, tuple[Member, ...]]] = {}

    def get(self, chat_id: ChatId, version: int) -> tuple[Member, ...] | None:
        staged = self._staged.get(chat_id)
        if staged is not None and staged[0] == version:
            return staged[1]
        return self._committed.get(chat_id, version)

    def put(self, chat_id: ChatId, version: int, members: tuple[Member, ...]) -> None:
        self._staged[chat_id] = (version, members)

    def commit(self) -> None:
        for chat_id, (version, members) in self._staged.items():
            self._committed.put(chat_id, version, members)
        self._staged.clear()

    def roll_back(self) -> None:
        """Discard the staged members; they are read again when needed."""
        self._staged.clear()

"""Keeps the members of busy chats, so that a message to a thousand people does not read a thousand rows."""

from threading import Lock

from messaging_core.ids import ChatId
from messaging_core.models import Member

MEMBERS_KEPT = 200_000
"""Members in all the chats that are kept; about 120 bytes each."""


class MembersCache:
    """The members of chats, by the version that the chat's own row names.

    Holds what was committed, and nothing else. That makes an entry right for whoever finds its version in
    a chat's row: a committed version never comes again with other members, and a version that a
    transaction has made but not committed is not here. Safe to use from several threads.
    """

    def __init__(self, members_kept: int = MEMBERS_KEPT) -> None:
        self._members_kept = members_kept
        self._by_chat: dict[ChatId, tuple[int, tuple[Member, ...]]] = {}
        self._count = 0
        self._lock = Lock()

    def get(self, chat_id: ChatId, version: int) -> tuple[Member, ...] | None:
        kept = self._by_chat.get(chat_id)
        return kept[1] if kept is not None and kept[0] == version else None

    def put(self, chat_id: ChatId, version: int, members: tuple[Member, ...]) -> None:
        """Keep what is committed, in place of whatever has been kept longest."""
        with self._lock:
            self._drop(chat_id)
            while self._by_chat and self._count + len(members) > self._members_kept:
                self._drop(next(iter(self._by_chat)))
            self._by_chat[chat_id] = (version, members)
            self._count += len(members)

    def _drop(self, chat_id: ChatId) -> None:
        kept = self._by_chat.pop(chat_id, None)
        if kept is not None:
            self._count -= len(kept[1])


class StagedMembers:
    """What transactions have read or made, until their commit shows whether it may be kept for others."""

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
        """Forget all that is staged, at whichever savepoint: it is read again when it is needed."""
        self._staged.clear()

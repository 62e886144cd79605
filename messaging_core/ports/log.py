"""What a storage knows of each chat's log of events."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from messaging_core.events import LogEntry
from messaging_core.ids import ChatId, UserId
from messaging_core.positions import Reach


class LogReader(Protocol):
    """The reads of the logs; see `Reader`. A transaction that locks a chat locks its log too."""

    def positions(self, user_ids: Collection[UserId]) -> Mapping[ChatId, Reach]:
        """How far the memberships of any of these users reach, those that have ended included, by chat."""

    def log(self, chat_id: ChatId, after_sequence: int, count: int) -> Sequence[LogEntry]:
        """The first `count` entries of a chat's log after a sequence number, in order."""

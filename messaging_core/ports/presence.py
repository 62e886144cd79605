"""What a storage knows of who is there."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from messaging_core.ids import UserId
from messaging_core.models import Sighting


class PresenceReader(Protocol):
    """The reads of presence; see `Reader`."""

    def sighting(self, user_id: UserId) -> Sighting | None:
        """The latest of what was stored for the user: of the sighting, and of the leases that hold them.

        A lease counts as a sighting at its end, also after it has expired.
        """

    def sightings(self, user_ids: Collection[UserId]) -> Mapping[UserId, Sighting]:
        """The `sighting` of each of these users who has one."""


class PresenceTransaction(PresenceReader, Protocol):
    """The leases of processes; see `Transaction`."""

    def renew_lease(self, holder: str, *, until: datetime, now: datetime) -> bool:
        """Prolong a lease that has not expired; returns whether it has not. An expired one never counts
        again.
        """

    def drop_leases(self, before: datetime) -> int:
        """Replace leases that expired before this time by sightings at their ends.

        Returns how many presences it ended, at most `FORGOTTEN_AT_ONCE`: repeat it, each time in another
        transaction, until it returns 0.
        """

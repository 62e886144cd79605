"""The token buckets of this process."""

from collections.abc import Callable, Hashable

from messaging_core.limits import Rate
from messaging_core.throttle import Bucket, charge, is_full, refuse_debt, take

BUCKETS = 100_000
"""Buckets kept at once, about 30 MB; beyond, the full ones are forgotten, then those used longest ago, until
half as many are left."""

Permits = tuple[str, Hashable, Rate, int]
"""A bucket by the name of its rate and its key, the rate, and a number of permits."""


class Throttles:
    """A bucket for each (rate, key) that was asked for, `buckets` of them at most.

    `clock` is in seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float], *, buckets: int = BUCKETS) -> None:
        self._clock = clock
        self._most = buckets
        self._buckets: dict[Hashable, tuple[Bucket, Rate]] = {}

    def take(self, *asked: Permits) -> None:
        """Take the permits from each bucket, or from none.

        Raises `TooManyRequests` when one of them holds too few.
        """
        now = self._clock()
        before: list[tuple[Hashable, tuple[Bucket, Rate] | None]] = []
        for name, key, rate, cost in asked:
            place = (name, key)
            kept = self._buckets.pop(place, None)
            before.append((place, kept))
            try:
                bucket = take(kept[0] if kept else None, rate, now=now, cost=cost)
            except BaseException:
                self._put_back(before)
                raise
            self._buckets[place] = (bucket, rate)
        if len(self._buckets) > self._most:
            self._forget(now)

    def check(self, *asked: Permits) -> None:
        """Raise `TooManyRequests` when one of the buckets holds too few permits; take none."""
        now = self._clock()
        for name, key, rate, cost in asked:
            kept = self._buckets.get((name, key))
            take(kept[0] if kept else None, rate, now=now, cost=cost)

    def charge(self, *owed: Permits) -> None:
        """Take permits for what was granted and has cost more; the buckets may go into debt."""
        now = self._clock()
        for name, key, rate, cost in owed:
            kept = self._buckets.pop((name, key), None)
            self._buckets[name, key] = charge(kept[0] if kept else None, rate, now=now, cost=cost), rate

    def refuse_debt(self, *asked: Permits) -> None:
        """Raise `TooManyRequests` where one of the buckets is in debt."""
        now = self._clock()
        for name, key, rate, _ in asked:
            kept = self._buckets.get((name, key))
            if kept is not None:
                refuse_debt(kept[0], rate, now=now)

    def _put_back(self, before: list[tuple[Hashable, tuple[Bucket, Rate] | None]]) -> None:
        for place, kept in before:
            self._buckets.pop(place, None)
            if kept is not None:
                self._buckets[place] = kept

    def _forget(self, now: float) -> None:
        for key, (bucket, rate) in list(self._buckets.items()):
            if is_full(bucket, rate, now=now):
                del self._buckets[key]
        # A dict keeps the order of insertion, and every use inserts anew: the first are the stalest.
        for key in list(self._buckets)[: max(0, len(self._buckets) - self._most // 2)]:
            del self._buckets[key]

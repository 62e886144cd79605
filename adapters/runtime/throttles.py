"""The token buckets of this process."""

from collections.abc import Callable, Hashable

from messaging_core.errors import TooManyRequests
from messaging_core.limits import Rate
from messaging_core.throttle import Bucket, charge, is_full, refuse_debt, take

BUCKETS = 100_000
"""The maximum number of buckets, about 30 MB. Beyond it, the full ones are dropped, then the least recently
used, until half as many remain."""

Permits = tuple[str, Hashable, Rate, int]
"""A bucket by the name of its rate and its key, the rate, and a number of permits."""


class Throttles:
    """A bucket for each (rate, key) in use, at most `buckets`.

    `clock` is in seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float], *, buckets: int = BUCKETS) -> None:
        self._clock = clock
        self._most = buckets
        self._buckets: dict[Hashable, tuple[Bucket, Rate]] = {}

    def take(self, *wanted: Permits) -> None:
        """Take the permits from each bucket, or from none.

        Raises `TooManyRequests` when one of them holds too few.
        """
        now = self._clock()
        granted: list[tuple[Hashable, tuple[Bucket, Rate]]] = []
        for name, key, rate, cost in wanted:
            bucket_key = (name, key)
            stored = self._buckets.get(bucket_key)
            try:
                bucket = take(stored[0] if stored else None, rate, now=now, cost=cost)
            except TooManyRequests:
                if stored:
                    self._buckets[bucket_key] = self._buckets.pop(bucket_key)  # a refusal is a use, too
                raise
            granted.append((bucket_key, (bucket, rate)))
        for used_key, bucket_and_rate in granted:
            self._buckets.pop(used_key, None)  # the last used comes last
            self._buckets[used_key] = bucket_and_rate
        if len(self._buckets) > self._most:
            self._forget(now)

    def check(self, *wanted: Permits) -> None:
        """Raise `TooManyRequests` when one of the buckets holds too few permits; take none."""
        now = self._clock()
        for name, key, rate, cost in wanted:
            stored = self._buckets.get((name, key))
            take(stored[0] if stored else None, rate, now=now, cost=cost)

    def charge(self, *owed: Permits) -> None:
        """Charge granted work that cost more than its permits; the buckets may go into debt."""
        now = self._clock()
        for name, key, rate, cost in owed:
            stored = self._buckets.pop((name, key), None)
            self._buckets[name, key] = charge(stored[0] if stored else None, rate, now=now, cost=cost), rate

    def refuse_debt(self, *permits: Permits) -> None:
        """Raise `TooManyRequests` where one of the buckets is in debt."""
        now = self._clock()
        for name, key, rate, _ in permits:
            stored = self._buckets.get((name, key))
            if stored is not None:
                refuse_debt(stored[0], rate, now=now)

    def _forget(self, now: float) -> None:
        for key, (bucket, rate) in list(self._buckets.items()):
            if is_full(bucket, rate, now=now):
                del self._buckets[key]
        # A dict keeps the order of insertion, and each use reinserts: the first are the least recently used.
        for key in list(self._buckets)[: max(0, len(self._buckets) - self._most // 2)]:
            del self._buckets[key]

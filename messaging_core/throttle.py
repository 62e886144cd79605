"""How often something may be done, by what it costs: a token bucket as a value.

A bucket holds at most `burst` permits and regains `per_second`. What the work costs is taken before it, where
that is known; taking more than there is is refused with the time until there is enough. What turns out only
by the work is charged after it: the bucket may go into debt, and grants nothing until that is repaid. So over
any time, what is granted costs at most `burst + per_second * seconds`, and the debt of the work that is under
way at its end.
"""

from attrs import frozen

from messaging_core.errors import TooManyRequests
from messaging_core.limits import Rate

LONGEST_DEBT = 60.0
"""Seconds in which every debt is repaid, for rates that regain a full bucket within them; a mistake in a
setting so shuts nobody out for hours."""


@frozen
class Bucket:
    """`permits` were left at `at`, in seconds of any clock that never goes back; below zero it is in debt."""

    permits: float
    at: float


def permits_for(units: int, covered: int) -> int:
    """How many permits so many units of work cost, of which each permit covers `covered`; at least one."""
    return max(1, -(-units // covered))


def take(bucket: Bucket | None, rate: Rate, *, now: float, cost: int = 1) -> Bucket:
    """The bucket after `cost` permits are taken; None is a full one. Raises `TooManyRequests`.

    What costs more than a full bucket holds is granted by a full one, which is then in debt.
    """
    permits = (
        rate.burst
        if bucket is None
        else min(rate.burst, bucket.permits + (now - bucket.at) * rate.per_second)
    )
    needed = min(cost, rate.burst)
    if permits < needed:
        raise TooManyRequests((needed - permits) / rate.per_second)
    return Bucket(permits - cost if cost == needed else _owing(permits - cost, rate), now)


def charge(bucket: Bucket | None, rate: Rate, *, now: float, cost: int) -> Bucket:
    """The bucket after work that it has granted has cost `cost` permits more, which it may owe."""
    full = Bucket(rate.burst, now) if bucket is None else bucket
    permits = min(rate.burst, full.permits + (now - full.at) * rate.per_second)
    return Bucket(_owing(permits - cost, rate), now)


def refuse_debt(bucket: Bucket, rate: Rate, *, now: float) -> None:
    """Raise `TooManyRequests` for a bucket in debt: of long work, no further step is begun."""
    permits = bucket.permits + (now - bucket.at) * rate.per_second
    if permits < 0:
        raise TooManyRequests((1 - permits) / rate.per_second)


def is_full(bucket: Bucket, rate: Rate, *, now: float) -> bool:
    """Whether the bucket may be forgotten: nothing tells it from one never taken from."""
    return bucket.permits + (now - bucket.at) * rate.per_second >= rate.burst


def _owing(permits: float, rate: Rate) -> float:
    return max(permits, -max(rate.burst, LONGEST_DEBT * rate.per_second))

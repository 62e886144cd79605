"""Rate limits by cost: a token bucket as a value.

A bucket holds at most `burst` permits and regains `per_second`. A cost that is known in advance is charged
before the work; a bucket with too few permits refuses, with the time until it has enough. A cost that only
the work shows is charged after it: the bucket may go into debt, and grants nothing until the debt is repaid.
So over any period the granted work costs at most `burst + per_second * seconds`, plus the debt of the work
that is in progress at its end.
"""

from attrs import frozen

from messaging_core.errors import TooManyRequests
from messaging_core.limits import Rate

LONGEST_DEBT = 60.0
"""Seconds within which every debt is repaid, for rates that regain a full bucket in that time; so a mistake
in a setting locks no user out for hours."""


@frozen
class Bucket:
    """The bucket held `permits` at `at`, in seconds of a clock that never goes back; below zero is debt."""

    permits: float
    at: float


def permits_for(units: int, covered: int) -> int:
    """The permits that `units` of work cost, at least one; each permit covers `covered` units."""
    return max(1, -(-units // covered))


def take(bucket: Bucket | None, rate: Rate, *, now: float, cost: int = 1) -> Bucket:
    """The bucket after taking `cost` permits. Raises `TooManyRequests`.

    A `bucket` of None is full. A full bucket grants a cost above `burst` too, and is then in debt.
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
    """The bucket after charging `cost` more permits for work that it has granted; it may go into debt.

    A negative cost returns permits, until the bucket is full.
    """
    full = Bucket(rate.burst, now) if bucket is None else bucket
    permits = min(rate.burst, full.permits + (now - full.at) * rate.per_second)
    return Bucket(min(rate.burst, _owing(permits - cost, rate)), now)


def refuse_debt(bucket: Bucket, rate: Rate, *, now: float) -> None:
    """Raise `TooManyRequests` for a bucket in debt, so that long work starts no further step."""
    permits = bucket.permits + (now - bucket.at) * rate.per_second
    if permits < 0:
        raise TooManyRequests((1 - permits) / rate.per_second)


def is_full(bucket: Bucket, rate: Rate, *, now: float) -> bool:
    """Whether the bucket is full, and may be dropped: it equals an unused one."""
    return bucket.permits + (now - bucket.at) * rate.per_second >= rate.burst


def _owing(permits: float, rate: Rate) -> float:
    return max(permits, -max(rate.burst, LONGEST_DEBT * rate.per_second))

"""How often something may be done: a token bucket as a value.

A bucket holds at most `burst` permits and regains `per_second`; taking one from an empty bucket is
refused with the time until the next.
"""

from attrs import frozen

from messaging_core.errors import TooManyRequests
from messaging_core.limits import Rate


@frozen
class Bucket:
    """`permits` were left at `at`, in seconds of any clock that never goes back."""

    permits: float
    at: float


def take(bucket: Bucket | None, rate: Rate, *, now: float) -> Bucket:
    """The bucket after one permit is taken; None is a full one. Raises `TooManyRequests`."""
    permits = (
        rate.burst
        if bucket is None
        else min(rate.burst, bucket.permits + (now - bucket.at) * rate.per_second)
    )
    if permits < 1:
        raise TooManyRequests((1 - permits) / rate.per_second)
    return Bucket(permits - 1, now)


def is_full(bucket: Bucket, rate: Rate, *, now: float) -> bool:
    """Whether the bucket may be forgotten: nothing tells it from one never taken from."""
    return bucket.permits + (now - bucket.at) * rate.per_second >= rate.burst

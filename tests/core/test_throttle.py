"""The token bucket, in numbers that binary fractions hold exactly."""

from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.errors import TooManyRequests
from messaging_core.limits import Rate
from messaging_core.testing import strategies as values
from messaging_core.throttle import Bucket, is_full, take

rates = st.builds(Rate, per_second=st.sampled_from([0.125, 0.5, 1.0, 4.0, 32.0]), burst=st.integers(1, 8))
pauses = st.lists(st.integers(0, 40).map(lambda number: number / 16), min_size=1, max_size=60)


def taken(rate: Rate, pauses: list[float]) -> list[float]:
    """When permits were granted to somebody who asks after each pause."""
    granted, bucket, now = [], None, 1000.0
    for pause in pauses:
        now += pause
        try:
            bucket = take(bucket, rate, now=now)
        except TooManyRequests:
            continue
        granted.append(now)
    return granted


@given(rates, pauses)
def test_never_more_than_burst_and_flow(rate: Rate, pauses: list[float]) -> None:
    """In any span of t seconds, at most burst + t * per_second permits are granted."""
    granted = taken(rate, pauses)
    for first, start in enumerate(granted):
        for last, end in enumerate(granted[first:], first):
            assert last - first + 1 <= rate.burst + (end - start) * rate.per_second


@given(rates)
def test_a_burst_and_not_one_more(rate: Rate) -> None:
    """A full bucket grants exactly its size at once."""
    assert len(taken(rate, [0.0] * (rate.burst + 5))) == rate.burst


@given(rates, pauses)
def test_whoever_waits_as_told_is_granted(rate: Rate, pauses: list[float]) -> None:
    """After `retry_after` seconds a permit is there, and a moment before it is not."""
    bucket, now = None, 1000.0
    for pause in pauses:
        now += pause
        try:
            bucket = take(bucket, rate, now=now)
        except TooManyRequests as refused:
            wait = refused.retry_after
        else:
            continue
        assert 0 < wait <= 1 / rate.per_second
        with pytest.raises(TooManyRequests):
            take(bucket, rate, now=now + wait - 1 / 1024)
        take(bucket, rate, now=now + wait)


def test_a_refusal_costs_nothing() -> None:
    """Asking in vain does not push the next permit away."""
    rate = Rate(per_second=1, burst=1)
    bucket = take(None, rate, now=0)
    for now in (0.25, 0.5, 0.75):
        with pytest.raises(TooManyRequests) as refused:
            take(bucket, rate, now=now)
        assert refused.value.retry_after == 1 - now
    assert take(bucket, rate, now=1) == Bucket(0, 1)


@given(rates, st.integers(0, 100))
def test_a_bucket_never_holds_more_than_its_burst(rate: Rate, seconds: int) -> None:
    """However long nobody asks, the bucket holds its burst."""
    bucket = take(Bucket(0, 0), evolve(rate, per_second=1000.0), now=1 + seconds)
    assert bucket == Bucket(rate.burst - 1, 1 + seconds)


@given(values.rates, st.floats(0, 1000), st.floats(0, 1000))
def test_a_full_bucket_may_be_forgotten(rate: Rate, permits: float, pause: float) -> None:
    """A bucket that is full grants what one never taken from grants."""
    bucket = Bucket(min(permits, rate.burst), 5.0)
    if is_full(bucket, rate, now=5.0 + pause):
        assert take(bucket, rate, now=5.0 + pause) == take(None, rate, now=5.0 + pause)


def test_a_bucket_fills() -> None:
    """A bucket is full once all that was taken has flowed back."""
    rate = Rate(per_second=2, burst=3)
    bucket = take(take(None, rate, now=0), rate, now=0)
    fills = [is_full(bucket, rate, now=now) for now in (0, 0.5, 0.99, 1, 100)]
    assert fills == [False, False, False, True, True]
    assert all(before <= after for before, after in pairwise(fills))

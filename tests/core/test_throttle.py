"""The token bucket, tested with numbers that binary fractions represent exactly."""

from itertools import accumulate, pairwise

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.errors import TooManyRequests
from messaging_core.limits import Rate
from messaging_core.testing import strategies as values
from messaging_core.throttle import (
    LONGEST_DEBT,
    Bucket,
    charge,
    is_full,
    permits_for,
    refuse_debt,
    take,
)

rates = st.builds(Rate, per_second=st.sampled_from([0.125, 0.5, 1.0, 4.0, 32.0]), burst=st.integers(1, 8))
pauses = st.lists(st.integers(0, 40).map(lambda number: number / 16), min_size=1, max_size=60)


def grants(rate: Rate, pauses: list[float]) -> list[float]:
    """The times at which permits are granted to a caller who asks after each pause."""
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
    granted = grants(rate, pauses)
    for first, start in enumerate(granted):
        for last, end in enumerate(granted[first:], first):
            assert last - first + 1 <= rate.burst + (end - start) * rate.per_second


@given(rates)
def test_a_burst_and_not_one_more(rate: Rate) -> None:
    """A full bucket grants exactly its size at once."""
    assert len(grants(rate, [0.0] * (rate.burst + 5))) == rate.burst


@given(rates, pauses)
def test_a_caller_who_waits_for_retry_after_is_granted(rate: Rate, pauses: list[float]) -> None:
    """A permit is available after `retry_after` seconds, and not a moment before."""
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
    """A refused request does not delay the next permit."""
    rate = Rate(per_second=1, burst=1)
    bucket = take(None, rate, now=0)
    for now in (0.25, 0.5, 0.75):
        with pytest.raises(TooManyRequests) as refused:
            take(bucket, rate, now=now)
        assert refused.value.retry_after == 1 - now
    assert take(bucket, rate, now=1) == Bucket(0, 1)


@given(rates, st.integers(0, 100))
def test_a_bucket_never_holds_more_than_its_burst(rate: Rate, seconds: int) -> None:
    """An idle bucket holds at most its burst, however long it is idle."""
    bucket = take(Bucket(0, 0), evolve(rate, per_second=1000.0), now=1 + seconds)
    assert bucket == Bucket(rate.burst - 1, 1 + seconds)


@given(values.rates, st.floats(0, 1000), st.floats(0, 1000))
def test_a_full_bucket_may_be_forgotten(rate: Rate, permits: float, pause: float) -> None:
    """A full bucket grants the same as a new bucket."""
    bucket = Bucket(min(permits, rate.burst), 5.0)
    if is_full(bucket, rate, now=5.0 + pause):
        assert take(bucket, rate, now=5.0 + pause) == take(None, rate, now=5.0 + pause)


def test_a_bucket_fills() -> None:
    """A bucket is full after all its granted permits have flowed back."""
    rate = Rate(per_second=2, burst=3)
    bucket = take(take(None, rate, now=0), rate, now=0)
    fills = [is_full(bucket, rate, now=now) for now in (0, 0.5, 0.99, 1, 100)]
    assert fills == [False, False, False, True, True]
    assert all(before <= after for before, after in pairwise(fills))


# --- work that costs more than one permit -------------------------------------------------------------------

work = st.lists(
    st.tuples(st.integers(0, 40).map(lambda number: number / 16), st.integers(1, 8), st.integers(0, 8)),
    min_size=1,
    max_size=60,
)
"""A pause, what the work costs that comes then, and what it costs more as it turns out."""


def costs_granted(rate: Rate, work: list[tuple[float, int, int]]) -> list[tuple[float, int]]:
    """The times at which work is granted, and its total cost; no single cost exceeds a full bucket."""
    granted, bucket, now = [], None, 1000.0
    for pause, *costs in work:
        now += pause
        cost, more = (min(each, rate.burst) for each in costs)
        try:
            bucket = take(bucket, rate, now=now, cost=cost)
        except TooManyRequests:
            continue
        bucket = charge(bucket, rate, now=now, cost=more)
        granted.append((now, cost + more))
    return granted


@given(rates, work)
def test_never_more_cost_than_burst_and_flow_and_one_overdraft(
    rate: Rate, work: list[tuple[float, int, int]]
) -> None:
    """In t seconds, granted work costs at most burst + t * per_second + the debt of the last work."""
    granted = costs_granted(rate, work)
    for first, (start, _) in enumerate(granted):
        costs = accumulate(cost for _, cost in granted[first:])
        for (end, last), total in zip(granted[first:], costs, strict=True):
            assert total < rate.burst + (end - start) * rate.per_second + last


@given(rates, st.integers(1, 20), st.integers(0, 100_000))
def test_debt_is_refused_until_it_is_repaid(rate: Rate, cost: int, more: int) -> None:
    """A permit is available after `retry_after` seconds, and not a moment before; a debt is bounded."""
    bucket = charge(take(None, rate, now=0, cost=cost), rate, now=0, cost=more)
    if bucket.permits >= 1:
        take(bucket, rate, now=0)
        return
    with pytest.raises(TooManyRequests) as refused:
        take(bucket, rate, now=0)
    wait = refused.value.retry_after
    assert wait <= max(LONGEST_DEBT, rate.burst / rate.per_second) + 1 / rate.per_second
    with pytest.raises(TooManyRequests):
        take(bucket, rate, now=wait - 1 / 1024)
    take(bucket, rate, now=wait)


@given(rates, st.integers(1, 20))
def test_a_cost_is_charged_whole_or_refused(rate: Rate, cost: int) -> None:
    """Work that costs more than the bucket holds is refused until it holds enough, or is full."""
    cost = min(cost, 2 * rate.burst - 1)
    bucket = take(None, rate, now=0, cost=cost)
    assert bucket.permits == rate.burst - cost
    if rate.burst < 2:
        return
    spent = take(None, rate, now=0, cost=rate.burst - 1)
    with pytest.raises(TooManyRequests) as refused:
        take(spent, rate, now=0, cost=cost + 1)
    enough = refused.value.retry_after
    assert spent.permits + enough * rate.per_second == min(cost + 1, rate.burst)
    assert take(spent, rate, now=enough, cost=cost + 1).permits == min(cost + 1, rate.burst) - cost - 1


@pytest.mark.parametrize(
    ("rate", "cost", "permits"),
    [
        (Rate(per_second=1, burst=2), 3, -1),
        (Rate(per_second=1, burst=2), 62, -60),
        (Rate(per_second=1, burst=2), 1000, -60),
        (Rate(per_second=1, burst=100), 1000, -100),
    ],
)
def test_a_cost_beyond_a_full_bucket_is_owed_within_a_bound(rate: Rate, cost: int, permits: float) -> None:
    """The debt is at most what flows back in `LONGEST_DEBT` seconds, or a full bucket where that is more."""
    assert take(None, rate, now=5, cost=cost) == Bucket(permits, 5)


def test_returned_permits_fill_a_bucket_and_no_more() -> None:
    """A negative cost returns a permit that was taken; a full bucket stays full."""
    rate = Rate(1, 3)
    taken = take(None, rate, now=0, cost=2)
    assert charge(taken, rate, now=0, cost=-1).permits == 2
    assert charge(charge(taken, rate, now=0, cost=-1), rate, now=0, cost=-5).permits == 3
    assert charge(None, rate, now=0, cost=-1).permits == 3


def test_charging_a_new_bucket() -> None:
    """A new bucket is full; elapsed time counts as it does for grants."""
    rate = Rate(per_second=2, burst=3)
    assert charge(None, rate, now=5, cost=4) == Bucket(-1, 5)
    assert charge(Bucket(0, 5), rate, now=6, cost=1) == Bucket(1, 6)
    assert charge(Bucket(0, 5), rate, now=60, cost=1) == Bucket(2, 60)


@pytest.mark.parametrize(("permits", "wait"), [(0, None), (0.5, None), (-0.5, 0.75), (-3, 2)])
def test_long_work_continues_unless_its_bucket_is_in_debt(permits: float, wait: float | None) -> None:
    """An empty bucket is not in debt: this work has used its last permit."""
    rate = Rate(per_second=2, burst=3)
    if wait is None:
        refuse_debt(Bucket(permits, 5), rate, now=5)
    else:
        with pytest.raises(TooManyRequests) as refused:
            refuse_debt(Bucket(permits, 5), rate, now=5)
        assert refused.value.retry_after == wait
        refuse_debt(Bucket(permits, 5), rate, now=5 + wait)


@given(st.integers(0, 10_000), st.integers(1, 500))
def test_permits_cover_all_units(units: int, covered: int) -> None:
    """The permits cover all units, and are at least one."""
    permits = permits_for(units, covered)
    assert permits == 1 or (permits - 1) * covered < units
    assert permits * covered >= units
    assert isinstance(permits, int)

"""Rates: a bounded number of buckets, one for each key."""

import pytest

from adapters.runtime.throttles import Throttles
from messaging_core.errors import TooManyRequests
from messaging_core.limits import Rate

RATE = Rate(per_second=1, burst=2)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_key_has_its_own_bucket() -> None:
    """Callers and rates do not affect each other."""
    limits = Throttles(Clock())
    limits.take(("message_rate", 1, RATE, 1))
    limits.take(("message_rate", 1, RATE, 1))
    with pytest.raises(TooManyRequests):
        limits.take(("message_rate", 1, RATE, 1))
    limits.take(("message_rate", 2, RATE, 1))
    limits.take(("request_rate", 1, RATE, 1))


def test_a_refused_attempt_costs_no_permit() -> None:
    """A caller that keeps trying succeeds as soon as one permit has returned."""
    clock = Clock()
    limits = Throttles(clock)
    for _ in range(2):
        limits.take(("message_rate", 1, RATE, 1))
    for _ in range(10):
        with pytest.raises(TooManyRequests):
            limits.take(("message_rate", 1, RATE, 1))
    clock.now = 1.0
    limits.take(("message_rate", 1, RATE, 1))


def test_work_that_cost_more_is_charged_and_its_debt_refused() -> None:
    """Each bucket is charged with its own cost at its own time, and refuses while it is in debt."""
    clock = Clock()
    limits = Throttles(clock)
    alice, bob, carol = [("request_rate", key, RATE, 1) for key in (1, 2, 3)]
    limits.take(alice)
    limits.charge(("request_rate", 1, RATE, 3), bob)
    limits.refuse_debt(bob, carol)
    for now, wait in ((0.0, 3.0), (1.0, 2.0)):
        clock.now = now
        with pytest.raises(TooManyRequests) as refused:
            limits.refuse_debt(bob, alice)
        assert refused.value.retry_after == wait
    clock.now = 2.0
    limits.refuse_debt(alice)
    with pytest.raises(TooManyRequests):
        limits.take(alice)
    clock.now = 3.0
    limits.take(alice)


def test_a_check_counts_the_cost() -> None:
    """A bucket with one permit left lets work of one permit through, and no more."""
    limits = Throttles(Clock())
    limits.take(("request_rate", 1, RATE, 1))
    limits.check(("request_rate", 1, RATE, 1))
    with pytest.raises(TooManyRequests):
        limits.check(("request_rate", 1, RATE, 2))


def test_permits_of_several_buckets_are_spent_together() -> None:
    """A request that one of its limits refuses costs no permit of another, in any order of the limits."""
    limits = Throttles(Clock())
    limits.take(("login_rate", "alice", RATE, 1), ("login_address_rate", "::1", RATE, 1))
    limits.take(("login_rate", "alice", RATE, 1))
    for _ in range(5):
        for asked in (
            (("login_rate", "alice", RATE, 1), ("login_address_rate", "::1", RATE, 1)),
            (("login_address_rate", "::1", RATE, 1), ("login_rate", "alice", RATE, 1)),
        ):
            with pytest.raises(TooManyRequests):
                limits.take(*asked)
    limits.take(("login_address_rate", "::1", RATE, 1), ("login_rate", "bob", RATE, 1))
    with pytest.raises(TooManyRequests):
        limits.take(("login_rate", "bob", RATE, 1), ("login_address_rate", "::1", RATE, 1))
    limits.take(("login_rate", "bob", RATE, 1))


def test_checking_costs_nothing() -> None:
    """A check costs no permit, so it can precede the decision which other buckets are charged."""
    limits = Throttles(Clock())
    for _ in range(5):
        limits.check(("login_address_rate", "::1", RATE, 1))
    limits.take(("login_address_rate", "::1", RATE, 1))
    limits.take(("login_address_rate", "::1", RATE, 1))
    with pytest.raises(TooManyRequests):
        limits.check(("login_address_rate", "::2", RATE, 1), ("login_address_rate", "::1", RATE, 1))
    limits.check()


def test_many_keys_use_bounded_memory() -> None:
    """Full buckets are dropped first, then the least recently used; one in use stays empty."""
    limits = Throttles(Clock(), buckets=100)
    for _ in range(2):
        limits.take(("message_rate", "busy", RATE, 1))
    for key in range(1000):
        limits.take(("message_rate", key, RATE, 1))
        with pytest.raises(TooManyRequests):
            limits.take(("message_rate", "busy", RATE, 1))
    assert len(limits._buckets) <= 101


def test_exhausted_keys_are_kept_up_to_the_bound() -> None:
    """As many exhausted keys as the bound stay refused; one more leaves the most recently used half."""
    limits = Throttles(Clock(), buckets=100)

    def refused() -> list[int]:
        keys = []
        for key in range(101):
            try:
                limits.check(("message_rate", key, RATE, 1))
            except TooManyRequests:
                keys.append(key)
        return keys

    for key in range(100):
        limits.take(("message_rate", key, RATE, 2))
    assert refused() == list(range(100))
    limits.take(("message_rate", 100, RATE, 2))
    assert refused() == list(range(51, 101))


def test_if_full_buckets_make_room_no_other_is_dropped() -> None:
    """A caller without permits stays refused, whatever other keys come."""
    clock = Clock()
    limits = Throttles(clock, buckets=100)
    for key in range(61):
        limits.take(("message_rate", key, RATE, 1))
    clock.now = 1.0  # the others are full again
    hasty = range(100, 140)
    for key in hasty:
        limits.take(("message_rate", key, RATE, 1))
        limits.take(("message_rate", key, RATE, 1))
    assert len(limits._buckets) == len(hasty)
    for key in hasty:
        with pytest.raises(TooManyRequests):
            limits.take(("message_rate", key, RATE, 1))

"""The fair queue: origins take turns, so many items of one origin cannot block another."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from messaging_core.fair_queue import FairQueue

ORIGINS = st.sampled_from("abcde")


@given(st.lists(ORIGINS, max_size=60))
def test_origins_take_turns(origins: list[str]) -> None:
    """Between two items of an origin comes one of each other waiting origin; each origin keeps its order."""
    queue: FairQueue[tuple[str, int]] = FairQueue(of_origin=60, in_all=60)
    for number, origin in enumerate(origins):
        assert queue.push(origin, (origin, number)) == ()
    popped = [queue.pop() for _ in origins]
    for origin in set(origins):
        places = [place for place, (owner, _) in enumerate(popped) if owner == origin]
        for one, other in pairwise(places):
            waiting = {owner for owner, _ in popped[other:]}
            between = Counter(owner for owner, _ in popped[one + 1 : other])
            assert max(between.values(), default=0) <= 1
            assert waiting - {origin} <= between.keys()
        numbers = [number for owner, number in popped if owner == origin]
        assert numbers == sorted(numbers)
    assert len(queue) == 0
    with pytest.raises(LookupError):
        queue.pop()


class FairQueueUse(RuleBasedStateMachine):
    """Any sequence of pushes, pops and discards keeps the bounds, and loses or duplicates no item."""

    @initialize(of_origin=st.integers(1, 4), in_all=st.integers(1, 8))
    def begin(self, of_origin: int, in_all: int) -> None:
        self.of_origin, self.in_all = of_origin, in_all
        self.queue: FairQueue[int] = FairQueue(of_origin=of_origin, in_all=in_all)
        self.waiting: dict[int, str] = {}
        """The origin of each waiting item."""
        self.since: dict[str, int] = {}
        """Items popped since an origin's oldest item waits."""
        self.number = 0

    def count(self, origin: str) -> int:
        return list(self.waiting.values()).count(origin)

    @rule(origin=ORIGINS)
    def push(self, origin: str) -> None:
        self.number += 1
        before, most = self.count(origin), max(Counter(self.waiting.values()).values(), default=0)
        full = len(self.waiting) == self.in_all
        removed = self.queue.push(origin, self.number)
        self.waiting[self.number] = origin
        if before >= self.of_origin or (full and most <= before + 1):
            assert removed == (self.number,)
        elif full:
            (evicted,) = removed
            assert self.count(self.waiting[evicted]) == most > before + 1
            assert evicted == max(
                item for item, owner in self.waiting.items() if owner == self.waiting[evicted]
            )
        else:
            assert removed == ()
        for item in removed:
            del self.waiting[item]
        if self.count(origin):
            self.since.setdefault(origin, 0)

    @precondition(lambda self: self.waiting)
    @rule()
    def pop(self) -> None:
        item = self.queue.pop()
        origin = self.waiting.pop(item)
        assert item < min((each for each, owner in self.waiting.items() if owner == origin), default=item + 1)
        self.since.pop(origin)
        for other in self.since:
            self.since[other] += 1
        if self.count(origin):
            self.since[origin] = 0

    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        item = data.draw(st.integers(1, self.number + 1))
        self.queue.discard(self.waiting.get(item, "a"), item)
        origin = self.waiting.pop(item, None)
        if origin is not None and not self.count(origin):
            self.since.pop(origin)

    @invariant()
    def bounds_hold(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue) == len(self.waiting) <= self.in_all
            assert max(Counter(self.waiting.values()).values(), default=0) <= self.of_origin

    @invariant()
    def no_origin_waits_for_two_items_of_another(self) -> None:
        if hasattr(self, "queue"):
            assert all(popped < 5 for popped in self.since.values())


FairQueueUse.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
TestFairQueueUse = FairQueueUse.TestCase

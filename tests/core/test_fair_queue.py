"""The fair queue: origins take turns, and nobody's many items keep another's out."""

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
    """Between two items of one origin comes one of each other origin that waits, and each keeps its order."""
    queue: FairQueue[tuple[str, int]] = FairQueue(of_origin=60, in_all=60)
    for number, origin in enumerate(origins):
        assert queue.push(origin, (origin, number)) == ()
    taken = [queue.pop() for _ in origins]
    for origin in set(origins):
        places = [place for place, (who, _) in enumerate(taken) if who == origin]
        for one, other in pairwise(places):
            waiting = {who for who, _ in taken[other:]}
            between = Counter(who for who, _ in taken[one + 1 : other])
            assert max(between.values(), default=0) <= 1
            assert waiting - {origin} <= between.keys()
        numbers = [number for who, number in taken if who == origin]
        assert numbers == sorted(numbers)
    assert len(queue) == 0
    with pytest.raises(LookupError):
        queue.pop()


class AnyUse(RuleBasedStateMachine):
    """Whatever is pushed, taken and given up: the bounds hold, and no item is lost or doubled."""

    @initialize(of_origin=st.integers(1, 4), in_all=st.integers(1, 8))
    def begin(self, of_origin: int, in_all: int) -> None:
        self.of_origin, self.in_all = of_origin, in_all
        self.queue: FairQueue[int] = FairQueue(of_origin=of_origin, in_all=in_all)
        self.waiting: dict[int, str] = {}
        """The origin of each item that waits."""
        self.since: dict[str, int] = {}
        """Items taken since an origin's oldest waits for its turn."""
        self.number = 0

    def count(self, origin: str) -> int:
        return list(self.waiting.values()).count(origin)

    @rule(origin=ORIGINS)
    def push(self, origin: str) -> None:
        self.number += 1
        before, most = self.count(origin), max(Counter(self.waiting.values()).values(), default=0)
        full = len(self.waiting) == self.in_all
        left_out = self.queue.push(origin, self.number)
        self.waiting[self.number] = origin
        if before >= self.of_origin or (full and most <= before + 1):
            assert left_out == (self.number,)
        elif full:
            (evicted,) = left_out
            assert self.count(self.waiting[evicted]) == most > before + 1
            assert evicted == max(item for item, who in self.waiting.items() if who == self.waiting[evicted])
        else:
            assert left_out == ()
        for item in left_out:
            del self.waiting[item]
        if self.count(origin):
            self.since.setdefault(origin, 0)

    @precondition(lambda self: self.waiting)
    @rule()
    def pop(self) -> None:
        item = self.queue.pop()
        origin = self.waiting.pop(item)
        assert item < min((each for each, who in self.waiting.items() if who == origin), default=item + 1)
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
    def nobody_waits_for_two_items_of_another(self) -> None:
        if hasattr(self, "queue"):
            assert all(taken < 5 for taken in self.since.values())


AnyUse.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
TestAnyUse = AnyUse.TestCase

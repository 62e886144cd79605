"""The fair queue: flows take turns, so many items of one flow cannot block another."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from messaging_core import fair_queue
from messaging_core.fair_queue import FairQueue

FLOWS = st.sampled_from("abcde")


@given(st.lists(FLOWS, max_size=60))
def test_flows_take_turns(flows: list[str]) -> None:
    """Between two items of a flow comes one of each other waiting flow; each flow keeps its order."""
    queue: FairQueue[tuple[str, int]] = FairQueue(of_flow=60, in_all=60)
    for number, flow in enumerate(flows):
        assert queue.push(flow, (flow, number)) == ()
    popped = [queue.pop() for _ in flows]
    for flow in set(flows):
        places = [place for place, (owner, _) in enumerate(popped) if owner == flow]
        for one, other in pairwise(places):
            waiting = {owner for owner, _ in popped[other:]}
            between = Counter(owner for owner, _ in popped[one + 1 : other])
            assert max(between.values(), default=0) <= 1
            assert waiting - {flow} <= between.keys()
        numbers = [number for owner, number in popped if owner == flow]
        assert numbers == sorted(numbers)
    assert len(queue) == 0
    with pytest.raises(LookupError):
        queue.pop()


def test_flows_that_come_back_keep_no_new_one_out() -> None:
    """In a queue full of flows with one item each, that of a flow with more requests makes room."""
    queue: FairQueue[str] = FairQueue(of_flow=2, in_all=4)
    for flow in "abcd":
        assert queue.push(flow, flow) == ()
    assert queue.push("new", "new") == ("new",)  # each has one request
    assert queue.push("b", "again") == ("again",)
    assert queue.push("other", "other") == ("b",)
    assert [queue.pop() for _ in range(4)] == ["a", "c", "d", "other"]
    assert len(queue) == 0


def test_requests_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only recent requests make a flow greedy, and only those take memory."""
    monkeypatch.setattr(fair_queue, "RECENT_REQUESTS", 3)
    queue: FairQueue[str] = FairQueue(of_flow=1, in_all=1)
    for flow in "aabcd":
        queue.push(flow, flow)
        queue.pop()
    assert set(queue._requests) == set(queue._recent) == set("bcd")
    queue.push("a", "a")
    assert queue.push("new", "new") == ("new",)


class FairQueueUse(RuleBasedStateMachine):
    """Any sequence of pushes, pops and discards keeps the bounds, and loses or duplicates no item."""

    @initialize(of_flow=st.integers(1, 4), in_all=st.integers(1, 8))
    def begin(self, of_flow: int, in_all: int) -> None:
        self.of_flow, self.in_all = of_flow, in_all
        self.queue: FairQueue[int] = FairQueue(of_flow=of_flow, in_all=in_all)
        self.waiting: dict[int, str] = {}
        """The flow of each waiting item."""
        self.since: dict[str, int] = {}
        """Items popped since a flow's oldest item waits."""
        self.requests: Counter[str] = Counter()
        self.number = 0

    def greed(self, flow: str) -> int:
        return self.count(flow) + self.requests[flow]

    def count(self, flow: str) -> int:
        return list(self.waiting.values()).count(flow)

    @rule(flow=FLOWS)
    def push(self, flow: str) -> None:
        self.number += 1
        self.requests[flow] += 1
        before, greed = self.count(flow), self.greed(flow)
        most = max(map(self.greed, self.waiting.values()), default=0)
        full = len(self.waiting) == self.in_all
        removed = self.queue.push(flow, self.number)
        self.waiting[self.number] = flow
        if before >= self.of_flow or (full and most <= greed + 1):
            assert removed == (self.number,)
        elif full:
            (evicted,) = removed
            assert self.greed(self.waiting[evicted]) == most > greed + 1
            assert evicted == max(
                item for item, owner in self.waiting.items() if owner == self.waiting[evicted]
            )
        else:
            assert removed == ()
        for item in removed:
            owner = self.waiting.pop(item)
            if not self.count(owner):
                self.since.pop(owner, None)
        if self.count(flow):
            self.since.setdefault(flow, 0)

    @precondition(lambda self: self.waiting)
    @rule()
    def pop(self) -> None:
        item = self.queue.pop()
        flow = self.waiting.pop(item)
        assert item < min((each for each, owner in self.waiting.items() if owner == flow), default=item + 1)
        self.since.pop(flow)
        for other in self.since:
            self.since[other] += 1
        if self.count(flow):
            self.since[flow] = 0

    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        item = data.draw(st.integers(1, self.number + 1))
        self.queue.discard(self.waiting.get(item, "a"), item)
        flow = self.waiting.pop(item, None)
        if flow is not None and not self.count(flow):
            self.since.pop(flow)

    @invariant()
    def bounds_hold(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue) == len(self.waiting) <= self.in_all
            assert max(Counter(self.waiting.values()).values(), default=0) <= self.of_flow

    @invariant()
    def no_flow_waits_for_two_items_of_another(self) -> None:
        if hasattr(self, "queue"):
            assert all(popped < 5 for popped in self.since.values())


FairQueueUse.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
TestFairQueueUse = FairQueueUse.TestCase

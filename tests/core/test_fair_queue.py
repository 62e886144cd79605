"""The fair queue: new flows go first and equals take turns, so no flow blocks a less greedy one."""

from collections import Counter
from collections.abc import Hashable
from itertools import count, groupby, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from messaging_core import fair_queue
from messaging_core.fair_queue import FREE_REQUESTS, FairQueue

FLOWS = st.sampled_from("abcde")


def source_of(flow: Hashable) -> Hashable:
    """Two sources have two flows each, and one has one."""
    return {"a": 1, "b": 1, "c": 2, "d": 2}.get(str(flow), 3)


@given(st.lists(FLOWS, max_size=60))
def test_the_newest_flows_go_first_and_equals_take_turns(flows: list[str]) -> None:
    """Items go by their flows' requests, fewest first; equal flows alternate; each flow keeps its order."""
    queue: FairQueue[tuple[str, int]] = FairQueue(of_flow=60, in_all=60)
    for number, flow in enumerate(flows):
        assert queue.push(flow, (flow, number)) == ()
    popped = [queue.pop() for _ in flows]
    requests = Counter(flows)
    order = [owner for owner, _ in popped]
    assert [requests[flow] for flow in order] == sorted(requests[flow] for flow in order)
    for _, run in groupby(order, key=requests.__getitem__):
        turns = list(run)
        equals = len(set(turns))
        for start in range(0, len(turns), equals):
            assert turns[start : start + equals] == turns[:equals]
            assert len(set(turns[start : start + equals])) == equals
    for flow in requests:
        numbers = [number for owner, number in popped if owner == flow]
        assert numbers == sorted(numbers)
    assert len(queue) == 0
    with pytest.raises(LookupError):
        queue.pop()


def test_a_new_flow_waits_for_no_flow_that_comes_back() -> None:
    """Ninety flows come back after each turn; the item of a new one is popped next, and its second, too."""
    queue: FairQueue[str] = FairQueue(of_flow=2, in_all=64)
    flood = [str(number) for number in range(90)]
    for _ in range(3):
        for flow in flood:
            queue.push(flow, flow)
    for item in ("first", "second"):
        queue.push("new", item)
        assert queue.pop() == item
        for flow in flood:
            queue.push(flow, flow)


def test_credit_distinguishes_new_flows(monkeypatch: pytest.MonkeyPatch) -> None:
    """While every item is of a flow never seen before, a flow with credit goes first, for ten requests."""
    monkeypatch.setattr(fair_queue, "CREDITED_FLOWS", 2)
    queue: FairQueue[str] = FairQueue(of_flow=1, in_all=2)
    new = map(str, count())

    def goes_first(flow: str) -> bool:
        """Whether the flow's item goes before those that wait, of which the queue is full."""
        for other in islice(new, 2):
            queue.push(other, other)
        refused = queue.push(flow, flow)
        popped = [queue.pop(), queue.pop()]
        assert len({*popped, *refused}) == 3
        return popped[0] == flow

    assert not goes_first("known")
    queue.credit("known")
    assert [goes_first("known") for _ in range(FREE_REQUESTS)] == [True] * (FREE_REQUESTS - 1) + [False]
    for flow in ("forgotten", "one", "forgotten", "one", "two"):
        queue.credit(flow)
    assert [goes_first(flow) for flow in ("forgotten", "one", "two", "known")] == [False, True, True, False]


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
    assert set(queue._requests) == set(queue._sources) == set(queue._recent) == set("bcd")
    assert sum(queue._requests_of_sources.values()) == 3
    queue.push("a", "a")
    assert queue.push("new", "new") == ("new",)


def test_new_flows_of_one_source_keep_no_other_out() -> None:
    """While one source fills the queue with new flows, a new flow of another source goes first."""
    queue: FairQueue[str] = FairQueue(of_flow=1, in_all=3, source_of=lambda flow: str(flow)[0])
    for number in range(9):
        queue.push(f"a{number}", "a")
    assert len(queue.push("b1", "b")) == 1
    assert queue.push("a9", "a") == ("a",)
    assert queue.push("b2", "b") == ("a",)
    assert [queue.pop() for _ in range(3)] == ["b", "b", "a"]


class FairQueueUse(RuleBasedStateMachine):
    """Any sequence of calls keeps the bounds and the order of flows, and loses or duplicates no item."""

    @initialize(of_flow=st.integers(1, 4), in_all=st.integers(1, 8))
    def begin(self, of_flow: int, in_all: int) -> None:
        self.of_flow, self.in_all = of_flow, in_all
        self.queue: FairQueue[int] = FairQueue(of_flow=of_flow, in_all=in_all, source_of=source_of)
        self.waiting: dict[int, str] = {}
        """The flow of each waiting item."""
        self.turns: list[str] = []
        """The flows of the waiting items; the one whose last turn is the longest ago comes first."""
        self.requests: Counter[str] = Counter()
        self.credited: set[str] = set()
        self.number = 0

    def counted(self, flow: str) -> int:
        return max(0, self.requests[flow] - FREE_REQUESTS * (flow in self.credited))

    def of_source(self, flow: str) -> int:
        return sum(n for each, n in self.requests.items() if source_of(each) == source_of(flow))

    def greed(self, flow: str) -> tuple[int, int]:
        return self.count(flow) + self.counted(flow), self.of_source(flow)

    def count(self, flow: str) -> int:
        return list(self.waiting.values()).count(flow)

    def remove(self, item: int) -> None:
        flow = self.waiting.pop(item)
        if not self.count(flow):
            self.turns.remove(flow)

    @rule(flow=FLOWS)
    def push(self, flow: str) -> None:
        self.number += 1
        self.requests[flow] += 1
        before, (greed, of_source) = self.count(flow), self.greed(flow)
        most = max(map(self.greed, self.waiting.values()), default=(0, 0))
        enough = greed + 1, of_source + 1
        full = len(self.waiting) == self.in_all
        removed = self.queue.push(flow, self.number)
        if before >= self.of_flow or (full and most <= enough):
            assert removed == (self.number,)
            return
        if full:
            (evicted,) = removed
            owner = self.waiting[evicted]
            assert self.greed(owner) == most > enough
            assert evicted == max(item for item, each in self.waiting.items() if each == owner)
            self.remove(evicted)
        else:
            assert removed == ()
        self.waiting[self.number] = flow
        if flow not in self.turns:
            self.turns.append(flow)

    @rule(flow=FLOWS)
    def credit(self, flow: str) -> None:
        self.queue.credit(flow)
        self.credited.add(flow)

    @precondition(lambda self: self.waiting)
    @rule()
    def pop(self) -> None:
        item = self.queue.pop()
        flow = self.waiting[item]
        assert item == min(each for each, owner in self.waiting.items() if owner == flow)
        assert flow == min(
            self.turns, key=lambda each: (self.counted(each), each not in self.credited, self.of_source(each))
        )
        self.turns.remove(flow)
        self.turns.append(flow)
        self.remove(item)

    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        item = data.draw(st.integers(1, self.number + 1))
        self.queue.discard(self.waiting.get(item, "a"), item)
        if item in self.waiting:
            self.remove(item)

    @invariant()
    def bounds_hold(self) -> None:
        if hasattr(self, "queue"):
            assert len(self.queue) == len(self.waiting) <= self.in_all
            assert max(Counter(self.waiting.values()).values(), default=0) <= self.of_flow


FairQueueUse.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=40)
TestFairQueueUse = FairQueueUse.TestCase

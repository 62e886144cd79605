"""A bounded queue that is fair between the flows that fill it.

Items wait by flow. The flow with the fewest recent requests goes first, refused requests included, and flows
with as many take turns, one item a turn ("least attained service": Kleinrock, "Queueing Systems", vol. 2,
1976). So however many flows come back again and again, and however many items they have, the item of a new
flow waits for no more than those of other new flows. When the queue is full, the newest item of the greediest
flow makes room for an item of a less greedy one (McKenney, "Stochastic Fairness Queueing", 1990). A flow is
as greedy as it has items waiting and recent requests.

Two things distinguish flows that are all new. A flow with credit, which the caller gives, goes before flows
without, and its first requests do not count against it. Then flows of a source with fewer recent requests go
first: a source is one that may create many flows.
"""

from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

RECENT_REQUESTS = 10_000
"""Requests that count as recent: a minute of 160 networks that log in as often as each may."""

CREDITED_FLOWS = 10_000
"""Flows whose credit is remembered, some 2 MB; further credit replaces the one that was given first."""

FREE_REQUESTS = 10
"""Recent requests of a flow with credit that do not count: as many attempts as an e-mail has at once
(`login_rate`). So who mistypes a password stays ahead of flows that were never seen before."""


class FairQueue(Generic[T]):
    """At most `of_flow` items of a flow, and `in_all` together, both at least 1.

    `source_of` gives the source of a flow; each flow is its own source by default.
    """

    def __init__(
        self, *, of_flow: int, in_all: int, source_of: Callable[[Hashable], Hashable] = lambda flow: flow
    ) -> None:
        self._of_flow = of_flow
        self._source_of = source_of
        self._in_all = in_all
        self._waiting: dict[Hashable, deque[T]] = {}
        """The items of each flow, oldest first; flows in the order of their turns."""
        self._count = 0
        self._recent: deque[Hashable] = deque()
        """The flows of the last requests, the latest last."""
        self._requests: Counter[Hashable] = Counter()
        """How often each flow is in `_recent`."""
        self._sources: dict[Hashable, Hashable] = {}
        """The sources of these flows."""
        self._requests_of_sources: Counter[Hashable] = Counter()
        self._credited: dict[Hashable, None] = {}
        """The flows with credit, in the order in which they last received it."""

    def __len__(self) -> int:
        return self._count

    def push(self, flow: Hashable, item: T) -> tuple[T, ...]:
        """Append an item to its flow.

        Returns the items that were refused: none, the item itself when there is no room for it, or the item
        of another flow that made room.
        """
        self._note(flow)
        own = len(self._waiting.get(flow, ()))
        if own >= self._of_flow:
            return (item,)
        evicted: tuple[T, ...] = ()
        if self._count >= self._in_all:
            greediest = max(self._waiting, key=self._greed)
            greed, requests_of_source = self._greed(flow)
            if self._greed(greediest) <= (greed + 1, requests_of_source + 1):
                return (item,)
            items = self._waiting[greediest]
            evicted = (items.pop(),)
            self._count -= 1
            if not items:
                del self._waiting[greediest]
        self._waiting.setdefault(flow, deque()).append(item)
        self._count += 1
        return evicted

    def credit(self, flow: Hashable) -> None:
        """Prefer the flow to others with as few requests: an item of it has proved useful."""
        self._credited.pop(flow, None)
        self._credited[flow] = None
        if len(self._credited) > CREDITED_FLOWS:
            del self._credited[next(iter(self._credited))]

    def _counted(self, flow: Hashable) -> int:
        """The flow's recent requests, without those that its credit covers."""
        return max(0, self._requests[flow] - FREE_REQUESTS * (flow in self._credited))

    def _of_source(self, flow: Hashable) -> int:
        """The recent requests of the flow's source."""
        return self._requests_of_sources[self._sources.get(flow)]

    def _greed(self, flow: Hashable) -> tuple[int, int]:
        return len(self._waiting.get(flow, ())) + self._counted(flow), self._of_source(flow)

    def _rank(self, flow: Hashable) -> tuple[int, bool, int]:
        return self._counted(flow), flow not in self._credited, self._of_source(flow)

    def pop(self) -> T:
        """Remove and return the oldest item of the flow that is next; raises `LookupError` if empty."""
        if not self._waiting:
            raise LookupError("nothing waits")
        flow = min(self._waiting, key=self._rank)  # of equals the first, whose last turn is the longest ago
        items = self._waiting.pop(flow)
        item = items.popleft()
        if items:
            self._waiting[flow] = items
        self._count -= 1
        return item

    def _note(self, flow: Hashable) -> None:
        self._recent.append(flow)
        if flow not in self._sources:
            self._sources[flow] = self._source_of(flow)
        self._requests[flow] += 1
        self._requests_of_sources[self._sources[flow]] += 1
        if len(self._recent) > RECENT_REQUESTS:
            self._forget_request(self._recent.popleft())

    def _forget_request(self, flow: Hashable) -> None:
        source = self._sources[flow]
        self._requests[flow] -= 1
        self._requests_of_sources[source] -= 1
        if not self._requests[flow]:
            del self._requests[flow], self._sources[flow]
        if not self._requests_of_sources[source]:
            del self._requests_of_sources[source]

    def discard(self, flow: Hashable, item: T) -> None:
        """Remove an item; does nothing if it is not in the queue."""
        items = self._waiting.get(flow)
        if items is None or item not in items:
            return
        items.remove(item)
        self._count -= 1
        if not items:
            del self._waiting[flow]

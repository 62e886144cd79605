"""A bounded queue that is fair between those who fill it.

Items wait by origin. Origins take turns: one item of each, then again, so that an item waits for at most one
item of every other origin and for the earlier ones of its own, however many the others have. At the bound in
all, the newest item of an origin with the most makes room for one of an origin with fewer (McKenney,
"Stochastic Fairness Queueing", 1990): who has much waiting cannot keep anybody out.
"""

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """At most `of_origin` items of an origin, and `in_all` together, both at least 1."""

    def __init__(self, *, of_origin: int, in_all: int) -> None:
        self._of_origin = of_origin
        self._in_all = in_all
        self._waiting: dict[Hashable, deque[T]] = {}
        """The items of each origin, oldest first; origins in the order of their turns."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, origin: Hashable, item: T) -> tuple[T, ...]:
        """Let an item wait behind the others of its origin.

        The result is what does not wait now: nothing, the item itself where there is no room for it, or the
        item of another origin that made room.
        """
        own = len(self._waiting.get(origin, ()))
        if own >= self._of_origin:
            return (item,)
        evicted: tuple[T, ...] = ()
        if self._count >= self._in_all:
            longest = max(self._waiting, key=lambda each: len(self._waiting[each]))
            if len(self._waiting[longest]) <= own + 1:
                return (item,)
            evicted = (self._waiting[longest].pop(),)
            self._count -= 1
        self._waiting.setdefault(origin, deque()).append(item)
        self._count += 1
        return evicted

    def pop(self) -> T:
        """Take out the oldest item of the origin whose turn it is; raises `LookupError` where none waits."""
        if not self._waiting:
            raise LookupError("nothing waits")
        origin = next(iter(self._waiting))
        items = self._waiting.pop(origin)
        item = items.popleft()
        if items:
            self._waiting[origin] = items
        self._count -= 1
        return item

    def discard(self, origin: Hashable, item: T) -> None:
        """Take out an item, wherever it stands; one that does not wait changes nothing."""
        items = self._waiting.get(origin)
        if items is None or item not in items:
            return
        items.remove(item)
        self._count -= 1
        if not items:
            del self._waiting[origin]

"""Tells of commits in the order in which they happened, though threads hear of them in any.

Two transactions that meet at a lock commit one after the other: the second has its lock only once the first
one's COMMIT is carried out. Their threads are woken in any order all the same. So each takes a place just
before it sends its COMMIT, while it holds all its locks: of two that have met, the one that commits first has
taken its place first, too. Whoever is told of waits for those places before it that share a key with it, and
for no others.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from threading import Lock

from attrs import define


@define(eq=False)
class Place:
    """One transaction's place in the order of all that share a key with it."""

    keys: tuple[Hashable, ...]
    tell: Callable[[], None] | None = None
    """What is done when it is its turn; None until its outcome is known."""


class CommitOrder:
    """Places are taken on any thread, and settled on one: there each is told of in its turn."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, deque[Place]] = {}
        self._lock = Lock()

    def take(self, keys: Iterable[Hashable]) -> Place:
        """A place behind all that share a key; take it while what the keys stand for is locked."""
        place = Place(tuple(keys))
        with self._lock:
            for key in place.keys:
                self._queues.setdefault(key, deque()).append(place)
        return place

    def settle(self, place: Place, tell: Callable[[], None]) -> None:
        """Have `tell` called once it is the place's turn, now or in a later call of this."""
        place.tell = tell
        ready = [place]
        while ready:
            place = ready.pop()
            if place.tell is not None and self._is_first(place):
                place.tell()
                ready += self._leave(place)

    def _is_first(self, place: Place) -> bool:
        with self._lock:
            return all(self._queues[key][0] is place for key in place.keys)

    def _leave(self, place: Place) -> list[Place]:
        """Those who have come to the front of a queue."""
        place.tell = None
        following = []
        with self._lock:
            for key in place.keys:
                queue = self._queues[key]
                queue.popleft()
                if queue:
                    following.append(queue[0])
                else:
                    del self._queues[key]
        return following

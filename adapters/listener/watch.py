"""What all connections wait for, watched in one place: bytes that come, and deadlines that pass.

A task that waits for its own descriptor registers it anew for each wait, which is a system call, and takes a
cancel scope for its deadline. Here a descriptor is registered once, a deadline that moves to later costs
nothing, and a connection of which nothing is expected needs no task.
"""

from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from selectors import EVENT_READ, DefaultSelector
from typing import Never, Protocol, Self

import trio

FEW = 1000
"""Places that are left and still looked at; beyond it they are put out when they are the most of all."""

READ_AT_ONCE = 32
"""Descriptors that are read in one turn of the loop: of a crowd that sends at once, 2 MiB are in memory at a
time, and not 64 KiB of each."""


class WatchCallbacks(Protocol):
    """Who waits."""

    def readable(self) -> None:
        """Bytes, or their end, are there: they must be read now, or the watch stopped."""

    def due(self) -> None:
        """The deadline has passed."""


class WatchedDescriptor:
    """One descriptor's place in the watch."""

    __slots__ = ("deadline", "descriptor", "looked_at", "reading", "watched")

    def __init__(self, descriptor: int, watched: WatchCallbacks) -> None:
        self.descriptor = descriptor
        self.watched: WatchCallbacks | None = watched
        """None once it is left."""
        self.reading = False
        self.deadline = inf
        self.looked_at = inf
        """When the watch looks at the deadline next: at or before it."""


class Watch:
    """Watches descriptors and deadlines, until its block is left.

    `run` must run meanwhile; everything else is called in its thread.
    """

    def __init__(self) -> None:
        self._selector = DefaultSelector()
        self._looks: list[tuple[float, int, WatchedDescriptor]] = []
        self._order = count()
        self._left = 0
        self._scope: trio.CancelScope | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    async def run(self) -> None:
        """For ever: tell who waits."""
        while True:
            at = self._looks[0][0] if self._looks else inf
            with trio.CancelScope(deadline=at) as self._scope:
                await self._tell_readers()
            self._look()

    async def _tell_readers(self) -> Never:
        """Until it is cancelled, tell who has something to read."""
        # epoll and kqueue are a descriptor themselves, for all that is registered with them.
        descriptor, select = self._selector.fileno(), self._selector.select
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            for number, (key, _) in enumerate(select(0), 1):
                place: WatchedDescriptor = key.data
                if place.watched is not None and place.reading:
                    place.watched.readable()
                if number % READ_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()  # what was read is used up before more is

    def enter(self, descriptor: int, watched: WatchCallbacks) -> WatchedDescriptor:
        """A place that is not read yet, and has no deadline."""
        return WatchedDescriptor(descriptor, watched)

    def read(self, place: WatchedDescriptor) -> None:
        """From now on tell when there is something to read."""
        if not place.reading and place.watched is not None:
            self._selector.register(place.descriptor, EVENT_READ, place)
            place.reading = True

    def stop(self, place: WatchedDescriptor) -> None:
        """No longer tell."""
        if place.reading:
            place.reading = False
            self._selector.unregister(place.descriptor)

    def leave(self, place: WatchedDescriptor) -> None:
        """Forget all about it, before the descriptor is closed; repeating it changes nothing."""
        if place.watched is None:
            return
        self.stop(place)
        place.watched = None
        place.deadline = inf
        if place.looked_at < inf:
            self._left += 1
            if self._left > max(FEW, len(self._looks) // 2):
                self._left = 0
                self._looks = [look for look in self._looks if look[2].watched is not None]
                heapify(self._looks)

    def move(self, place: WatchedDescriptor, deadline: float) -> None:
        """Tell once this time, of trio's clock, has passed, and no earlier one."""
        place.deadline = deadline
        if deadline < place.looked_at:
            self._look_at(place)

    def _look_at(self, place: WatchedDescriptor) -> None:
        place.looked_at = place.deadline
        heappush(self._looks, (place.deadline, next(self._order), place))
        if self._scope is not None and place.deadline < self._scope.deadline:
            self._scope.deadline = place.deadline

    def _look(self) -> None:
        now = trio.current_time()
        while self._looks and self._looks[0][0] <= now:
            at, _, place = heappop(self._looks)
            if at != place.looked_at:
                continue  # it has been looked at since, for an earlier deadline
            place.looked_at = inf
            if place.watched is None:
                self._left -= 1
            elif place.deadline <= now:
                place.deadline = inf
                place.watched.due()
            elif place.deadline < inf:
                self._look_at(place)

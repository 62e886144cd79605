"""One place that waits for all connections: for bytes to read, and for deadlines.

A task that waits for a descriptor of its own registers it anew for each wait, which is a system call, and
needs a cancel scope for its deadline. Here a descriptor is registered once, moving a deadline to a later time
costs nothing, and an idle connection needs no task.
"""

from collections import deque
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from selectors import EVENT_READ, DefaultSelector
from typing import Never, Protocol, Self

import trio

REMOVED_ENTRIES = 1000
"""Queue entries of removed descriptors that stay in the queue; beyond it they are deleted once they are more
than half of it."""

READ_AT_ONCE = 32
"""Descriptors that are read in one turn of the loop: when thousands of peers send at once, 2 MiB are in
memory at a time, and not 64 KiB of each."""

ENDS_AT_ONCE = 8
"""Ends and deadlines that are reported in one turn of the loop: to close a connection takes 0.3 ms. When
thousands of peers leave at once, the bytes of others are read first."""


class WatchCallbacks(Protocol):
    """What the watch calls for a descriptor."""

    def readable(self) -> None:
        """Bytes, or their end, can be read: the callee reads now, or stops reading."""

    def ended(self) -> None:
        """The peer's end, which the callee has read and postponed."""

    def due(self) -> None:
        """The deadline has passed."""


class WatchedDescriptor:
    """A descriptor in the watch, and its deadline."""

    __slots__ = ("callbacks", "deadline", "ending", "number", "queued_for", "reading")

    def __init__(self, number: int, callbacks: WatchCallbacks) -> None:
        self.number = number
        self.callbacks: WatchCallbacks | None = callbacks
        """None after its removal."""
        self.reading = False
        self.ending = False
        """Whether its end waits to be reported."""
        self.deadline = inf
        self.queued_for = inf
        """The time of its queue entry, at or before the deadline."""


class Watch:
    """Watches descriptors and deadlines, inside its `with` block.

    `run` must run meanwhile; all other methods are called in the thread of `run`.
    """

    def __init__(self) -> None:
        self._selector = DefaultSelector()
        self._queue: list[tuple[float, int, WatchedDescriptor]] = []
        """A heap of the times at which `_expire` compares a descriptor's deadline with the clock."""
        self._order = count()
        self._removed = 0
        self._ends: deque[WatchedDescriptor] = deque()
        """Descriptors whose end, or deadline, waits to be reported."""
        self._scope: trio.CancelScope | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    async def run(self) -> None:
        """Call the callbacks, until it is cancelled."""
        while True:
            at = self._queue[0][0] if self._queue else inf
            with trio.CancelScope(deadline=at) as self._scope:
                await self._notify_readable()
            self._expire()

    async def _notify_readable(self) -> Never:
        """Call `readable` of descriptors that have bytes to read, until it is cancelled."""
        # epoll and kqueue are a descriptor themselves, which is readable when a registered one is.
        descriptor, select = self._selector.fileno(), self._selector.select
        while True:
            if not self._ends:
                await trio.lowlevel.wait_readable(descriptor)
            for number, (key, _) in enumerate(select(0), 1):
                watched: WatchedDescriptor = key.data
                if watched.callbacks is not None and watched.reading:
                    watched.callbacks.readable()
                if number % READ_AT_ONCE == 0:
                    await trio.lowlevel.checkpoint()  # readers process these bytes before more are read
            if self._ends:
                self._report_ends()
            if self._ends:
                await trio.lowlevel.checkpoint()

    def _report_ends(self) -> None:
        for _ in range(min(len(self._ends), ENDS_AT_ONCE)):
            watched = self._ends.popleft()
            if watched.callbacks is None:
                continue
            if watched.ending:
                watched.ending = False
                watched.callbacks.ended()
            elif watched.deadline <= trio.current_time():
                watched.deadline = inf
                watched.callbacks.due()

    def add(self, number: int, callbacks: WatchCallbacks) -> WatchedDescriptor:
        """Add a descriptor, not read yet and without a deadline."""
        return WatchedDescriptor(number, callbacks)

    def start_reading(self, watched: WatchedDescriptor) -> None:
        """Call `readable` from now on; after `postpone_end`, only once `ended` has been called."""
        if not watched.reading and not watched.ending and watched.callbacks is not None:
            self._selector.register(watched.number, EVENT_READ, watched)
            watched.reading = True

    def stop_reading(self, watched: WatchedDescriptor) -> None:
        """Call `readable` no longer."""
        if watched.reading:
            watched.reading = False
            self._selector.unregister(watched.number)

    def postpone_end(self, watched: WatchedDescriptor) -> None:
        """Call `ended` in this turn of the loop, or in a later one after the ends of others; stop reading.

        For `readable`, once it has read the peer's end.
        """
        self.stop_reading(watched)
        watched.ending = True
        self._ends.append(watched)

    def remove(self, watched: WatchedDescriptor) -> None:
        """Remove a descriptor, before it is closed. Idempotent."""
        if watched.callbacks is None:
            return
        self.stop_reading(watched)
        watched.callbacks = None
        watched.deadline = inf
        if watched.queued_for < inf:
            self._removed += 1
            if self._removed > max(REMOVED_ENTRIES, len(self._queue) // 2):
                self._removed = 0
                self._queue = [entry for entry in self._queue if entry[2].callbacks is not None]
                heapify(self._queue)

    def set_deadline(self, watched: WatchedDescriptor, deadline: float) -> None:
        """Call `due` once after this time of trio's clock; replaces an earlier deadline."""
        watched.deadline = deadline
        if deadline < watched.queued_for:
            self._enqueue(watched)

    def _enqueue(self, watched: WatchedDescriptor) -> None:
        watched.queued_for = watched.deadline
        heappush(self._queue, (watched.deadline, next(self._order), watched))
        if self._scope is not None and watched.deadline < self._scope.deadline:
            self._scope.deadline = watched.deadline

    def _expire(self) -> None:
        now = trio.current_time()
        while self._queue and self._queue[0][0] <= now:
            at, _, watched = heappop(self._queue)
            if at != watched.queued_for:
                continue  # replaced by an entry for an earlier time
            watched.queued_for = inf
            if watched.callbacks is None:
                self._removed -= 1
            elif watched.deadline <= now:
                self._ends.append(watched)
            elif watched.deadline < inf:
                self._enqueue(watched)

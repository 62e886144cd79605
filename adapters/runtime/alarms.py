"""Calls many things at their deadlines, with one task, and none while nothing has a deadline."""

from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Protocol

import structlog
import trio

log = structlog.get_logger(__name__)


class Timed(Protocol):
    """Something with a deadline, which may move to a later time without notice."""

    @property
    def deadline(self) -> float:
        """By trio's clock; infinite where there is none."""

    def tick(self, now: float) -> None:
        """Do the work of the deadline; none if it has moved."""


class Alarms:
    """Calls each object's `tick` at its deadline, and again at each next one until that is infinite."""

    def __init__(self) -> None:
        self._alarms: list[tuple[float, int, Timed]] = []
        """A heap."""
        self._numbers = count()
        self._first_changed: trio.Event | None = None
        """Wakes the task; None until the first alarm."""

    def __len__(self) -> int:
        return len(self._alarms)

    def set(self, timed: Timed) -> None:
        """Call `tick` at the deadline, and from then on at each next one."""
        if timed.deadline == inf:
            return
        alarm = (timed.deadline, next(self._numbers), timed)
        heappush(self._alarms, alarm)
        if self._first_changed is None:
            self._first_changed = trio.Event()
            trio.lowlevel.spawn_system_task(self._ring_for_ever)
        elif self._alarms[0] is alarm:
            self._first_changed.set()

    async def _ring_for_ever(self) -> None:
        while True:
            self._first_changed = trio.Event()
            with trio.move_on_at(self._alarms[0][0] if self._alarms else inf):
                await self._first_changed.wait()
            now = trio.current_time()
            while self._alarms and self._alarms[0][0] <= now:
                _, _, timed = heappop(self._alarms)
                try:
                    timed.tick(now)
                except Exception:
                    log.exception("A deadline's callback failed")
                self.set(timed)

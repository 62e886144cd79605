"""The turns of the event loop: whether it has been idle, and what has been done in this one."""

from collections.abc import Callable
from contextlib import suppress

import trio


class Rests(trio.abc.Instrument):
    """Counts the turns of the event loop, and its rests, from here until `end`.

    To give others a turn, or to wait for company, is for a busy loop. The first caller after a rest is alone,
    as far as can be told.
    """

    def __init__(self) -> None:
        self._count = 0
        self.turns = 0
        trio.lowlevel.add_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        self.turns += 1
        if timeout > 0:
            self._count += 1

    def since_asked(self) -> Callable[[], bool]:
        """A question to be asked again and again: has the loop rested since the last time?"""
        seen = self._count

        def rested() -> bool:
            nonlocal seen
            before, seen = seen, self._count
            return seen != before

        return rested

    def end(self) -> None:
        """Count no more; safe to repeat."""
        with suppress(KeyError):
            trio.lowlevel.remove_instrument(self)

"""Whether the event loop has had nothing to do: whoever comes first after that may go on at once."""

from collections.abc import Callable
from contextlib import suppress

import trio


class Rests(trio.abc.Instrument):
    """Counts the rests of the event loop, from here until `end`.

    To give others a turn, or to wait for company, is for a busy loop. Whoever comes first after a rest is
    alone, as far as can be told.
    """

    def __init__(self) -> None:
        self._count = 0
        trio.lowlevel.add_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
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

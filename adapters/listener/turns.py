"""Bounds the time that long responses take of one turn of the loop, so that other tasks run in between."""

import trio

TURN = 0.005
"""Seconds that responses may take of one turn of the loop; a further response waits for the next turn."""


class Turns:
    """The time that responses have taken of this turn of the loop."""

    __slots__ = ("_number", "_seconds", "spent")

    def __init__(self) -> None:
        self._number = 0
        self._seconds = 0.0
        self.spent = False
        """Whether this turn's time is over: then the caller must await `next`."""

    def spend(self, seconds: float) -> None:
        """Add the time of one response."""
        self._seconds += seconds
        self.spent = self._seconds > TURN

    async def next(self) -> None:
        """Let other tasks run until there is time again; in each turn one of the waiting tasks continues."""
        while self.spent:
            number = self._number
            await trio.lowlevel.checkpoint()
            if number == self._number:  # the first waiting task to run in a new turn starts it
                self._number += 1
                self._seconds = 0.0
                self.spent = False

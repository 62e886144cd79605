"""Long answers take turns with everybody else: a crowd that asks for pages at once must not stop the loop."""

import trio

TURN = 0.005
"""Seconds that answers may take of one turn of the loop; another that is due then waits for the next."""


class Turns:
    """How long answers have held the loop since others could run."""

    __slots__ = ("_number", "_seconds", "spent")

    def __init__(self) -> None:
        self._number = 0
        self._seconds = 0.0
        self.spent = False
        """Whether this turn's time is over: then `next` must be awaited."""

    def spend(self, seconds: float) -> None:
        """An answer has taken so long."""
        self._seconds += seconds
        self.spent = self._seconds > TURN

    async def next(self) -> None:
        """Let others run until there is time again; of those who wait, one goes on in each turn."""
        while self.spent:
            number = self._number
            await trio.lowlevel.checkpoint()
            if number == self._number:  # the first to run in the new turn begins it
                self._number += 1
                self._seconds = 0.0
                self.spent = False

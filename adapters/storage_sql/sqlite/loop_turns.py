"""Counts turns of the event loop, and detects whether it has been idle."""

from collections.abc import Callable

from adapters.storage_sql.event_loop import TurnObserver


class LoopTurns(TurnObserver):
    """Counts the turns of the event loop, and its idle turns.

    Only a busy loop has other tasks to yield to, or others to share a commit with. The first caller after an
    idle turn is alone, as far as the loop knows, so it need not yield.
    """

    def __init__(self) -> None:
        self._idle_turns = 0
        self.turns = 0
        super().__init__()

    def before_io_wait(self, timeout: float) -> None:
        self.turns += 1
        if timeout > 0:
            self._idle_turns += 1

    def idle_detector(self) -> Callable[[], bool]:
        """Create a function that says whether the loop has been idle since its last call."""
        seen = self._idle_turns

        def has_been_idle() -> bool:
            nonlocal seen
            before, seen = seen, self._idle_turns
            return seen != before

        return has_been_idle

"""Which operations are too large for the event loop: those that load or store the people of a large chat.

An operation is small unless a chat has thousands of members. Which one is large depends on the data and the
cache, so each begins on the loop. One that turns out to be large is stopped before it has taken long, and
begins again in the thread.
"""

LOOP_PEOPLE = 2000
"""People whom an operation loads or stores at once on the event loop, in some 5 ms."""


class TooLargeForLoop(Exception):
    """On the event loop, the operation would take too long."""


class LoopLimit:
    """The limit of one transaction's operations."""

    def __init__(self) -> None:
        self.people = LOOP_PEOPLE
        self.is_on_loop = True
        """Whether the current operation runs on the event loop; the thread has no limit."""

    def check(self, people: int) -> None:
        """Called before so many people are loaded or stored; raises `TooLargeForLoop`."""
        if people > self.people and self.is_on_loop:
            raise TooLargeForLoop

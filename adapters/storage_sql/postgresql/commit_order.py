"""Notifies of commits in their order, although threads learn of them in any order.

Two transactions that wait for the same lock commit one after the other: the second gets the lock after the
first one's COMMIT. Their threads may still wake in any order. So each transaction takes a ticket just before
it sends its COMMIT, while it holds all its locks: of two transactions with a common lock, the first to commit
also has the first ticket. A notification waits for the earlier tickets that share a key with its own, and for
no others.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from threading import Lock

from attrs import define


@define(eq=False)
class CommitTicket:
    """A transaction's position among those that share a key with it."""

    keys: tuple[Hashable, ...]
    notify: Callable[[], None] | None = None
    """Called in the ticket's turn; None until the outcome of the commit is known."""


class CommitOrder:
    """Any thread takes tickets; one completes them, and calls each ticket's `notify` in its turn."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, deque[CommitTicket]] = {}
        self._lock = Lock()

    def take(self, keys: Iterable[Hashable]) -> CommitTicket:
        """Take a ticket behind all that share a key; call it while the transaction holds the keys' locks."""
        ticket = CommitTicket(tuple(keys))
        with self._lock:
            for key in ticket.keys:
                self._queues.setdefault(key, deque()).append(ticket)
        return ticket

    def complete(self, ticket: CommitTicket, notify: Callable[[], None]) -> None:
        """Call `notify` in the ticket's turn, now or in a later call of this method."""
        ticket.notify = notify
        ready = [ticket]
        while ready:
            ticket = ready.pop()
            if ticket.notify is not None and self._is_first(ticket):
                ticket.notify()
                ready += self._remove(ticket)

    def _is_first(self, ticket: CommitTicket) -> bool:
        with self._lock:
            return all(self._queues[key][0] is ticket for key in ticket.keys)

    def _remove(self, ticket: CommitTicket) -> list[CommitTicket]:
        """Remove the ticket; the tickets that are now first in one of its queues."""
        ticket.notify = None
        following = []
        with self._lock:
            for key in ticket.keys:
                queue = self._queues[key]
                queue.popleft()
                if queue:
                    following.append(queue[0])
                else:
                    del self._queues[key]
        return following

"""The bus that carries signals between processes."""

from collections.abc import Callable
from typing import Protocol

from messaging_core.effects import DeliveryEffect
from messaging_core.ids import UserId
from messaging_core.signals import Envelope


class Bus(Protocol):
    """Carries signals between processes: what was committed here to the others, and from them to this one.

    A signal may be lost, doubled or overtaken, but not unnoticed: an implementation numbers its envelopes,
    skips a number for each loss, sends a heartbeat every `liveness.BEAT_SECONDS`, and reports a lost
    connection.
    """

    @property
    def publisher(self) -> str:
        """This process's name on the bus."""

    def publish(self, effect: DeliveryEffect) -> None:
        """Send a signal of what is committed; never waits, never fails, in the order of the calls.

        Signals that cannot be sent at once wait, within a bound, and are dropped when the connection is lost.
        """

    async def follow(self, user_id: UserId) -> None:
        """Receive signals for this user from now on, or else report a later connection as `missed`.

        Returns within a second. Repeating it changes nothing.
        """

    def unfollow(self, user_id: UserId) -> None:
        """Signals for this user alone need no longer be received."""

    async def run(self, heard: Callable[[Envelope], None], missed: Callable[[str], None]) -> None:
        """Connect, and reconnect for ever; when cancelled, first send the signals that wait.

        Calls `heard` on the event loop with each envelope, also with this process's own ones, which contain
        no signals. Calls `missed` with the reason whenever signals may have been missed: after each
        connection.
        """

    def rebuild(self) -> None:
        """Open another connection and skip a number, because signals on this one may not have arrived."""

"""The socket of one connection: waits for bytes and deadlines, and ends."""

import os
from collections.abc import Callable
from typing import Protocol

import trio
from outcome import Value

from adapters.listener.shared import SharedParts
from adapters.listener.tcp import TcpStream
from adapters.listener.writer import PeerWriter

MAX_RECV = 65_536
"""Bytes of one read at the connection's end."""


class BytesMachine(Protocol):
    """The machine that receives the peer's bytes: HTTP/1.1's or a WebSocket's."""

    @property
    def reading(self) -> bool:
        """Whether bytes may be read; false is back-pressure."""

    @property
    def next_read(self) -> int:
        """The most bytes of the next read."""

    @property
    def deadline(self) -> float:
        """When the reader must go on unless bytes arrive first; seconds of trio's clock."""

    @property
    def buffered(self) -> int:
        """Received bytes that have not been processed."""

    @property
    def unread(self) -> int:
        """The same, and those that the application has received and not responded to."""

    def receive(self, data: bytes, now: float) -> None:
        """Store received bytes, none for the end of the peer's side."""


class WaitingRequests(Protocol):
    """The requests of this peer that have no response."""

    @property
    def address(self) -> str:
        """The key of the client in limits for each address."""

    def count(self) -> None:
        """A response waits for the peer: count the requests behind it."""


class Peer:
    """One peer's socket, and the task that reads from it, which waits here or does not exist.

    Tasks of the application write, set state, and wake the reader; none of them waits for another, so a
    cancellation cannot interrupt a change of state.
    """

    __slots__ = (
        "_descriptor",
        "_first",
        "_parked",
        "_tcp",
        "_wake_up",
        "machine",
        "over",
        "requests",
        "shared",
        "writer",
    )

    requests: WaitingRequests

    def __init__(self, tcp: TcpStream, machine: BytesMachine, shared: SharedParts) -> None:
        self.machine = machine
        """What receives the bytes now."""
        self._tcp = tcp
        self.shared = shared
        self.writer = PeerWriter(self, tcp, shared)
        self._descriptor = shared.watch.add(tcp.socket.fileno(), self)
        self._parked: trio.lowlevel.Task | None = None
        """The reader's task, while it waits."""
        self._wake_up: Callable[[], None] | None = None
        """Starts a reader, while there is none."""
        self._first: bytes | None = None
        """Bytes for a reader that is about to start."""
        self.over = False
        """Whether the connection is closing: further writes are pointless."""

    # --- the reader ----------------------------------------------------------------------------------------

    def sleep(self, wake_up: Callable[[], None]) -> None:
        """Call `wake_up` once, when bytes arrive or the deadline passes; it must start a reader."""
        self.watch_again()
        self._wake_up = wake_up

    def take_first(self) -> bytes | None:
        """The bytes that have started this reader, empty at their end; None if something else has."""
        data, self._first = self._first, None
        return data

    async def wait(self) -> bytes | None:
        """Wait for the peer's bytes, empty at their end; None if the deadline or `wake` has ended the
        wait.
        """
        self.watch_again()
        self._parked = trio.lowlevel.current_task()
        data: bytes | None = await trio.lowlevel.wait_task_rescheduled(self._abort_wait)
        return data

    def _abort_wait(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    def watch_again(self) -> None:
        """Apply the machine's deadline, and whether it reads."""
        machine, watch = self.machine, self.shared.watch
        watch.set_deadline(self._descriptor, machine.deadline)
        if machine.reading:
            watch.start_reading(self._descriptor)

    def rearm(self) -> None:
        """Apply the machine's new deadline to the waiting reader."""
        self.shared.watch.set_deadline(self._descriptor, self.machine.deadline)

    def wake(self) -> None:
        """Make the reader look at the state, which has changed without bytes from the peer."""
        self._resume(None)

    @property
    def asleep(self) -> bool:
        """Whether there is no reader."""
        return self._wake_up is not None

    @property
    def idle(self) -> bool:
        """Whether its reader waits for the peer."""
        return self._parked is not None or self._wake_up is not None

    def readable(self) -> None:
        """Read, if the reader waits and the machine accepts bytes now; otherwise stop reading."""
        machine = self.machine
        if (self._parked is None and self._wake_up is None) or not machine.reading:
            self.shared.watch.stop_reading(self._descriptor)
            return
        try:
            data = os.read(self._descriptor.number, machine.next_read)
        except BlockingIOError:
            return  # a spurious wake-up
        except OSError:
            self.over = self._tcp.broken = True
            self.shared.watch.postpone_end(self._descriptor)
        else:
            if data:
                self._resume(data)
            else:
                self.shared.watch.postpone_end(self._descriptor)

    def ended(self) -> None:
        """The peer's end; a reader that does not wait for it now finds it when it reads again."""
        if self._tcp.broken or self.machine.reading:
            self._resume(None if self._tcp.broken else b"")

    def due(self) -> None:
        """The deadline has passed."""
        self._resume(None)

    def _resume(self, data: bytes | None) -> None:
        """Resume the waiting reader, or start one if the connection sleeps."""
        if self._parked is not None:
            reader, self._parked = self._parked, None
            trio.lowlevel.reschedule(reader, Value(data))
        elif self._wake_up is not None:
            wake_up, self._wake_up = self._wake_up, None
            self._first = data
            wake_up()

    # --- what its writer asks ------------------------------------------------------------------------------

    @property
    def server(self) -> tuple[str, int] | None:
        """The server's own address of this connection."""
        return self._tcp.server

    @property
    def address(self) -> str:
        """The key of the client in limits for each address."""
        return self.requests.address

    def write_waits(self) -> None:
        """A response waits for the peer: count the requests behind it."""
        self.requests.count()

    def write_failed(self, *, reset: bool) -> None:
        """Nothing can be written any more; with `reset` the connection must be reset."""
        self.over = True
        if reset:
            self.abort()
        else:
            self.wake()

    # --- the end -------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Have the reader close the connection; all output has been sent."""
        self.over = True
        self.wake()

    def abort(self) -> None:
        """Reset the connection now; pending reads and writes end."""
        self.over = True
        self._tcp.drop_unsent()
        self.shared.watch.remove(self._descriptor)
        self._tcp.close()
        self.wake()

    async def close(self) -> None:
        """Close so that the last bytes arrive: shut down our side, drop the peer's bytes, then close."""
        self.shared.watch.remove(self._descriptor)
        if not self._tcp.broken:
            with trio.move_on_after(self.shared.config.linger_time):
                try:
                    async with self.writer.lock:
                        await self._tcp.send_eof()
                    while await self._tcp.receive_some(MAX_RECV):
                        pass
                except (OSError, trio.ClosedResourceError):
                    pass
        self._tcp.close()

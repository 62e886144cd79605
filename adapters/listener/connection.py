"""One TCP connection: its reader, writes, deadlines and end."""

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, LifespanState
from outcome import Value

from adapters.listener.config import ListenerConfig
from adapters.listener.counts import ListenerCounts
from adapters.listener.http_protocol import HttpProtocol
from adapters.listener.inbox import AppTasks
from adapters.listener.ledger import MemoryLedger
from adapters.listener.logs import log
from adapters.listener.tcp import TcpStream
from adapters.listener.turns import Turns
from adapters.listener.unsent import UnsentAnswers
from adapters.listener.watch import Watch
from adapters.listener.whole_requests import WholeRequests
from messaging_core.addresses import network_of

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: close drops unsent bytes and resets the connection."""


class PeerConnection(TCPServer):
    """Serves one connection: **its reader is the only task that advances it**.

    Tasks of the application write, set state, and wake the reader; none of them waits for another, so a
    cancellation cannot interrupt a change of state. A connection sleeps, without a reader, before its first
    bytes; so does a WebSocket before its accept, and an adopted one. Bytes or a deadline start a reader.

    Overrides of Hypercorn 0.18: the idle timer (dead after the first request, when quart-trio cancels the
    task that restarts it), writes without a deadline, a reader that waits for the application, a close that
    loses bytes that the peer has not read.
    """

    __slots__ = (
        "_broken",
        "_config",
        "_counts",
        "_descriptor",
        "_finishing",
        "_parked",
        "_received",
        "_tasks",
        "_tcp",
        "_unread",
        "_wake_up",
        "_watch",
        "_writing",
        "app",
        "config",
        "context",
        "protocol",
        "state",
        "turns",
        "unsent",
    )

    protocol: HttpProtocol  # type: ignore[assignment] # ours in place of the protocols that Hypercorn chooses from

    def __init__(  # noqa: PLR0917 - Hypercorn's five, and ours
        self,
        app: AppWrapper,
        hypercorn: Config,
        context: WorkerContext,
        state: LifespanState,
        stream: TcpStream,
        config: ListenerConfig,
        counts: ListenerCounts,
        nursery: trio.Nursery,
        watch: Watch,
        whole_requests: WholeRequests | None,
        unread: "MemoryLedger[PeerConnection]",
        unsent: "UnsentAnswers[PeerConnection]",
        turns: Turns,
    ) -> None:
        # Hypercorn's attributes, except its lock, its stream, and its idle task, which the reader's deadline
        # replaces.
        self.app = app
        self.config = hypercorn
        self.context = context
        self.state = state
        self._writing: trio.Lock | None = None
        """Created when a write has to wait for the first time; most connections never need one."""
        self._tcp = stream
        self._config = config
        self._counts = counts
        self._watch = watch
        self._descriptor = watch.add(stream.socket.fileno(), self)
        self._parked: trio.lowlevel.Task | None = None
        """The reader's task, while it waits."""
        self._wake_up: Callable[[], None] | None = None
        """Starts a reader, while there is none."""
        self._received: bytes | None = None
        """Bytes for a reader that is about to start."""
        self._finishing = False
        self._broken = False
        self._rest: bytes | memoryview = b""
        """The unsent rest of a write of `write_now`; it is sent before anything else."""
        self._unread = unread
        self.unsent = unsent
        self.turns = turns
        self._tasks = AppTasks(nursery, counts, config.inbox_messages, config.inbox_bytes)
        self.protocol = HttpProtocol(
            self, self._tasks, config, counts, stream.client, stream.server, whole_requests
        )

    # --- its life ------------------------------------------------------------------------------------------

    def sleep(self, wake_up: Callable[[], None]) -> None:
        """Call `wake_up` once, when bytes arrive or the deadline passes; it must then call `serve`."""
        self._watch_peer()
        self._wake_up = wake_up

    async def serve(self, wake_up: Callable[[], None]) -> bool:
        """Serve the connection, and return whether it has ended; otherwise it sleeps (see `sleep`).

        At its end, wait for the application's tasks. Raises only for a fault of the listener, which the
        caller must catch.
        """
        over = True
        try:
            over = await self._read()
            if not over:
                self.sleep(wake_up)
        finally:
            if over:
                await self.protocol.end()
                self.count_unread(0)
                await self._close()
                if await self._tasks.end(self._config.abandon_time):
                    log.warning("application_abandoned")
        return over

    async def _read(self) -> bool:
        """Advance the protocol until the connection has ended (true) or sleeps (false)."""
        protocol = self.protocol
        data, self._received = self._received, None
        while True:
            if data is not None:
                protocol.receive(data)
            elif trio.current_time() >= protocol.deadline:
                await protocol.expire()
            await protocol.advance()
            if self._finishing or self._broken:
                return True
            if protocol.sleeping:
                return False
            data = await self._wait()

    async def _wait(self) -> bytes | None:
        """Wait for the peer's bytes, empty at their end; None if the deadline or `wake` has ended the
        wait.
        """
        self._watch_peer()
        self._parked = trio.lowlevel.current_task()
        data: bytes | None = await trio.lowlevel.wait_task_rescheduled(self._abort_wait)
        return data

    def _abort_wait(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _watch_peer(self) -> None:
        self._watch.set_deadline(self._descriptor, self.protocol.deadline)
        if self.protocol.reading:
            self._watch.start_reading(self._descriptor)

    # --- called by the watch ------------------------------------------------------------------------------

    def readable(self) -> None:
        """Read, if the reader waits and the protocol accepts bytes now; otherwise stop reading."""
        if (self._parked is None and self._wake_up is None) or not self.protocol.reading:
            self._watch.stop_reading(self._descriptor)
            return
        try:
            data = os.read(self._descriptor.number, self.protocol.next_read)
        except BlockingIOError:
            return  # a spurious wake-up
        except OSError:
            self._broken = True
            self._watch.postpone_end(self._descriptor)
        else:
            if data:
                self._resume(data)
            else:
                self._watch.postpone_end(self._descriptor)

    def ended(self) -> None:
        """The peer's end; a reader that does not wait for it now finds it when it reads again."""
        if self._broken or self.protocol.reading:
            self._resume(None if self._broken else b"")

    def due(self) -> None:
        """The protocol's deadline has passed."""
        self._resume(None)

    def _resume(self, data: bytes | None) -> None:
        """Resume the waiting reader, or start one if the connection sleeps."""
        if self._parked is not None:
            reader, self._parked = self._parked, None
            trio.lowlevel.reschedule(reader, Value(data))
        elif self._wake_up is not None:
            wake_up, self._wake_up = self._wake_up, None
            self._received = data
            wake_up()

    # --- called by the protocol and the application's tasks ------------------------------------------------

    def wake(self) -> None:
        """Make the reader check the state, which has changed without bytes from the peer."""
        self._resume(None)

    def wake_if_needed(self) -> None:
        """The same, but start no reader that would have nothing to do."""
        if self._wake_up is not None and self.protocol.resting and not self.over:
            self._watch_peer()
        else:
            self.wake()

    def rearm(self) -> None:
        """Apply the protocol's new deadline to the waiting reader."""
        self._watch.set_deadline(self._descriptor, self.protocol.deadline)

    @property
    def over(self) -> bool:
        """Whether the connection is closing: further writes are pointless."""
        return self._finishing or self._broken

    def finish(self) -> None:
        """Have the reader close the connection; all output has been sent."""
        self._finishing = True
        self.wake()

    def abort(self) -> None:
        """Reset the connection now; pending reads and writes end."""
        if not self._broken:
            self._broken = True
            plain = self._tcp.socket
            with suppress(OSError):  # closed by the other side
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._watch.remove(self._descriptor)
        self._tcp.close()
        self.wake()

    def drain(self) -> None:
        """The server shuts down: close after the current request, or now if idle."""
        self.protocol.draining = True
        self.wake()

    def restart_socket(self) -> None:
        """The server shuts down: close a WebSocket with 1012, unless the application has closed it."""
        self.protocol.restarting = True
        self.wake()

    async def protocol_send(self, event: Event) -> None:
        """Write bytes, or finish: the `send` of Hypercorn's protocols."""
        if isinstance(event, RawData):
            await self.write(event.data)
            await trio.lowlevel.cancel_shielded_checkpoint()  # a tight loop of sends must let others run
        elif isinstance(event, Closed):
            self.finish()

    async def write(self, head: bytes, body: bytes = b"") -> None:
        """Write everything: without a checkpoint if the kernel accepts it at once, otherwise as `_write`
        does.

        Bytes that wait for the peer are counted meanwhile. A large body is an object of its own, not copied.
        """
        if body:
            left = self._write_both_now(head, body)
        else:
            written = self.write_now(head)
            if written == len(head):
                return
            left = () if written else (head,)
        if not left and not self._rest:
            return
        self.protocol.count()
        with self.unsent.counting(self, self.address, body or head):
            await self._write(*left)

    @property
    def address(self) -> str:
        """The key of the client in limits for each address."""
        client = self.protocol.client
        return "" if client is None else network_of(client[0])

    @property
    def idle(self) -> bool:
        """Whether its reader waits for the peer."""
        return self._parked is not None or self._wake_up is not None

    def has_room(self, size: int) -> bool:
        """Whether an answer of this size may wait in memory for the peer."""
        return self.unsent.has_room(self.address, size)

    def count_unread(self, size: int) -> None:
        """Set the bytes of its unanswered requests; beyond a bound a connection is shed."""
        self._unread.record(self, self.address, size)

    def shed_unread(self) -> bool:
        """Drop this connection's unanswered requests, the largest of all; false if that is impossible now."""
        return self.protocol.shed()

    def shed_unsent(self) -> bool:
        """Reset this connection, whose unsent answer is the largest of all."""
        if not self._broken:
            self._counts.unsent_shed += 1
            log.info("unsent_answers_too_large", client=self.address)
            self.abort()
        return True

    # --- writing -------------------------------------------------------------------------------------------

    def write_now(self, frame: bytes) -> int:
        """Write as much as the kernel accepts now, nothing if another write is pending; returns the bytes."""
        if self._broken or self._rest or (self._writing is not None and self._writing.locked()):
            return 0
        try:
            written = os.write(self._tcp.socket.fileno(), frame)
        except OSError:
            return 0  # the kernel's buffer is full; or the connection has failed, which the reader notices
        if 0 < written < len(frame):
            self._rest = memoryview(frame)[written:]
        return written

    def _write_both_now(self, head: bytes, body: bytes) -> tuple[bytes, ...]:
        """The same for two pieces; returns the pieces of which no byte has been written."""
        if self._broken or self._rest or (self._writing is not None and self._writing.locked()):
            return head, body
        try:
            written = os.writev(self._tcp.socket.fileno(), (head, body))
        except OSError:
            return head, body
        if not written:
            return head, body
        if written <= len(head):
            self._rest = head[written:]
            return (body,)
        if written < len(head) + len(body):
            self._rest = memoryview(body)[written - len(head) :]
        return ()

    async def write_frames(self, frames: bytes) -> None:
        """Write the unsent rest of `write_now`, and whole frames after it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._broken:
            await trio.lowlevel.checkpoint()  # a tight loop of sends must let others run
        else:
            await self._write(frames)

    async def _write(self, *pieces: bytes) -> None:
        """Write the unsent rest and all pieces, or reset the connection at the deadline.

        Shielded from cancellation, because nothing can follow half a frame or half a response. Each part of
        64 KiB has the deadline; the wait for another writer has it too.
        """
        deadline = trio.current_time() + self._config.write_time
        with trio.CancelScope(shield=True, deadline=deadline) as scope:
            async with self._lock():
                rest, self._rest = self._rest, b""
                for part in _parts(rest, *pieces):
                    if self._broken:
                        break
                    scope.deadline = trio.current_time() + self._config.write_time
                    try:
                        await self._tcp.send_all(part)
                    except (OSError, trio.ClosedResourceError):
                        self._broken = True
                        self.wake()
        if scope.cancelled_caught:
            self._counts.write_timeouts += 1
            log.info("peer_does_not_read")
            self.abort()

    def _lock(self) -> trio.Lock:
        if self._writing is None:
            self._writing = trio.Lock()
        return self._writing

    # --- the end -------------------------------------------------------------------------------------------

    async def _close(self) -> None:
        """Close so that the last bytes arrive: shut down our side, drop the peer's bytes, then close."""
        self._watch.remove(self._descriptor)
        if not self._broken:
            with trio.move_on_after(self._config.linger_time):
                try:
                    async with self._lock():
                        await self._tcp.send_eof()
                    while await self._tcp.receive_some(MAX_RECV):
                        pass
                except (OSError, trio.ClosedResourceError):
                    pass
        self._tcp.close()


def _parts(*pieces: bytes | memoryview) -> Iterator[memoryview]:
    """The pieces in parts of at most 64 KiB, which are views, not copies."""
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), MAX_RECV):
            yield view[start : start + MAX_RECV]

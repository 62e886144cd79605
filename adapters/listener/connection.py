"""One TCP connection: its reader, its writes, its deadlines, its end."""

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
"""SO_LINGER of zero seconds: close drops what is unsent and resets the connection."""


class PeerConnection(TCPServer):
    """Serves one connection: **its reader is the only task that advances it**.

    Tasks of the application write and set what has changed, then wake the reader; none of them waits for
    another, so that none can be cancelled halfway through a change of state. A connection from which nothing
    has come yet sleeps, and so does a WebSocket that is not accepted yet, or whose application waits for
    nothing: their reader begins, or begins again, when something comes or is due.

    Overrides of Hypercorn 0.18: the
    idle timer (dead after the first request, when quart-trio cancels the task that restarts it), writes
    without a deadline, a reader that waits for the application, a close that loses what is still unread.
    """

    __slots__ = (
        "_broken",
        "_config",
        "_counts",
        "_finishing",
        "_parked",
        "_place",
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

    protocol: HttpProtocol  # type: ignore[assignment] # ours in place of Hypercorn's choice of protocols

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
        # All of Hypercorn's but its lock, its stream, and its idle task, whose work is the reader's deadline.
        self.app = app
        self.config = hypercorn
        self.context = context
        self.state = state
        self._writing: trio.Lock | None = None
        """Made when a write has to wait for the first time; most connections never have one."""
        self._tcp = stream
        self._config = config
        self._counts = counts
        self._watch = watch
        self._place = watch.enter(stream.socket.fileno(), self)
        self._parked: trio.lowlevel.Task | None = None
        """The reader, while it waits."""
        self._wake_up: Callable[[], None] | None = None
        """Begins a reader, while there is none."""
        self._received: bytes | None = None
        """What has come for a reader that is about to begin."""
        self._finishing = False
        self._broken = False
        self._rest: bytes | memoryview = b""
        """Of what `write_now` has begun; it goes out before anything else."""
        self._unread = unread
        self.unsent = unsent
        self.turns = turns
        self._tasks = AppTasks(nursery, counts, config.inbox_messages, config.inbox_bytes)
        self.protocol = HttpProtocol(
            self, self._tasks, config, counts, stream.client, stream.server, whole_requests
        )

    # --- its life ------------------------------------------------------------------------------------------

    def sleep(self, wake_up: Callable[[], None]) -> None:
        """Call `wake_up` once something comes, or is due; then it must be served."""
        self._await_more()
        self._wake_up = wake_up

    async def serve(self, wake_up: Callable[[], None]) -> bool:
        """Serve until either side ends it, then let the application's tasks come to their end: true.

        False: it sleeps, see `sleep`. Raises what is a fault of
        ours; the caller is the boundary.
        """
        over = True
        try:
            over = await self._read()
            if not over:
                self.sleep(wake_up)
        finally:
            if over:
                await self.protocol.end()
                self.keep_unread(0)
                await self._close()
                if await self._tasks.end(self._config.abandon_time):
                    log.warning("application_abandoned")
        return over

    async def _read(self) -> bool:
        """Advance by whatever comes, until the connection is over, or sleeps: which of the two."""
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
        """What the peer has sent, nothing for the end; None if there is something else to look at."""
        self._await_more()
        self._parked = trio.lowlevel.current_task()
        data: bytes | None = await trio.lowlevel.wait_task_rescheduled(self._leave_off)
        return data

    def _leave_off(self, _: object) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    def _await_more(self) -> None:
        self._watch.move(self._place, self.protocol.deadline)
        if self.protocol.reading:
            self._watch.read(self._place)

    # --- what the watch calls ------------------------------------------------------------------------------

    def readable(self) -> None:
        """Read what has come, if anybody wants it now."""
        if (self._parked is None and self._wake_up is None) or not self.protocol.reading:
            self._watch.stop(self._place)
            return
        try:
            data = os.read(self._place.descriptor, self.protocol.next_read)
        except BlockingIOError:
            return  # woken for nothing
        except OSError:
            self._broken = True
            self._go_on(None)
        else:
            self._go_on(data)

    def due(self) -> None:
        """The protocol's deadline has passed."""
        self._go_on(None)

    def _go_on(self, data: bytes | None) -> None:
        """Let the reader go on, or begin, if it waits."""
        if self._parked is not None:
            reader, self._parked = self._parked, None
            trio.lowlevel.reschedule(reader, Value(data))
        elif self._wake_up is not None:
            wake_up, self._wake_up = self._wake_up, None
            self._received = data
            wake_up()

    # --- what its protocol and the application's tasks call ------------------------------------------------

    def wake(self) -> None:
        """Make the reader look again at what it may do: something else than received bytes has changed."""
        self._go_on(None)

    def look(self) -> None:
        """The same, but if there is no reader, and it would find nothing to do, none begins."""
        if self._wake_up is not None and self.protocol.resting and not self.over:
            self._await_more()
        else:
            self.wake()

    def rearm(self) -> None:
        """Tell the waiting reader that the protocol's deadline has changed."""
        self._watch.move(self._place, self.protocol.deadline)

    @property
    def over(self) -> bool:
        """Whether nothing that is written can arrive any more, or must."""
        return self._finishing or self._broken

    def finish(self) -> None:
        """Close, once the reader comes by: everything that was to be sent has been sent."""
        self._finishing = True
        self.wake()

    def abort(self) -> None:
        """Reset the connection now: whoever reads or writes it is set free."""
        if not self._broken:
            self._broken = True
            plain = self._tcp.socket
            with suppress(OSError):  # closed by the other side
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._watch.leave(self._place)
        self._tcp.close()
        self.wake()

    def drain(self) -> None:
        """The server ends: an idle connection closes, a request is answered, then it closes."""
        self.protocol.draining = True
        self.wake()

    def restart_socket(self) -> None:
        """The server ends: close the WebSocket with 1012, if it is one and the application has not."""
        self.protocol.restarting = True
        self.wake()

    async def protocol_send(self, event: Event) -> None:
        """Hypercorn's way out: bytes, or the end."""
        if isinstance(event, RawData):
            await self.write(event.data)
            await trio.lowlevel.cancel_shielded_checkpoint()  # a tight loop of sends must let others run
        elif isinstance(event, Closed):
            self.finish()

    async def write(self, head: bytes, body: bytes = b"") -> None:
        """Write all of it: at once if the kernel takes it, without a checkpoint, or as `_write` does.

        What waits for the peer is counted meanwhile. A large body is one object of its own, not copied.
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
        with self.unsent.keeping(self, self.address, body or head):
            await self._write(*left)

    @property
    def address(self) -> str:
        """Whom its request counts for."""
        client = self.protocol.client
        return "" if client is None else network_of(client[0])

    @property
    def idle(self) -> bool:
        """Whether its reader waits for the peer."""
        return self._parked is not None or self._wake_up is not None

    def has_room(self, size: int) -> bool:
        """Whether an answer of this size may be kept for the peer."""
        return self.unsent.has_room(self.address, size)

    def keep_unread(self, size: int) -> None:
        """Count what of its requests is here and not answered; somebody gives way where it is too much."""
        self._unread.keep(self, self.address, size)

    def give_up_unread(self) -> bool:
        """Too much has come of requests, and the most from this peer: forget it, if that is possible now."""
        return self.protocol.give_up()

    def give_up_unsent(self) -> bool:
        """Too many answers wait for their peers, and this one's is the largest: end the connection."""
        if not self._broken:
            self._counts.unsent_shed += 1
            log.info("unsent_answers_too_large", client=self.address)
            self.abort()
        return True

    # --- writing -------------------------------------------------------------------------------------------

    def write_now(self, frame: bytes) -> int:
        """Write what the kernel takes at once, unless something else is being written or is to be."""
        if self._broken or self._rest or (self._writing is not None and self._writing.locked()):
            return 0
        try:
            written = os.write(self._tcp.socket.fileno(), frame)
        except OSError:
            return 0  # the kernel is full; or the peer has gone, which the reader hears of
        if 0 < written < len(frame):
            self._rest = memoryview(frame)[written:]
        return written

    def _write_both_now(self, head: bytes, body: bytes) -> tuple[bytes, ...]:
        """The same for two pieces; gives those of them of which nothing has been written."""
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
        """Write the rest of what `write_now` has begun, and whole frames after it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._broken:
            await trio.lowlevel.checkpoint()  # a tight loop of sends must let others run
        else:
            await self._write(frames)

    async def _write(self, *pieces: bytes) -> None:
        """Write the rest of what has begun and all of these, or reset: never a part, never for ever.

        Shielded, because half a frame or half a response cannot be followed by anything; the deadline holds
        for each piece, and from the call on for who waits behind another writer.
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
        """Close so that the last bytes arrive: end our side, drop what the peer still sends, then close."""
        self._watch.leave(self._place)
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
    """All of the pieces, in parts of 64 KiB at most, none of which is a copy."""
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), MAX_RECV):
            yield view[start : start + MAX_RECV]

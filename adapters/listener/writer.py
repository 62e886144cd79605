"""Writes to one peer: whole, in order, and within a time; what waits for the peer is counted."""

import os
from collections.abc import Iterator
from typing import Protocol

import trio

from adapters.listener.logs import log
from adapters.listener.shared import SharedParts
from adapters.listener.tcp import TcpStream

MAX_WRITE = 65_536
"""Bytes of one write, which has a deadline of its own; more are written in several."""


class WriterOwner(Protocol):
    """The connection that a writer belongs to."""

    @property
    def address(self) -> str:
        """The key of the client in limits for each address."""

    def write_waits(self) -> None:
        """A response waits for the peer."""

    def write_failed(self, *, reset: bool) -> None:
        """Nothing can be written any more; with `reset` the connection must be reset."""


class PeerWriter:
    """The sending side of one connection. Holds memory in `UnsentResponses` while the peer does not read."""

    __slots__ = ("_lock", "_owner", "_rest", "_shared", "_tcp")

    def __init__(self, owner: WriterOwner, tcp: TcpStream, shared: SharedParts) -> None:
        self._owner = owner
        self._tcp = tcp
        self._shared = shared
        self._rest: bytes | memoryview = b""
        """The unsent rest of a write of `write_now`; it is sent before anything else."""
        self._lock: trio.Lock | None = None
        """Created when a write has to wait for the first time; most connections never need one."""

    @property
    def lock(self) -> trio.Lock:
        """Held by what must not be interrupted by another write."""
        if self._lock is None:
            self._lock = trio.Lock()
        return self._lock

    def write_now(self, frame: bytes) -> int:
        """Write as many bytes as the kernel accepts now, and return their number.

        Writes none while another write is pending.
        """
        if self._tcp.broken or self._rest or (self._lock is not None and self._lock.locked()):
            return 0
        try:
            written = os.write(self._tcp.socket.fileno(), frame)
        except OSError:
            return 0  # the kernel's buffer is full; or the connection has failed, which the reader notices
        if 0 < written < len(frame):
            self._rest = memoryview(frame)[written:]
        return written

    def _write_both_now(self, head: bytes, body: bytes) -> tuple[bytes, ...]:
        """Write two pieces in the same way; returns those of which no byte has been written."""
        if self._tcp.broken or self._rest or (self._lock is not None and self._lock.locked()):
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
        self._owner.write_waits()
        with self._shared.unsent.counting(self, self._owner.address, body or head):
            await self._write(*left)

    async def send(self, head: bytes, body: bytes = b"") -> None:
        """`write`, nothing for no bytes, and let other tasks run: the application may send in a tight
        loop.
        """
        if head or body:
            await self.write(head, body)
            await trio.lowlevel.cancel_shielded_checkpoint()

    async def write_frames(self, frames: bytes) -> None:
        """Write the unsent rest of `write_now`, and whole frames after it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._tcp.broken:
            await trio.lowlevel.checkpoint()  # a tight loop of sends must let others run
        else:
            await self._write(frames)

    async def _write(self, *pieces: bytes) -> None:
        """Write the unsent rest and all pieces, or reset the connection at the deadline.

        Shielded from cancellation, because nothing can follow half a frame or half a response. Each part of
        64 KiB has the deadline; the wait for another writer has it too.
        """
        write_time = self._shared.config.write_time
        with trio.CancelScope(shield=True, deadline=trio.current_time() + write_time) as scope:
            async with self.lock:
                rest, self._rest = self._rest, b""
                for part in _parts(rest, *pieces):
                    if self._tcp.broken:
                        break
                    scope.deadline = trio.current_time() + write_time
                    try:
                        await self._tcp.send_all(part)
                    except (OSError, trio.ClosedResourceError):
                        self._tcp.broken = True
                        self._owner.write_failed(reset=False)
        if scope.cancelled_caught:
            self._shared.counts.write_timeouts += 1
            log.info("peer_does_not_read")
            self._owner.write_failed(reset=True)

    def has_room(self, size: int) -> bool:
        """Whether a response of this size may wait in memory for the peer."""
        return self._shared.unsent.has_room(self._owner.address, size)

    def shed(self) -> bool:
        """Reset the connection, whose unsent response is the largest of all."""
        if not self._tcp.broken:
            self._shared.counts.unsent_shed += 1
            log.info("unsent_responses_too_large", client=self._owner.address)
            self._owner.write_failed(reset=True)
        return True


def _parts(*pieces: bytes | memoryview) -> Iterator[memoryview]:
    """The pieces in parts of at most 64 KiB, which are views, not copies."""
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), MAX_WRITE):
            yield view[start : start + MAX_WRITE]

"""The quick path for WebSocket frames: encoded once for many sockets, written without a task.

A server's frames are not masked (RFC 6455, 5.1), so one event is the same bytes on every socket. Through ASGI
each socket would encode them again and pass four tasks and locks, for one system call.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol

from adapters.listener.websocket import WebSocket
from adapters.listener.writer import PeerWriter

EXTENSION = "direct_frames"
"""The key in the scope's `extensions` under which the application finds its `DirectFrames`, as `sink`."""


class AdoptableSocket(Protocol):
    """The rest of an accepted socket, as far as direct frames need it."""

    async def close(self, code: int, reason: str) -> None:
        """Close it, as a websocket.close does."""

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task of the application, unless the socket has ended."""

    def adopt(self, ended: Callable[[], None], received: Callable[[str | bytes], None] | None) -> None:
        """Keep it open without a task of the application."""


class DirectFrames:
    """Writes whole WebSocket frames, which the application has encoded, to an accepted socket."""

    __slots__ = ("_machine", "_socket", "_writer")

    def __init__(self, writer: PeerWriter, machine: WebSocket, socket: AdoptableSocket) -> None:
        self._writer = writer
        self._machine = machine
        self._socket = socket

    def offer(self, frames: bytes) -> int:
        """Write whole frames without waiting, if no other write is pending; returns the bytes written.

        0: the kernel's buffer is full, another write is in progress, or the socket is not open. Fewer than
        all: a frame is incomplete, and the caller must call `write` soon, with more frames or with nothing,
        to send the rest.
        """
        return self._writer.write_now(frames) if self._machine.open else 0

    async def write(self, frames: bytes) -> None:
        """Write one or more frames after an incomplete one; waits as ASGI's `send` does, with its deadline.

        Writes nothing to a closed socket.
        """
        await self._writer.write_frames(frames if self._machine.open else b"")

    async def close(self, code: int, reason: str) -> None:
        """Close the socket, as a websocket.close does."""
        await self._socket.close(code, reason)

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task of the application on this connection; does nothing after the connection's end."""
        self._socket.start_soon(task)

    def adopt(self, ended: Callable[[], None], received: Callable[[str | bytes], None] | None = None) -> None:
        """Keep the socket open, without a task, after the application's call has returned.

        The listener reads the peer's messages, checks them against its limits, and calls `received` with
        each, those included that arrived before; without it, it drops them. It calls `ended` once, when
        either side closes the socket; immediately if the socket is closed already.
        """
        self._socket.adopt(ended, received)

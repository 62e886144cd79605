"""The short way out of a WebSocket: frames that are made once for many sockets, written without a task.

A server's frames are not masked (RFC 6455, 5.1), so one event is the same bytes on every socket. Through ASGI
each socket would make them again, and pass four tasks and locks, for what is one system call.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.listener.connection import PeerConnection
    from adapters.listener.socket_stream import SocketStream

EXTENSION = "direct_frames"
"""The key in the scope's `extensions` under which the application finds its `DirectFrames`, as `sink`."""


class DirectFrames:
    """Writes whole WebSocket frames to an accepted socket; the application frames them itself."""

    __slots__ = ("_link", "_stream")

    def __init__(self, link: "PeerConnection", stream: "SocketStream") -> None:
        self._link = link
        self._stream = stream

    def offer(self, frames: bytes) -> int:
        """Write whole frames now if nothing is in the way, without waiting; how many bytes were taken.

        None: nothing has been written, because the kernel is full, another write is under way, or the socket
        is not open. Some: a frame has begun, and `write` must be called soon, with more frames or with
        nothing, to send the rest of it.
        """
        return self._link.write_now(frames) if self._stream.open else 0

    async def write(self, frames: bytes) -> None:
        """Write one or more frames after what has begun; waits as ASGI's `send` does, with its deadline.

        On a socket that is closed nothing is written.
        """
        await self._link.write_frames(frames if self._stream.open else b"")

    async def close(self, code: int, reason: str) -> None:
        """Close the socket, as a websocket.close would."""
        await self._stream.app_send({"type": "websocket.close", "code": code, "reason": reason})

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task of the application's on this connection; nothing happens once it is over."""
        self._stream.start_soon(task)

    def adopt(self, ended: Callable[[], None]) -> None:
        """Keep the socket open when the application's call returns, which then costs no task.

        What the peer sends is read, held against its bounds, and dropped. `ended` is called once, when the
        socket is closed, from either side; at once if it is closed already.
        """
        self._stream.adopt(ended)

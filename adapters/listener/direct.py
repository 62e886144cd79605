"""The short way out of a WebSocket: frames that are made once for many sockets, written without a task.

A server's frames are not masked (RFC 6455, 5.1), so one event is the same bytes on every socket. Through ASGI
each socket would make them again, and pass four tasks and locks, for what is one system call.
"""

from typing import TYPE_CHECKING

from hypercorn.protocol.ws_stream import ASGIWebsocketState

if TYPE_CHECKING:
    from adapters.listener.connection import Connection
    from adapters.listener.socket_stream import SocketStream

EXTENSION = "direct_frames"
"""The key in the scope's `extensions` under which the application finds its `DirectFrames`, as `sink`."""


class DirectFrames:
    """Writes whole WebSocket frames to an accepted socket; the application frames them itself."""

    __slots__ = ("_link", "_stream")

    def __init__(self, link: "Connection", stream: "SocketStream") -> None:
        self._link = link
        self._stream = stream

    def offer(self, frame: bytes) -> int:
        """Write a frame now if nothing is in its way, without waiting; how many of its bytes were taken.

        None: nothing has been written, because the kernel is full, another write is under way, or the socket
        is not open. Some: the frame has begun, and `write` must be called soon, with more frames or with
        nothing, to send the rest of it.
        """
        return self._link.write_now(frame) if self._open else 0

    async def write(self, frames: bytes) -> None:
        """Write one or more frames after what has begun; waits as ASGI's `send` does, with its deadline.

        On a socket that is closed nothing is written.
        """
        await self._link.write_frames(frames if self._open else b"")

    @property
    def _open(self) -> bool:
        return self._stream.state is ASGIWebsocketState.CONNECTED and not self._stream.closed

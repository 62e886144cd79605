"""The sockets of the two hand-tuned peers: each frame is built once, and written past ASGI.

They subclass uvicorn's WebSocket protocol, which is not a public interface of uvicorn. A connection with more
than 1 MiB of unsent bytes is aborted.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlite_store import Stored
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

OUTBOX_BYTES = 1024 * 1024


class UvicornSocket(WebSocketsSansIOProtocol):
    """Sends frames that are built once for many sockets; the unsent bytes in the transport are bounded."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if not self.handshake_complete:
            self.scope["extensions"]["socket"] = self

    def put(self, frame: bytes) -> None:
        if self.close_sent or self.transport.is_closing():
            return
        if not self.writable.is_set() and self.transport.get_write_buffer_size() > OUTBOX_BYTES:
            self.transport.abort()
        else:
            self.transport.write(frame)


def text_frame(payload: bytes) -> bytes:
    """RFC 6455 5.2: an unmasked text frame."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


class Sockets:
    """The open sockets of each user."""

    def __init__(self) -> None:
        self._of: defaultdict[int, set[UvicornSocket]] = defaultdict(set)

    @contextmanager
    def connected(self, user_id: int, socket: UvicornSocket) -> Iterator[None]:
        self._of[user_id].add(socket)
        try:
            yield
        finally:
            self._of[user_id].discard(socket)
            if not self._of[user_id]:
                del self._of[user_id]

    def deliver(self, messages: Sequence[Stored]) -> None:
        """Write all frames of a chat to each of its sockets in one system call."""
        frames: defaultdict[frozenset[int], list[bytes]] = defaultdict(list)
        for message in messages:
            if message.event is not None:
                frames[message.members].append(text_frame(message.event))
        for members, chat_frames in frames.items():
            joined = b"".join(chat_frames)
            for user_id in members:
                for socket in self._of.get(user_id, ()):
                    socket.put(joined)

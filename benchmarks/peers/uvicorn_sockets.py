"""What the two peers that are tuned by hand do about sockets: a frame is made once and written past ASGI.

uvicorn's WebSocket protocol is subclassed for it, of which uvicorn promises nothing. A reader so slow that
1 MiB waits for it is cut off.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlite_store import Stored
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

OUTBOX_BYTES = 1024 * 1024


class Socket(WebSocketsSansIOProtocol):
    """Takes frames that are made once for many sockets; what waits in the transport is bounded."""

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
        self._of: defaultdict[int, set[Socket]] = defaultdict(set)

    @contextmanager
    def connected(self, user_id: int, socket: Socket) -> Iterator[None]:
        self._of[user_id].add(socket)
        try:
            yield
        finally:
            self._of[user_id].discard(socket)
            if not self._of[user_id]:
                del self._of[user_id]

    def deliver(self, messages: Sequence[Stored]) -> None:
        """One write for all that a chat's sockets are to hear: each is a system call."""
        frames: defaultdict[frozenset[int], list[bytes]] = defaultdict(list)
        for message in messages:
            if message.event is not None:
                frames[message.members].append(text_frame(message.event))
        for members, told in frames.items():
            joined = b"".join(told)
            for user_id in members:
                for socket in self._of.get(user_id, ()):
                    socket.put(joined)

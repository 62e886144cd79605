"""One socket's frames: their encoding, and the bounded queue of those not written yet.

A socket whose peer does not read fills its outbox. Ephemeral frames are shed once it is half full. A
durable frame that does not fit means that the socket must be closed, so that its client reconnects and
catches up instead of missing an event unknowingly.
"""

from collections import deque
from collections.abc import Iterator
from enum import Enum

from messaging_core.limits import Limits


def text_frame(payload: bytes) -> bytes:
    """A whole text message from a server (RFC 6455, 5.2): not masked, so the same bytes for every socket."""
    size = len(payload)
    if size < 126:
        head = bytes((FIN_TEXT, size))
    elif size < 1 << 16:
        head = bytes((FIN_TEXT, 126)) + size.to_bytes(2)
    else:
        head = bytes((FIN_TEXT, 127)) + size.to_bytes(8)
    return head + payload


def payloads(frames: bytes) -> Iterator[bytes]:
    """Yields the payloads of concatenated frames from `text_frame`."""
    start = 0
    while start < len(frames):
        size = frames[start + 1]
        start += 2
        wide = {126: 2, 127: 8}.get(size, 0)
        if wide:
            size = int.from_bytes(frames[start : start + wide])
            start += wide
        yield frames[start : start + size]
        start += size


FIN_TEXT = 0x81
"""The first byte of a frame that is a whole text message."""


class PutResult(Enum):
    """The result of `Outbox.put`."""

    QUEUED = "queued"
    SHED = "shed"
    """An ephemeral frame was dropped."""
    FULL = "full"
    """A durable frame does not fit: close the socket as a slow consumer."""


class Outbox:
    """The frames queued for one socket, oldest first; bounded by `outbox_frames` and `outbox_bytes`."""

    __slots__ = ("_frames", "_max_bytes", "_max_frames", "_size")

    def __init__(self, limits: Limits) -> None:
        self._max_frames = limits.outbox_frames
        self._max_bytes = limits.outbox_bytes
        self._frames: deque[bytes] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def size(self) -> int:
        """Queued bytes."""
        return self._size

    def put(self, frame: bytes, *, ephemeral: bool = False) -> PutResult:
        """Append a frame, unless it does not fit."""
        share = 2 if ephemeral else 1
        if (
            len(self._frames) + 1 > self._max_frames // share
            or self._size + len(frame) > self._max_bytes // share
        ):
            return PutResult.SHED if ephemeral else PutResult.FULL
        self._frames.append(frame)
        self._size += len(frame)
        return PutResult.QUEUED

    def take(self, size: int = 0) -> bytes:
        """Remove and join the oldest frames: all that fit in `size` bytes, and at least one.

        Returns no bytes when the outbox is empty.
        """
        batch = self._frames.popleft() if self._frames else b""
        if self._frames and len(batch) + len(self._frames[0]) <= size:
            frames = [batch]
            length = len(batch)
            while self._frames and length + len(self._frames[0]) <= size:
                frames.append(self._frames.popleft())
                length += len(frames[-1])
            batch = b"".join(frames)
        self._size -= len(batch)
        return batch

"""One socket's frames: how they are written, and what waits to be written, within its bounds.

A socket whose peer does not read fills its outbox. Ephemeral frames are shed once it is half full; a
durable frame that finds no room means that the socket must be closed, so that its client comes back and
catches up instead of missing something unknowingly.
"""

from collections import deque
from collections.abc import Iterator
from enum import Enum

from messaging_core.limits import Limits


def text_frame(payload: bytes) -> bytes:
    """A whole text message as a server sends it (RFC 6455, 5.2): not masked, so the same for every socket."""
    size = len(payload)
    if size < 126:
        head = bytes((FIN_TEXT, size))
    elif size < 1 << 16:
        head = bytes((FIN_TEXT, 126)) + size.to_bytes(2)
    else:
        head = bytes((FIN_TEXT, 127)) + size.to_bytes(8)
    return head + payload


def payloads(frames: bytes) -> Iterator[bytes]:
    """The payloads of frames that `text_frame` has made, joined one after another."""
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


class Room(Enum):
    """What became of a frame."""

    TAKEN = "taken"
    SHED = "shed"
    """An ephemeral frame that was dropped."""
    FULL = "full"
    """A durable frame that finds no room: close the socket as a slow consumer."""


class Outbox:
    """The frames that wait for one socket, oldest first; bounded by `outbox_frames` and `outbox_bytes`."""

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
        """Bytes that wait."""
        return self._size

    def put(self, frame: bytes, *, ephemeral: bool = False) -> Room:
        """Add a frame at the end; it is not added unless the answer is `TAKEN`."""
        share = 2 if ephemeral else 1
        if (
            len(self._frames) + 1 > self._max_frames // share
            or self._size + len(frame) > self._max_bytes // share
        ):
            return Room.SHED if ephemeral else Room.FULL
        self._frames.append(frame)
        self._size += len(frame)
        return Room.TAKEN

    def take(self, size: int = 0) -> bytes:
        """The oldest frames, joined and taken out: all that fit in `size` bytes, and one in any case.

        Nothing when nothing waits.
        """
        taken = self._frames.popleft() if self._frames else b""
        if self._frames and len(taken) + len(self._frames[0]) <= size:
            frames = [taken]
            length = len(taken)
            while self._frames and length + len(self._frames[0]) <= size:
                frames.append(self._frames.popleft())
                length += len(frames[-1])
            taken = b"".join(frames)
        self._size -= len(taken)
        return taken

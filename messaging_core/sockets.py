"""One socket's outbox: what waits to be written, within its bounds.

A socket whose peer does not read fills its outbox. Ephemeral frames are shed once it is half full; a
durable frame that finds no room means that the socket must be closed, so that its client comes back and
catches up instead of missing something unknowingly.
"""

from collections import deque
from enum import Enum

from messaging_core.limits import Limits


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

    def get(self) -> bytes | None:
        """The oldest frame, taken out; None when nothing waits."""
        if not self._frames:
            return None
        frame = self._frames.popleft()
        self._size -= len(frame)
        return frame

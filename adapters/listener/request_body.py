"""A request's body as it comes: how much of it there is, and how much of that the application is given."""

from adapters.listener.chunks import ChunkedBody
from adapters.listener.config import ListenerConfig
from adapters.listener.head import Fields


class RequestBody:
    """The body of one request that goes through h11."""

    __slots__ = ("_chunks", "_most", "declares_too_much", "size", "too_large")

    def __init__(self, fields: Fields, limits: ListenerConfig) -> None:
        told = dict(fields)
        self._most = limits.body_bytes
        self.size = 0
        """Bytes that have come."""
        self._chunks: ChunkedBody | None = None
        if b"transfer-encoding" in told:
            self._chunks = ChunkedBody(max_bytes=limits.head_bytes, max_fields=limits.head_fields)
        self.declares_too_much = int(told.get(b"content-length", 0)) > self._most
        self.too_large = False
        """More has come than is taken."""

    def take(self, received: bytearray) -> bytes:
        """Take off the front what h11 may be given. Raises `Refused`."""
        if self._chunks is not None:
            return self._chunks.take(received)
        data = bytes(received)
        received.clear()
        return data

    def within(self, data: bytes) -> bytes:
        """What of it the application is given: one byte too many at most, for it to say so in its own way."""
        self.size += len(data)
        excess = self.size - self._most
        if excess <= 0:
            return data
        self.too_large = True
        return data[: max(0, len(data) - excess + 1)]

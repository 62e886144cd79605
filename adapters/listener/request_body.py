"""A request's body in transmission: its size, and the part of it that the application receives."""

from adapters.listener.chunks import ChunkedBody
from adapters.listener.config import ListenerConfig
from adapters.listener.head import Fields
from adapters.listener.refused_request import NOT_WELL_FORMED, RefusedRequest


class RequestBody:
    """The body of one request through h11."""

    __slots__ = ("_chunks", "_max_bytes", "declares_too_much", "size", "too_large")

    def __init__(self, fields: Fields, limits: ListenerConfig) -> None:
        headers = dict(fields)
        self._max_bytes = limits.body_bytes
        self.size = 0
        """Bytes received."""
        self._chunks: ChunkedBody | None = None
        if b"transfer-encoding" in headers:
            self._chunks = ChunkedBody(max_bytes=limits.head_bytes, max_fields=limits.head_fields)
        self.declares_too_much = int(headers.get(b"content-length", 0)) > self._max_bytes
        self.too_large = False
        """More bytes have been received than allowed."""

    def take(self, received: bytearray) -> bytes:
        """Remove and return the bytes that h11 may parse. Raises `RefusedRequest`."""
        if self._chunks is not None:
            return self._chunks.take(received)
        data = bytes(received)
        received.clear()
        return data

    def within(self, data: bytes) -> bytes:
        """The part for the application: at most one byte beyond the limit, so that it can respond with 413
        itself.
        """
        self.size += len(data)
        excess = self.size - self._max_bytes
        if excess <= 0:
            return data
        self.too_large = True
        return data[: max(0, len(data) - excess + 1)]


def take_whole_body(received: bytearray, length: int, *, ended: bool) -> bytes | None:
    """Remove and return a body of this length; None while a part of it is missing.

    Raises `RefusedRequest` if the peer has ended its side before.
    """
    if len(received) < length:
        if ended:
            raise RefusedRequest(400, NOT_WELL_FORMED)
        return None
    body = bytes(received[:length])
    del received[:length]
    return body

"""Checks the lines of a chunked body before h11 parses them, by the same rules as a head.

h11 0.16 accepts a bare LF as the end of a trailer field and of the trailers, folded lines, and control
characters. A proxy that reads them differently finds the body's end elsewhere (request smuggling).
"""

import re

from adapters.listener.head import END, is_regular
from adapters.listener.refused_request import RefusedRequest

_SIZE = re.compile(rb"[0-9A-Fa-f]{1,20}")


class ChunkedBody:
    """The reading position in a chunked body."""

    __slots__ = ("_left", "_max_bytes", "_max_fields", "_only_trailers_left")

    def __init__(self, *, max_bytes: int, max_fields: int) -> None:
        self._max_bytes = max_bytes
        self._max_fields = max_fields
        self._left = 0
        """Bytes of the chunk still to be received, with the CRLF behind it."""
        self._only_trailers_left = False

    def take(self, received: bytearray) -> bytes:
        """Remove and return the bytes that h11 may parse: of one chunk those received, or all the trailers.

        Returns nothing if more bytes are needed for a decision. Raises `RefusedRequest`.
        """
        if self._only_trailers_left:
            size = self._size_of_trailers(received)
        else:
            size = self._left or self._size_of_chunk(received)
        checked = bytes(received[:size])
        del received[:size]
        self._left = 0 if self._only_trailers_left else size - len(checked)
        return checked

    def _size_of_chunk(self, received: bytearray) -> int:
        """Of the last chunk only the size of its first line."""
        end = received.find(b"\r\n")
        line = received if end < 0 else received[: end + 2]
        if len(line) > self._max_bytes:
            raise RefusedRequest(431, "The line before a chunk is too long.", code="headers_too_large")
        if not is_regular(line):
            raise RefusedRequest(
                400, "The line before a chunk holds a control character, or a bare CR or LF."
            )
        if end < 0:
            return 0
        found = _SIZE.match(line)
        size = int(found[0], 16) if found else 0  # h11 refuses a line without a size
        self._only_trailers_left = size == 0
        return len(line) + (size + 2 if size else 0)

    def _size_of_trailers(self, received: bytearray) -> int:
        if received.startswith(b"\r\n"):
            return 2
        end = received.find(END)
        trailers = received if end < 0 else received[: end + len(END)]
        if len(trailers) > self._max_bytes:
            raise RefusedRequest(
                431, f"The trailers are larger than {self._max_bytes} bytes.", code="headers_too_large"
            )
        if not is_regular(trailers):
            raise RefusedRequest(
                400, "The trailers hold a control character, a bare CR or LF, or a folded line."
            )
        if trailers.count(b"\r\n") > self._max_fields + 1:
            raise RefusedRequest(
                431, f"There are more than {self._max_fields} trailers.", code="headers_too_large"
            )
        return 0 if end < 0 else len(trailers)

"""A chunked body, taken apart as far as its lines are judged before h11 sees them, by the rules for a head.

h11 0.16 takes a bare LF for the end of a trailer field, and of all of them, and folded lines, and control
characters: to whoever reads differently the body ends elsewhere.
"""

import re

from adapters.listener.answers import RefusedRequest
from adapters.listener.head import END, is_regular

_SIZE = re.compile(rb"[0-9A-Fa-f]{1,20}")


class ChunkedBody:
    """Where in a chunked body its reader is."""

    __slots__ = ("_left", "_max_bytes", "_max_fields", "_only_trailers_left")

    def __init__(self, *, max_bytes: int, max_fields: int) -> None:
        self._max_bytes = max_bytes
        self._max_fields = max_fields
        self._left = 0
        """Bytes of the chunk that have not come yet, with the line's end behind it."""
        self._only_trailers_left = False

    def take(self, received: bytearray) -> bytes:
        """Take off the front what h11 may be given: of one chunk what has come, or all the trailers.

        Nothing where more must come before it can be judged. Raises `RefusedRequest`.
        """
        if self._only_trailers_left:
            size = self._size_of_trailers(received)
        else:
            size = self._left or self._size_of_chunk(received)
        taken = bytes(received[:size])
        del received[:size]
        self._left = 0 if self._only_trailers_left else size - len(taken)
        return taken

    def _size_of_chunk(self, received: bytearray) -> int:
        """Of its first line alone, where it is the last chunk."""
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
        size = int(found[0], 16) if found else 0  # h11 refuses what is none
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

"""Writes and parses the parts of HTTP/1.1 and WebSocket that the load needs."""

import re
from collections.abc import Iterator

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

CLOSE = 8
PING = 9
PONG = 10


class Malformed(Exception):
    """The server sent bytes that the load cannot parse."""


def request(method: str, path: str, *, token: str | None = None, body: bytes = b"", **fields: str) -> bytes:
    """A whole request; the names of `fields` are sent with `-` for `_`."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def upgrade(token: str) -> bytes:
    """The request that opens a socket. Its key is constant: the load does not verify Sec-WebSocket-Accept."""
    return request(
        "GET",
        f"/ws?token={token}",
        Upgrade="websocket",
        Connection="Upgrade",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        Sec_WebSocket_Version="13",
    )


def response_size(data: bytes) -> int:
    """The size of the response at the start of `data`; 0 until its head is complete.

    Raises `Malformed` for a response without a Content-Length.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    length = CONTENT_LENGTH.search(data, 0, end)
    if length is None:
        raise Malformed(f"a response without Content-Length: {data[:end]!r}")
    return end + 4 + int(length[1])


def response_body(response: bytes) -> bytes:
    """The body of a whole response."""
    return response[response.index(b"\r\n\r\n") + 4 :]


def frame_size(data: bytes | bytearray, start: int) -> tuple[int, int]:
    """The sizes of the header and of the whole frame at `start`; zeros until the header is complete.

    Raises `Malformed` for a masked frame, a fragment, or reserved bits.
    """
    available = len(data) - start
    if available < 2:
        return 0, 0
    first, length = data[start], data[start + 1]
    if length & 0x80 or first & 0x70 or not first & 0x80:
        raise Malformed(f"a frame that begins with {data[start : start + 2].hex()}")
    if length < 126:
        return 2, 2 + length
    header = 4 if length == 126 else 10
    if available < header:
        return 0, 0
    return header, header + int.from_bytes(data[start + 2 : start + header])


def walk(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Opcode, start, start of the payload, and end of each whole frame at the start of `data`."""
    start = 0
    while True:
        header, size = frame_size(data, start)
        if size == 0 or start + size > len(data):
            return
        yield data[start] & 15, start, start + header, start + size
        start += size


def pong(payload: bytes) -> bytes:
    """A pong frame with this payload, masked with zeros."""
    return bytes([0x80 | PONG, 0x80 | len(payload), 0, 0, 0, 0]) + payload

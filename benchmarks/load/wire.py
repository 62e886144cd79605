"""Bytes of HTTP/1.1 and WebSocket, made and read by hand: no more of either than the load needs."""

import re
from collections.abc import Iterator

CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

CLOSE = 8
PING = 9
PONG = 10


class Malformed(Exception):
    """What came is not what the load can read."""


def request(method: str, path: str, *, token: str | None = None, body: bytes = b"", **fields: str) -> bytes:
    """A whole request; fields are written with `-` for `_`."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def upgrade(token: str) -> bytes:
    """The request that opens a socket. Its key is fixed: nobody verifies the answer's."""
    return request(
        "GET",
        f"/ws?token={token}",
        Upgrade="websocket",
        Connection="Upgrade",
        Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        Sec_WebSocket_Version="13",
    )


def answer_size(data: bytes) -> int:
    """How long the answer is that `data` begins with; 0 while its head is not whole.

    Raises `Malformed` for an answer without a Content-Length.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    length = CONTENT_LENGTH.search(data, 0, end)
    if length is None:
        raise Malformed(f"an answer without Content-Length: {data[:end]!r}")
    return end + 4 + int(length[1])


def answer_body(answer: bytes) -> bytes:
    """What comes after the head of a whole answer."""
    return answer[answer.index(b"\r\n\r\n") + 4 :]


def frame_size(data: bytes | bytearray, start: int) -> tuple[int, int]:
    """Bytes of the header and of the whole of the server's frame at `start`; zeros until the header is whole.

    Raises `Malformed` for a masked frame, a fragment, or reserved bits.
    """
    held = len(data) - start
    if held < 2:
        return 0, 0
    first, length = data[start], data[start + 1]
    if length & 0x80 or first & 0x70 or not first & 0x80:
        raise Malformed(f"a frame that begins with {data[start : start + 2].hex()}")
    if length < 126:
        return 2, 2 + length
    header = 4 if length == 126 else 10
    if held < header:
        return 0, 0
    return header, header + int.from_bytes(data[start + 2 : start + header])


def walk(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Opcode, start, start of the payload, and end of each whole frame that `data` begins with."""
    start = 0
    while True:
        header, size = frame_size(data, start)
        if size == 0 or start + size > len(data):
            return
        yield data[start] & 15, start, start + header, start + size
        start += size


def pong(payload: bytes) -> bytes:
    """The answer to a ping, masked with zeros."""
    return bytes([0x80 | PONG, 0x80 | len(payload), 0, 0, 0, 0]) + payload

"""A WebSocket's opening handshake (RFC 6455, 4.2): what is asked is judged and made plain, and answered.

Hypercorn 0.18 takes the last of several header lines where the standard joins them, decodes them as ASCII
without a net (bytes that are not end the process), and accepts permessage-deflate whenever it is offered.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping

from wsproto.utilities import generate_accept_token

from adapters.listener.answers import RefusedRequest
from adapters.listener.head import Fields

SWITCHING = 101
VERSION = b"13"
KEY_BYTES = 16

_JOINED = (b"connection", b"upgrade", b"sec-websocket-protocol")
_SINGLE = (b"sec-websocket-key", b"sec-websocket-version")


def asks_for_socket(method: bytes, http_version: bytes, fields: Fields) -> bool:
    """Whether a request wants to become a WebSocket; any other upgrade is ignored, as it may be."""
    return (
        method == b"GET"
        and http_version == b"1.1"
        and b"upgrade" in _tokens(fields, b"connection")
        and b"websocket" in _tokens(fields, b"upgrade")
    )


def plain_handshake(fields: Fields) -> Fields:
    """The handshake's header fields, one line each, ASCII, and without extensions, so that none is agreed on.

    Raises `RefusedRequest`: 426 for another version, 400 for what is no handshake.
    """
    found: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        found.setdefault(name, []).append(value)
    if found.get(b"sec-websocket-version") != [VERSION]:
        version = (b"sec-websocket-version", VERSION)
        raise RefusedRequest(
            426, "WebSocket version 13 is spoken here.", code="upgrade_required", headers=(version,)
        )
    if len(keys := found.get(b"sec-websocket-key", [])) != 1 or not _is_key(keys[0]):
        raise RefusedRequest(400, "Sec-WebSocket-Key is not 16 bytes in base64.")
    joined = {name: b", ".join(found[name]) for name in _JOINED if name in found}
    joined[b"upgrade"] = b"websocket"  # whatever else was offered
    if not all(value.isascii() for value in joined.values()):
        raise RefusedRequest(400, "The handshake holds what is not ASCII.")
    others = [(name, value) for name, value in fields if name not in _HANDLED]
    return [*others, *joined.items(), *((name, found[name][0]) for name in _SINGLE)]


def handshake_beyond_doubt(method: str, fields: Mapping[str, str]) -> Fields | None:
    """`plain_handshake` of a head with one line a field; None for what is refused, or asks for no socket."""
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
    if not asks_for_socket(method.encode(), b"1.1", encoded):
        return None
    try:
        return plain_handshake(encoded)
    except RefusedRequest:
        return None


def accepting_answer(key: bytes, subprotocol: str | None, more: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The 101 to a handshake with this key, as it goes over the wire, and with more header fields.

    Raises `ValueError` for what cannot be sent: with a line break in it, or not ASCII.
    """
    fields = [
        (b"sec-websocket-accept", generate_accept_token(key)),
        (b"upgrade", b"WebSocket"),
        (b"connection", b"Upgrade"),
        *more,
    ]
    if subprotocol is not None:
        fields.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
    answer = b"".join(
        [b"HTTP/1.1 %d \r\n" % SWITCHING, *(b"%b: %b\r\n" % field for field in fields), b"\r\n"]
    )
    if not answer.count(b"\r") == answer.count(b"\n") == len(fields) + 2:
        raise ValueError("a header field of the answer has a line break in it")
    return answer


_HANDLED = {*_JOINED, *_SINGLE, b"sec-websocket-extensions"}


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == KEY_BYTES
    except binascii.Error:
        return False


def _tokens(fields: Fields, wanted: bytes) -> set[bytes]:
    lines = (value for name, value in fields if name == wanted)
    return {token.strip().lower() for line in lines for token in line.split(b",")}

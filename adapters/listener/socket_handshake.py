"""A WebSocket's opening handshake (RFC 6455, 4.2): its check, its normal form, and its response.

Hypercorn 0.18 reads the last of several header lines where the standard joins them, decodes them as ASCII
unchecked (other bytes end the process), and accepts permessage-deflate whenever a client offers it.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping

from wsproto.utilities import generate_accept_token

from adapters.listener.head import Fields
from adapters.listener.refused_request import RefusedRequest

SWITCHING = 101
VERSION = b"13"
KEY_BYTES = 16

_JOINED = (b"connection", b"upgrade", b"sec-websocket-protocol")
_SINGLE = (b"sec-websocket-key", b"sec-websocket-version")


def asks_for_socket(method: bytes, http_version: bytes, fields: Fields) -> bool:
    """Whether a request asks for a WebSocket; any other upgrade is ignored, as RFC 9110, 7.8, allows."""
    return (
        method == b"GET"
        and http_version == b"1.1"
        and b"upgrade" in _tokens(fields, b"connection")
        and b"websocket" in _tokens(fields, b"upgrade")
    )


def plain_handshake(fields: Fields) -> Fields:
    """The handshake's header fields, one line each, ASCII, and without extensions, so that none is accepted.

    Raises `RefusedRequest`: 426 for another version, 400 for an invalid handshake.
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
    joined[b"upgrade"] = b"websocket"  # and no other protocol offered
    if not all(value.isascii() for value in joined.values()):
        raise RefusedRequest(400, "The handshake's header fields must be ASCII.")
    others = [(name, value) for name, value in fields if name not in _HANDLED]
    return [*others, *joined.items(), *((name, found[name][0]) for name in _SINGLE)]


def handshake_beyond_doubt(method: str, fields: Mapping[str, str]) -> Fields | None:
    """`plain_handshake` of a head with one line a field; None for a refused or other request."""
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in fields.items()]
    if not asks_for_socket(method.encode(), b"1.1", encoded):
        return None
    try:
        return plain_handshake(encoded)
    except RefusedRequest:
        return None


def accepting_response(key: bytes, subprotocol: str | None, more: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The bytes of the 101 for a handshake with this key, with `more` header fields.

    Raises `ValueError` for a field with a line break, or a subprotocol that is not ASCII.
    """
    fields = [
        (b"sec-websocket-accept", generate_accept_token(key)),
        (b"upgrade", b"WebSocket"),
        (b"connection", b"Upgrade"),
        *more,
    ]
    if subprotocol is not None:
        fields.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
    response = b"".join(
        [b"HTTP/1.1 %d \r\n" % SWITCHING, *(b"%b: %b\r\n" % field for field in fields), b"\r\n"]
    )
    if not response.count(b"\r") == response.count(b"\n") == len(fields) + 2:
        raise ValueError("a header field of the response has a line break in it")
    return response


_HANDLED = {*_JOINED, *_SINGLE, b"sec-websocket-extensions"}


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value, validate=True)) == KEY_BYTES
    except binascii.Error:
        return False


def _tokens(fields: Fields, wanted: bytes) -> set[bytes]:
    lines = (value for name, value in fields if name == wanted)
    return {token.strip().lower() for line in lines for token in line.split(b",")}

"""CORS (the Fetch standard, section 3.2) for every answer: an ASGI layer around the application.

It reflects the origin, never sends `*`, because credentials are allowed; `Vary: Origin` separates the entries
of caches. Sockets pass through unchanged: browsers do not apply CORS to them.
"""

import re
from collections.abc import Collection

from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    HTTPResponseStartEvent,
    HTTPScope,
    Scope,
)

ANY_ORIGIN = "*"

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
REQUEST_HEADERS = "Authorization, Content-Type, Idempotency-Key, X-Request-ID"
"""Each by name: a `*` does not cover Authorization."""
EXPOSED_HEADERS = "Idempotency-Replayed, Retry-After, WWW-Authenticate, X-Request-ID"
PREFLIGHT_SECONDS = "600"
CACHED_ORIGINS = 1000
"""Cached origins. Clients may send any number of others; those are not cached."""

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(0|[1-9][0-9]{0,4}))?")
_IMPLIED_PORTS = {"http": "80", "https": "443"}

Fields = tuple[tuple[str, str], ...]


def origin_allowed(origin: str, allowed: Collection[str]) -> bool:
    """Whether pages of this origin may call; `*` in `allowed` allows all."""
    return ANY_ORIGIN in allowed or origin in allowed


def is_origin(text: str) -> bool:
    """Whether a browser can send this text as an Origin: SCHEME://HOST[:PORT], compared as a whole.

    It is in lower case, has no path, and omits the port that the scheme implies.
    """
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return False
    scheme, port = found.groups()
    return port is None or (int(port) <= 65535 and port != _IMPLIED_PORTS.get(scheme))


class Cors:
    """Wraps an ASGI application; `origins` are the allowed origins, such as `https://app.example`, or `*`."""

    def __init__(self, app: ASGIFramework, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._fields: dict[str | None, Fields] = {}

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = self.headers(_header(scope, b"origin"))

        async def send_with_cors(event: ASGISendEvent) -> None:
            if event["type"] == "http.response.start":
                event["headers"] = [*event["headers"], *headers]
            await send(event)

        if scope["method"] == "OPTIONS" and _header(scope, b"access-control-request-method") is not None:
            await send_with_cors(
                HTTPResponseStartEvent(
                    type="http.response.start", status=204, headers=_preflight_headers(scope)
                )
            )
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._app(scope, receive, send_with_cors)

    def fields(self, origin: str | None) -> Fields:
        """The same as `headers`, as text, and cached."""
        cached = self._fields.get(origin)
        if cached is None:
            headers = self.headers(None if origin is None else origin.encode("latin-1"))
            cached = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])
            if len(self._fields) < CACHED_ORIGINS:
                self._fields[origin] = cached
        return cached

    def headers(self, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        """The header fields to add to an answer for this origin; None where the request has no Origin."""
        headers = [(b"vary", b"Origin")]
        if origin is not None and origin_allowed(origin.decode("latin-1"), self._origins):
            headers += [
                (b"access-control-allow-origin", origin),
                (b"access-control-allow-credentials", b"true"),
                (b"access-control-expose-headers", EXPOSED_HEADERS.encode()),
            ]
        return headers


def _preflight_headers(scope: HTTPScope) -> list[tuple[bytes, bytes]]:
    allowed = REQUEST_HEADERS.encode()
    requested = _header(scope, b"access-control-request-headers")
    if requested:
        allowed += b", " + requested
    return [
        (b"access-control-allow-methods", METHODS.encode()),
        (b"access-control-allow-headers", allowed),
        (b"access-control-max-age", PREFLIGHT_SECONDS.encode()),
        (b"vary", b"Access-Control-Request-Headers"),
    ]


def _header(scope: HTTPScope, name: bytes) -> bytes | None:
    """A field's value; the values of a repeated field are joined by commas (RFC 9110, 5.3)."""
    return b", ".join(value for key, value in scope["headers"] if key == name) or None

"""CORS (the Fetch standard, section 3.2) for every answer, whoever makes it: an ASGI layer around the app.

The origin is reflected, never `*`, because credentials are allowed; `Vary: Origin` keeps caches apart.
Sockets pass through untouched: browsers do not apply CORS to them.
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
"""By name: a `*` never covers Authorization."""
EXPOSED_HEADERS = "Idempotency-Replayed, Retry-After, WWW-Authenticate, X-Request-ID"
PREFLIGHT_SECONDS = "600"
ORIGINS_KEPT = 1000
"""Origins whose fields are made once; whoever likes can name more."""

_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(0|[1-9][0-9]{0,4}))?")
_IMPLIED_PORTS = {"http": "80", "https": "443"}

Fields = tuple[tuple[str, str], ...]


def origin_allowed(origin: str, allowed: Collection[str]) -> bool:
    """Whether pages of this origin may call; `*` among the allowed stands for all of them."""
    return ANY_ORIGIN in allowed or origin in allowed


def is_origin(text: str) -> bool:
    """Whether a browser can send this as an Origin, which is compared as a whole: SCHEME://HOST[:PORT].

    It is in lower case, has no path, and leaves out the port that the scheme implies.
    """
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return False
    scheme, port = found.groups()
    return port is None or (int(port) <= 65535 and port != _IMPLIED_PORTS.get(scheme))


class Cors:
    """Wraps an ASGI application; `origins` are the allowed ones, such as `https://app.example`, or `*`."""

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
        """The same as `headers`, as text; for as many origins as there usually are it is made once."""
        known = self._fields.get(origin)
        if known is None:
            made = self.headers(None if origin is None else origin.encode("latin-1"))
            known = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in made])
            if len(self._fields) < ORIGINS_KEPT:
                self._fields[origin] = known
        return known

    def headers(self, origin: bytes | None) -> list[tuple[bytes, bytes]]:
        """What is added to the answer for a page of this origin, or for who tells none."""
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
    asked = _header(scope, b"access-control-request-headers")
    if asked:
        allowed += b", " + asked
    return [
        (b"access-control-allow-methods", METHODS.encode()),
        (b"access-control-allow-headers", allowed),
        (b"access-control-max-age", PREFLIGHT_SECONDS.encode()),
        (b"vary", b"Access-Control-Request-Headers"),
    ]


def _header(scope: HTTPScope, name: bytes) -> bytes | None:
    """A field's value, of one that was sent several times all of them (RFC 9110, 5.3)."""
    return b", ".join(value for key, value in scope["headers"] if key == name) or None

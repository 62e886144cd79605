"""CORS (the Fetch standard, section 3.2): the header fields of responses and of preflights.

A response reflects the origin, never sends `*`, because credentials are allowed; `Vary: Origin` separates the
entries of caches.
"""

import re
from collections.abc import Collection

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
    """The fields for `origins`, the allowed ones, such as `https://app.example`, or `*`."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)
        self._fields: dict[str | None, Fields] = {}

    def fields(self, origin: str | None) -> Fields:
        """The header fields to add to a response for this origin; None where the request has no Origin."""
        fields = self._fields.get(origin)
        if fields is None:
            fields = self._fields_for(origin)
            if len(self._fields) < CACHED_ORIGINS:
                self._fields[origin] = fields
        return fields

    def _fields_for(self, origin: str | None) -> Fields:
        vary = ("vary", "Origin")
        if origin is None or not origin.isascii() or not origin_allowed(origin, self._origins):
            return (vary,)  # no browser sends an origin beyond ASCII
        return (
            vary,
            ("access-control-allow-origin", origin),
            ("access-control-allow-credentials", "true"),
            ("access-control-expose-headers", EXPOSED_HEADERS),
        )


def preflight_fields(requested: str | None) -> Fields:
    """The fields of the response to a preflight whose Access-Control-Request-Headers is `requested`."""
    allowed = f"{REQUEST_HEADERS}, {requested}" if requested and requested.isascii() else REQUEST_HEADERS
    return (
        ("access-control-allow-methods", METHODS),
        ("access-control-allow-headers", allowed),
        ("access-control-max-age", PREFLIGHT_SECONDS),
        ("vary", "Access-Control-Request-Headers"),
    )

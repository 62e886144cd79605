"""The quick path for requests: the application responds to a whole request in one call.

Through ASGI each request takes a task, a scope, three events and the framework's contexts, which cost more
than its work. An application may name requests that it responds to without them.

Only unambiguous heads take this path; h11 decides about all unusual or refused ones. A WebSocket's handshake
with such a head goes to the application through ASGI, but bypasses h11.
"""

import re
from collections.abc import Awaitable
from email.utils import formatdate
from time import time
from typing import NamedTuple, Protocol

from adapters.http_api.exchange import HttpRequest, HttpResponse
from adapters.listener.head import END, is_host

SEPARATE = 32_768
"""Bytes of a response's body above which it is not copied behind its head: a copy takes longer than a write
of two pieces."""
MAX_BODY = 65_536
"""Bytes of the largest body of a whole request; a larger one goes through ASGI piece by piece."""


class WholeRoute(Protocol):
    """Responds to the requests for one method and path. The listener responds to an exception with 500."""

    @property
    def body_bytes(self) -> int:
        """Requests with larger bodies go through ASGI."""

    def refusal(self, head: HttpRequest) -> Awaitable[HttpResponse | None]:
        """The response to a request that its head alone decides; None awaits the body.

        Called once a request, and only if its body has not arrived with its head; `head` has no body.
        """

    def respond(self, request: HttpRequest) -> Awaitable[HttpResponse]:
        """The response to the whole request; the listener may call it twice for a GET."""

    def busy(self, request: HttpRequest) -> HttpResponse:
        """The response to a GET for whose response there is no room: try again later."""


class WholeRequests(Protocol):
    """The requests that an application responds to without ASGI."""

    def route(self, method: str, path: str) -> WholeRoute | None:
        """The route of these requests; None sends them through ASGI."""


_REQUEST_LINE = re.compile(
    rb"(GET|POST|PUT|PATCH|DELETE) (/[-A-Za-z0-9._~/]*)(?:\?([-A-Za-z0-9._~/?:@!$&'()*+,;=%]*))? HTTP/1\.1"
)
_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(r"[0-9]{1,6}")

_LEFT_TO_H11 = ("transfer-encoding", "expect", "te", "trailer")


class PlainHead(NamedTuple):
    method: str
    path: str
    query: bytes
    fields: dict[str, str]
    length: int
    last: bool = False
    """Whether the client closes the connection after it, as probes do, and proxies by default."""
    upgrade: bool = False
    """Whether it asks for another protocol: then it has no body and one line a field, and its Connection
    field has not been checked."""


def plain_head(head: bytes) -> PlainHead | None:
    """Parse an unambiguous head, with the length of its body; None leaves the head to h11.

    `head` has passed `take_head`: it has no control character and no bare or folded line.
    """
    first, *lines = head[: -len(END)].split(b"\r\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        return None
    method, path, query = line.groups()
    fields: dict[str, str] = {}
    for field in lines:
        name, colon, value = field.partition(b":")
        key = _known_names.get(name) or _field_name(name)
        if key is None or not colon:
            return None
        text = value.strip(b" \t").decode("latin-1")
        fields[key] = f"{fields[key]}, {text}" if key in fields else text
    upgrade = "upgrade" in fields
    connection = fields.get("connection", "keep-alive").lower()
    if connection not in {"keep-alive", "close"} and not upgrade:
        return None
    if upgrade and ("content-length" in fields or len(fields) < len(lines)):
        return None
    host = fields.get("host")
    if host is None or not is_host(host.encode("latin-1")):
        return None
    length = fields.get("content-length", "0")
    if not _LENGTH.fullmatch(length) or not fields.keys().isdisjoint(_LEFT_TO_H11):
        return None
    last = connection == "close"
    return PlainHead(method.decode(), path.decode(), query or b"", fields, int(length), last, upgrade)


_known_names: dict[bytes, str] = {}
KNOWN_NAMES = 256


def _field_name(name: bytes) -> str | None:
    """A field's name in lower case; None if it is invalid."""
    if not _NAME.fullmatch(name):
        return None
    key = name.decode().lower()
    if len(_known_names) < KNOWN_NAMES:
        _known_names[name] = key
    return key


def response_head(response: HttpResponse, *, close: bool, requested: bool = False) -> bytes:
    """The bytes of a response's head, in the order and spelling of the path through ASGI.

    The connection closes after it if the server will `close` it, or if the client has `requested` that.
    Raises `ValueError` for a field that cannot be sent: not in ISO 8859-1, or with a line break.
    """
    lines = [f"HTTP/1.1 {response.status} "]
    if response.status != NO_CONTENT:
        lines.append(f"content-length: {len(response.body)}")
    lines += [f"{name}: {value}" for name, value in response.headers]
    if close and not requested:
        lines.append("connection: close")
    lines.append(f"date: {_date(int(time()))}")
    if requested:
        lines.append("Connection: close")
    lines.append("\r\n")
    head = "\r\n".join(lines)
    if not head.count("\r") == head.count("\n") == len(lines):
        raise ValueError("a header field of the response has a line break in it")
    return head.encode("latin-1")


NO_CONTENT = 204


class _Clock:
    """The Date header's value, built once a second."""

    second = 0
    written = ""


def _date(second: int) -> str:
    if second != _Clock.second:
        _Clock.second, _Clock.written = second, formatdate(second, usegmt=True)
    return _Clock.written

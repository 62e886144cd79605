"""The short way in: a request that has come whole is one call of the application, and so is its answer.

Through ASGI each request takes a task, a scope, three events and the framework's contexts, which cost more
than what the request asks for. An application may name the requests that it answers without them.

Only heads that are beyond doubt go this way; whatever is unusual, or refused, is h11's to judge as before. A
WebSocket's handshake whose head is of this kind goes to the application through ASGI, but without h11.
"""

import re
from collections.abc import Awaitable, Iterable, Mapping
from email.utils import formatdate
from time import time
from typing import NamedTuple, Protocol

from adapters.listener.head import END, is_host

SEPARATE = 32_768
"""Bytes of an answer's body from which on it is not copied behind its head: a copy takes longer than a second
piece of a write."""
MAX_BODY = 65_536
"""Bytes of the largest body that is awaited whole; a larger one goes through ASGI piece by piece."""


class WholeRequest(NamedTuple):
    """What the peer asked; a field that was sent several times is joined by commas (RFC 9110, 5.3)."""

    method: str
    path: str
    """Without a query, and free of percent-escapes."""
    query: bytes
    fields: Mapping[str, str]
    """By names in lower case."""
    body: bytes
    client: str
    """The peer's address, empty if unknown."""


class WholeAnswer(Protocol):
    """An answer; Content-Length and Date are not among its fields, they are the listener's to add."""

    @property
    def status(self) -> int: ...

    @property
    def fields(self) -> Iterable[tuple[str, str]]: ...

    @property
    def body(self) -> bytes: ...


class WholeRoute(Protocol):
    """What answers the requests for one method and path. An exception is answered with 500."""

    @property
    def body_bytes(self) -> int:
        """Requests with more go through ASGI."""

    def refusal(self, head: WholeRequest) -> Awaitable[WholeAnswer | None]:
        """What the request is answered whatever its body holds; None awaits the body.

        Asked once a request, and only where its body has not come with its head; `head` has no body.
        """

    def answer(self, asked: WholeRequest) -> Awaitable[WholeAnswer]:
        """The answer to the whole request; of a GET it may be asked for twice."""

    def busy(self, asked: WholeRequest) -> WholeAnswer:
        """The answer to a GET for whose own there is no room: try again later."""


class WholeRequests(Protocol):
    """What an application offers beside ASGI."""

    def route(self, method: str, path: str) -> WholeRoute | None:
        """What answers these requests; None sends them through ASGI."""


_REQUEST_LINE = re.compile(
    rb"(GET|POST|PUT|PATCH|DELETE) (/[-A-Za-z0-9._~/]*)(?:\?([-A-Za-z0-9._~/?:@!$&'()*+,;=%]*))? HTTP/1\.1"
)
_NAME = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_LENGTH = re.compile(r"[0-9]{1,6}")

_INVOLVED = ("transfer-encoding", "expect", "te", "trailer")


class PlainHead(NamedTuple):
    method: str
    path: str
    query: bytes
    fields: dict[str, str]
    length: int
    last: bool = False
    """Whether the client asks for no other on this connection, as probes do, and proxies by default."""
    upgrade: bool = False
    """Whether it asks for another protocol: then it has no body, and each of its fields stands in one line;
    what it says of the connection is not judged yet."""


def plain_head(head: bytes) -> PlainHead | None:
    """A head that leaves no question open, with the length of its body; None leaves it to h11.

    `head` has passed `take_head`: no control character, no bare or folded line is in it.
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
        told = value.strip(b" \t").decode("latin-1")
        fields[key] = f"{fields[key]}, {told}" if key in fields else told
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
    if not _LENGTH.fullmatch(length) or not fields.keys().isdisjoint(_INVOLVED):
        return None
    last = connection == "close"
    return PlainHead(method.decode(), path.decode(), query or b"", fields, int(length), last, upgrade)


_known_names: dict[bytes, str] = {}
NAMES_KEPT = 256


def _field_name(name: bytes) -> str | None:
    """A field's name in lower case, or None if it is none."""
    if not _NAME.fullmatch(name):
        return None
    key = name.decode().lower()
    if len(_known_names) < NAMES_KEPT:
        _known_names[name] = key
    return key


def answer_head(answer: WholeAnswer, *, close: bool, asked: bool = False) -> bytes:
    """An answer's head as it goes over the wire, in the order and spelling of the way through ASGI.

    The connection ends with it where the server will `close`, or was `asked` to.
    Raises `ValueError` for a field that cannot be sent: not ISO 8859-1, or with a line break in it.
    """
    lines = [f"HTTP/1.1 {answer.status} "]
    if answer.status != NO_CONTENT:
        lines.append(f"content-length: {len(answer.body)}")
    lines += [f"{name}: {value}" for name, value in answer.fields]
    if close and not asked:
        lines.append("connection: close")
    lines.append(f"date: {_date(int(time()))}")
    if asked:
        lines.append("Connection: close")
    lines.append("\r\n")
    head = "\r\n".join(lines)
    if not head.count("\r") == head.count("\n") == len(lines):
        raise ValueError("an answer's field has a line break in it")
    return head.encode("latin-1")


NO_CONTENT = 204


class _Clock:
    """The Date header's value, made once a second."""

    second = 0
    written = ""


def _date(second: int) -> str:
    if second != _Clock.second:
        _Clock.second, _Clock.written = second, formatdate(second, usegmt=True)
    return _Clock.written

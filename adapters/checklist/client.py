"""A client that looks to a server like a page of another origin: HTTP and WebSocket, everything recorded."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import trio
from attrs import frozen

from adapters.checklist.phrases import Phrase, verbatim
from adapters.checklist.recording import HttpExchange, Secrets, SocketExchange
from adapters.checklist.socket_client import RecordedSocket

API = "/api/v1"
RETRY_SECONDS = 60.0
"""How long a request retries while the server responds 429; a rate limit is no fault."""


class NotJson:
    """The type of `NOT_JSON`, the value of a body that is not JSON."""


NOT_JSON = NotJson()


@frozen(eq=False)
class Response:
    """A server's response, or its absence (`status` is None)."""

    exchange: HttpExchange
    headers: httpx.Headers
    signed_in: bool
    """Whether the request sent a token that must be valid."""

    @property
    def status(self) -> int | None:
        return self.exchange.status

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def json(self) -> Any:
        """The body as JSON, or `NOT_JSON`."""
        try:
            return json.loads(self.exchange.response_body)
        except ValueError:
            return NOT_JSON

    @property
    def request(self) -> str:
        """The request line without the host."""
        parts = urlsplit(self.exchange.url)
        return f"{self.exchange.method} {parts.path}{'?' if parts.query else ''}{parts.query}"

    @property
    def summary(self) -> Phrase:
        """The status and the first 200 characters of the body, or the error."""
        if self.status is None:
            return Phrase(f"no response ({self.exchange.error})", f"ответа нет ({self.exchange.error})")
        body = " ".join(self.exchange.response_body.split())
        return verbatim(
            f"{self.status} {self.exchange.reason} {body[:200]}{'…' if len(body) > 200 else ''}".strip()
        )


class HttpClient:
    """Sends requests to one server as a page at `origin` does; `timeout` is the seconds for a response."""

    def __init__(self, base: str, *, origin: str, timeout: float, nursery: trio.Nursery) -> None:
        self.base = base
        self.secrets = Secrets()
        self._origin = origin
        self._timeout = timeout
        self._nursery = nursery
        self._began = trio.current_time()
        self._http = httpx.AsyncClient(
            headers={"Origin": origin, "User-Agent": "messaging-check"}, timeout=timeout, trust_env=False
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        key: str | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        valid: bool = True,
        follow: bool = False,
    ) -> Response:
        """Send a request; while the server responds 429, wait for its Retry-After and send it again.

        Raises nothing: an error is a response without a status. `path` is relative to the API, or to the root
        if it begins with `//`, or an absolute URL. `valid` is false for a token that the server must refuse.
        """
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if key is not None:
            sent["Idempotency-Key"] = key
        request = self._http.build_request(method, self._url(path), headers=sent, json=body)
        until = trio.current_time() + RETRY_SECONDS
        while True:
            response = await self._send(request, signed_in=token is not None and valid, follow=follow)
            wait = _seconds(response.headers.get("Retry-After", "1"))
            if response.status != 429 or trio.current_time() + wait > until:
                return response
            await trio.sleep(wait)

    @asynccontextmanager
    async def socket(self, query: str, *, label: str) -> AsyncIterator[RecordedSocket]:
        """A socket at `/ws` after its handshake, successful or not; closes it at the end."""
        url = f"{self.base.replace('http', 'ws', 1)}/ws{query}"
        exchange = SocketExchange(self._now(), label, url, (("Origin", self._origin),))
        socket = RecordedSocket(exchange, self._now)
        parts = urlsplit(url)
        encrypted = parts.scheme == "wss"
        self._nursery.start_soon(
            socket.run,
            parts.hostname or "",
            parts.port or (443 if encrypted else 80),
            parts.netloc.rpartition("@")[2],
            f"{parts.path}?{parts.query}" if parts.query else parts.path,
            ssl.create_default_context() if encrypted else None,
        )
        try:
            await socket.handshake(self._timeout)
            yield socket
        finally:
            await socket.aclose()

    def _url(self, path: str) -> str:
        if path.startswith("//"):
            return f"{self.base}{path[1:]}"
        return path if "://" in path else f"{self.base}{API}{path}"

    def _now(self) -> float:
        return trio.current_time() - self._began

    async def _send(self, request: httpx.Request, *, signed_in: bool, follow: bool) -> Response:
        exchange = HttpExchange(
            self._now(),
            request.method,
            str(request.url),
            tuple(request.headers.items()),
            request.content.decode(),
        )
        headers = httpx.Headers()
        try:
            with trio.fail_after(self._timeout):
                received = await self._http.send(request, follow_redirects=follow)
            exchange.status, exchange.reason = received.status_code, received.reason_phrase
            exchange.response_headers = tuple(received.headers.multi_items())
            exchange.response_body = received.text
            headers = received.headers
        except (httpx.TimeoutException, trio.TooSlowError):
            exchange.error = f"{self._timeout:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            exchange.error = _message_of(error)
        exchange.seconds = self._now() - exchange.started
        response = Response(exchange, headers, signed_in)
        self.secrets.add_from(response.json)
        return response


def new_key() -> str:
    """A new Idempotency-Key in the form that `uuidgen` prints."""
    return str(uuid4())


def _message_of(error: BaseException) -> str:
    """The message of the error, or of its nearest cause with one: libraries wrap errors without a text."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return str(cause or type(error).__name__).rstrip(".")  # the caller ends the sentence


def _seconds(retry_after: str) -> float:
    return min(float(retry_after), RETRY_SECONDS) if retry_after.isascii() and retry_after.isdigit() else 1.0

"""A page of another origin, as far as a server can tell: HTTP and WebSocket, with everything recorded."""

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

from adapters.checklist.recording import HttpExchange, Secrets, SocketExchange
from adapters.checklist.socket_client import Socket
from adapters.checklist.words import Text, same

API = "/api/v1"
RETRY_SECONDS = 60.0
"""How long in all a request gives way to a server that answers 429; a rate limit is no fault."""


class NotJson:
    """Stands for a body that is not JSON."""


NOT_JSON = NotJson()


@frozen(eq=False)
class Answer:
    """What came back, or that nothing did; `signed_in`: a token was sent that ought to be good."""

    exchange: HttpExchange
    headers: httpx.Headers
    signed_in: bool

    @property
    def status(self) -> int | None:
        return self.exchange.status

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def json(self) -> Any:
        """The body's JSON, or `NOT_JSON`."""
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
    def came(self) -> Text:
        """What came, in a few words."""
        if self.status is None:
            return Text(f"no answer ({self.exchange.error})", f"ответа нет ({self.exchange.error})")
        body = " ".join(self.exchange.response_body.split())
        return same(
            f"{self.status} {self.exchange.reason} {body[:200]}{'…' if len(body) > 200 else ''}".strip()
        )


class Client:
    """Sends requests to one server, as the page at `origin` would; `patience` is seconds for an answer."""

    def __init__(self, base: str, *, origin: str, patience: float, nursery: trio.Nursery) -> None:
        self.base = base
        self.secrets = Secrets()
        self._origin = origin
        self._patience = patience
        self._nursery = nursery
        self._began = trio.current_time()
        self._http = httpx.AsyncClient(
            headers={"Origin": origin, "User-Agent": "messaging-check"}, timeout=patience, trust_env=False
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
        good: bool = True,
        follow: bool = False,
    ) -> Answer:
        """One request, never raising; it waits and repeats while the server says that there are too many.

        `path` is below the API unless it is an absolute URL or begins with `//`, which stands for the root.
        `good` is false for a token that must be refused.
        """
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if key is not None:
            sent["Idempotency-Key"] = key
        request = self._http.build_request(method, self._url(path), headers=sent, json=body)
        until = trio.current_time() + RETRY_SECONDS
        while True:
            answer = await self._send(request, signed_in=token is not None and good, follow=follow)
            wait = _seconds(answer.headers.get("Retry-After", "1"))
            if answer.status != 429 or trio.current_time() + wait > until:
                return answer
            await trio.sleep(wait)

    @asynccontextmanager
    async def socket(self, query: str, *, whose: str) -> AsyncIterator[Socket]:
        """A socket at `/ws`, from the outcome of its handshake on, whichever that is."""
        url = f"{self.base.replace('http', 'ws', 1)}/ws{query}"
        kept = SocketExchange(self._now(), whose, url, (("Origin", self._origin),))
        socket = Socket(kept, self._now)
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
            await socket.handshake(self._patience)
            yield socket
        finally:
            await socket.aclose()

    def _url(self, path: str) -> str:
        if path.startswith("//"):
            return f"{self.base}{path[1:]}"
        return path if "://" in path else f"{self.base}{API}{path}"

    def _now(self) -> float:
        return trio.current_time() - self._began

    async def _send(self, request: httpx.Request, *, signed_in: bool, follow: bool) -> Answer:
        kept = HttpExchange(
            self._now(),
            request.method,
            str(request.url),
            tuple(request.headers.items()),
            request.content.decode(),
        )
        headers = httpx.Headers()
        try:
            with trio.fail_after(self._patience):
                response = await self._http.send(request, follow_redirects=follow)
            kept.status, kept.reason = response.status_code, response.reason_phrase
            kept.response_headers, kept.response_body = tuple(response.headers.multi_items()), response.text
            headers = response.headers
        except (httpx.TimeoutException, trio.TooSlowError):
            kept.error = f"{self._patience:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            kept.error = _told_by(error)
        kept.seconds = self._now() - kept.started
        answer = Answer(kept, headers, signed_in)
        self.secrets.add_from(answer.json)
        return answer


def new_key() -> str:
    """An Idempotency-Key as `uuidgen` makes it."""
    return str(uuid4())


def _told_by(error: BaseException) -> str:
    """What went wrong, of the causes that a library has wrapped the first that says anything."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return str(cause or type(error).__name__).rstrip(".")  # others write the sentence's end


def _seconds(told: str) -> float:
    return min(float(told), RETRY_SECONDS) if told.isascii() and told.isdigit() else 1.0

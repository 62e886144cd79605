"""One HTTP request between the connection and an ASGI application."""

from collections.abc import Awaitable, Callable, Iterable
from enum import Enum, auto
from time import time

import trio
from hypercorn.typing import ASGISendEvent, HTTPResponseStartEvent, HTTPScope
from hypercorn.utils import UnexpectedMessageError, build_and_validate_headers, suppress_body

from adapters.listener.h11_request import Pieces, RequestHead
from adapters.listener.http1 import Http1
from adapters.listener.inbox import AppTasks, Inbox
from adapters.listener.logs import decoded_fields, log_request
from adapters.listener.peer import Peer
from adapters.listener.refused_request import Headers, RefusedRequest
from adapters.listener.responses import closing_response
from adapters.listener.scopes import common_scope


class ResponseState(Enum):
    """What the application has sent of its response."""

    NOTHING = auto()
    HEAD = auto()
    ALL = auto()


class AsgiExchange:
    """Sends each message of the application completely or not at all.

    A cancellation of the application's task must not cut a send short, above all the last one: after it
    http.disconnect makes quart-trio cancel that task.
    """

    __slots__ = (
        "_framing",
        "_http",
        "_inbox",
        "_peer",
        "_responded",
        "_response",
        "_scope",
        "_sent_bytes",
        "_started",
        "_state",
        "closed",
    )

    _response: HTTPResponseStartEvent
    _inbox: Inbox

    def __init__(
        self,
        request: RequestHead,
        http: Http1,
        peer: Peer,
        responded: Callable[[], Awaitable[None]],
    ) -> None:
        """`responded` is called once, after the last message of the response, without a cancellation."""
        self._http = http
        self._framing = http.request
        self._peer = peer
        self._responded = responded
        self._state = ResponseState.NOTHING
        self._sent_bytes = 0
        self._started = time()
        self.closed = False
        """Whether the exchange is over for the connection: what the application sends is dropped."""
        self._scope: HTTPScope = {
            "type": "http",
            "asgi": {"spec_version": "2.1", "version": "3.0"},
            "http_version": request.version,
            "method": request.method.decode(),
            "scheme": "https" if http.heads.secure else "http",
            "extensions": {},
            **common_scope(request.target, request.fields, http, peer),
        }

    # --- called by the reader ------------------------------------------------------------------------------

    def begin(self, tasks: AppTasks) -> None:
        """Call the application."""
        self._inbox = tasks.start_app(self._scope, self.send)

    def receive(self, data: bytes) -> bool:
        """Give a piece of the body to the application; returns whether it has room for more."""
        if not self.closed:
            self._inbox.put({"type": "http.request", "body": data, "more_body": True})
        return not self._inbox.full

    def end_body(self) -> None:
        """Tell the application that it has the whole body."""
        if not self.closed:
            self._inbox.put({"type": "http.request", "body": b"", "more_body": False})

    def close(self) -> None:
        """The exchange is over: log it, unless its response has been logged, and disconnect the
        application.
        """
        if self.closed:
            return
        self.closed = True
        if self._state is not ResponseState.ALL:
            self._log(None)
        self._inbox.put({"type": "http.disconnect"})

    def log_listener_response(self, status: int) -> None:
        """Log a request that the listener has responded to in place of the application."""
        self._state = ResponseState.ALL
        self._log(status)

    # --- called by the application -------------------------------------------------------------------------

    async def send(self, message: ASGISendEvent | None) -> None:
        """ASGI's `send`; None marks the application's end. A cancellation takes effect before the send only.

        Raises `UnexpectedMessageError` for a message that cannot follow the previous ones.
        """
        if message is not None:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self.closed:
                await trio.lowlevel.checkpoint()  # a tight loop of sends must let other tasks run
                return
        with trio.CancelScope(shield=True):
            if message is not None:
                await self._send(message)
            elif not self.closed:
                if self._state is ResponseState.NOTHING:
                    await self._fail()
                await self._responded()

    async def _send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start" and self._state is ResponseState.NOTHING:
            self._response = message
            headers = build_and_validate_headers(message.get("headers", []))
            await self._peer.writer.send(*self._begin_response(int(message["status"]), headers))
            self._state = ResponseState.HEAD
        elif message["type"] == "http.response.body" and self._state is ResponseState.HEAD:
            data = bytes(message.get("body", b""))
            if data and not suppress_body(self._scope["method"], int(self._response["status"])):
                self._sent_bytes += len(data)
                await self._peer.writer.send(*self._framing.response_part(data))
            if not message.get("more_body", False):
                await self._end()
        else:
            raise UnexpectedMessageError(self._state, message["type"])

    def _begin_response(self, status: int, headers: Headers) -> Pieces:
        more = self._peer.shared.hypercorn.response_headers("h11")
        return self._framing.begin_response(status, headers, more, last=self._http.closing)

    async def _end(self) -> None:
        await self._peer.writer.send(*self._framing.end_response())
        self._state = ResponseState.ALL
        self._log(int(self._response["status"]), self._sent_bytes, self._response.get("headers", ()))
        await self._responded()

    async def _fail(self) -> None:
        """Respond with 500 in place of the application, which has ended without a response."""
        refused = RefusedRequest(500, "The server failed.", code="internal_error")
        headers, body = closing_response(refused)
        await self._peer.writer.send(*self._begin_response(refused.status, headers))
        if not suppress_body(self._scope["method"], refused.status):
            await self._peer.writer.send(*self._framing.response_part(body))
        await self._peer.writer.send(*self._framing.end_response())
        self._state = ResponseState.ALL
        self._log(refused.status, len(body))

    def _log(self, status: int | None, size: int = 0, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        client = self._scope["client"]
        log_request(
            self._scope["method"],
            self._scope["raw_path"].decode("latin-1"),
            status,
            size=size,
            seconds=time() - self._started,
            client=None if client is None else client[0],
            fields=decoded_fields(headers),
        )

"""A WebSocket's handshake between the connection and an ASGI application."""

from collections.abc import Iterable
from time import time
from typing import Any, cast

import trio
from hypercorn.typing import (
    WebsocketAcceptEvent,
    WebsocketResponseBodyEvent,
    WebsocketResponseStartEvent,
    WebsocketScope,
)
from hypercorn.utils import UnexpectedMessageError, build_and_validate_headers, suppress_body

from adapters.listener.h11_request import Pieces, SocketRequest
from adapters.listener.http1 import Http1
from adapters.listener.logs import decoded_fields, log_request
from adapters.listener.peer import Peer
from adapters.listener.refused_request import Headers, RefusedRequest
from adapters.listener.responses import closing_response
from adapters.listener.scopes import common_scope
from adapters.listener.socket_handshake import SWITCHING
from adapters.listener.websocket import SocketPhase, WebSocket

MESSAGE_BYTES = "message_bytes"
"""A key of websocket.accept: the largest message of this socket's peer, if that is more than the limit."""

UNLOGGED = "unlogged"
"""A key of websocket.accept: true if the application logs the socket itself."""

REFUSALS = {
    403: ("The server does not take this socket.", "forbidden"),
    500: ("The server failed.", "internal_error"),
    503: ("The server takes no socket now.", "unavailable"),
}
"""Before the accept the application closed, raised, or took too long."""


class AsgiHandshake:
    """Responds to a handshake: with a 101, the application's own HTTP response, or the listener's."""

    __slots__ = ("_http", "_machine", "_peer", "_response", "_started", "scope")

    _response: WebsocketResponseStartEvent

    def __init__(self, request: SocketRequest, http: Http1, peer: Peer, machine: WebSocket) -> None:
        self._http = http
        self._peer = peer
        self._machine = machine
        self._started = time()
        offered = dict(request.fields).get(b"sec-websocket-protocol", b"").decode("ascii")
        self.scope: WebsocketScope = {
            "type": "websocket",
            "asgi": {"spec_version": "2.3", "version": "3.0"},
            "scheme": "wss" if http.heads.secure else "ws",
            "http_version": "1.1",
            "subprotocols": [each.strip() for each in offered.split(",")] if offered else [],
            "extensions": {"websocket.http.response": {}},
            **common_scope(request.target, request.fields, http, peer),
        }

    async def accept(self, message: WebsocketAcceptEvent) -> bool:
        """Write the 101, which nothing can interrupt; returns whether the listener logs the socket.

        Raises `ValueError` for a subprotocol or header fields that cannot be sent.
        """
        if self._machine.phase is not SocketPhase.HANDSHAKE:
            raise UnexpectedMessageError(self._machine.phase, message["type"])
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self.scope["subprotocols"]:
            raise ValueError(f"the client has not offered the subprotocol {subprotocol}")
        more = cast("dict[str, Any]", message)
        response = self._machine.accept(
            subprotocol,
            message.get("headers", ()),
            trio.current_time(),
            message_bytes=int(more.get(MESSAGE_BYTES, 0)),
        )
        self._http.release()
        self._peer.shared.counts.open_sockets += 1
        await self._peer.writer.write(response)
        logged = not message.get(UNLOGGED)
        if logged:
            self._log(SWITCHING)
        return logged

    def begin_response(self, message: WebsocketResponseStartEvent) -> None:
        """Keep the head of the application's own response until the first part of its body."""
        self._response = message

    async def respond(self, message: WebsocketResponseBodyEvent) -> bool:
        """Send a part of the application's own response; returns whether it was the last."""
        writer, status = self._peer.writer, int(self._response["status"])
        if self._machine.phase is SocketPhase.HANDSHAKE:
            pieces = self._begin(status, build_and_validate_headers(self._response["headers"]))
            self._machine.begin_response()
            await writer.send(*pieces)
        if not suppress_body("GET", status):
            await writer.send(*self._http.request.response_part(bytes(message.get("body", b""))))
        if message.get("more_body", False):
            return False
        self._machine.refuse()
        await writer.send(*self._http.request.end_response())
        self._log(status, headers=self._response["headers"])
        return True

    async def refuse(self, status: int) -> None:
        """Refuse in place of the application."""
        detail, code = REFUSALS[status]
        headers, body = closing_response(RefusedRequest(status, detail, code=code))
        self._machine.refuse()
        writer = self._peer.writer
        await writer.send(*self._begin(status, headers))
        await writer.send(*self._http.request.response_part(body))
        await writer.send(*self._http.request.end_response())
        self._log(status, len(body))

    def _begin(self, status: int, headers: Headers) -> Pieces:
        more = self._peer.shared.hypercorn.response_headers("h11")
        return self._http.request.begin_response(status, headers, more, last=True)

    def _log(self, status: int, size: int = 0, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        client = self.scope["client"]
        log_request(
            "WEBSOCKET",
            self.scope["raw_path"].decode("latin-1"),
            status,
            size=size,
            seconds=time() - self._started,
            client=None if client is None else client[0],
            fields=decoded_fields(headers),
        )

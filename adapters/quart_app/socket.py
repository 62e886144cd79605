"""The WebSocket at `/ws`: who it is, then events out for as long as the session lasts.

An ASGI application of its own beside the framework's: a framework's socket takes four tasks and 30 KiB, and
there may be thousands.
"""

from collections.abc import Awaitable, Callable, Collection
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qs

import structlog
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, WebsocketScope

from adapters.quart_app.cors import origin_allowed
from adapters.quart_app.dispatch import bearer_token
from adapters.quart_app.refusals import RepeatedRefusals
from adapters.runtime import LocalSocket, Messaging, TooManySockets
from adapters.runtime.hub import POLICY_VIOLATION, TOO_MANY_SOCKETS, Close, Transport
from messaging_core.errors import TokenInvalid, Unauthenticated
from messaging_core.ports import StorageUnavailable
from messaging_core.sockets import payloads

log = structlog.get_logger(__name__)

PATH = "/ws"

OUR_FAULT = Close(1011, "internal_error")
ORIGIN_NOT_ALLOWED = Close(POLICY_VIOLATION, "origin_not_allowed")
PROFILE_UNKNOWN = Close(4500, "profile_unknown")

DIRECT_FRAMES = "direct_frames"
"""The scope's extension by which our own listener takes over a socket, and frames made once for many."""

UNLOGGED = "unlogged"
"""A key of the accept by which our own listener writes no lines about a socket."""

BEARER = "bearer"
"""The subprotocol that is offered together with a token, where a client can set no header."""


class SocketEndpoint:
    """Serves sockets of profile 1, from the handshake to the close.

    A refused one is accepted first and then closed with 1008 and the reason: closed before, it would be a
    403, which a browser reports as 1006 without a reason. One that comes again and again waits before it is
    accepted, so that it is not open meanwhile. What the client sends is read and ignored.
    """

    def __init__(
        self, messaging: Messaging, origins: Collection[str], refusals: RepeatedRefusals | None = None
    ) -> None:
        self._messaging = messaging
        self._origins = origins
        self._refusals = refusals

    async def __call__(
        self, scope: WebsocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        await receive()  # websocket.connect
        asked = _Handshake(scope)
        with ExitStack() as stack:
            # Known to the hub before the client sees it open: from then on it misses nothing.
            admitted = await self._admit(asked, stack)
            again = isinstance(admitted, Close) and await self._comes_again(asked, admitted, scope, receive)
            await _accept(send, asked, logged=not again)
            if isinstance(admitted, Close):
                await _close(send, admitted)
                return
            log.info("WebSocket connected: user_id=%d", admitted.actor.user_id)
            try:
                await self._serve(admitted, scope, receive, send, stack)
            except Exception:
                log.exception("A WebSocket failed", user_id=admitted.actor.user_id)
                await _close(send, OUR_FAULT)

    async def _comes_again(
        self, asked: "_Handshake", refusal: Close, scope: WebsocketScope, receive: ASGIReceiveCallable
    ) -> bool:
        """Whether it is refused as often already as to be delayed, which is then done."""
        if self._refusals is None or refusal is OUR_FAULT:
            return False
        try:
            token = asked.token()
        except Unauthenticated:
            token = ""
        address = scope["client"][0] if scope["client"] else ""
        return await self._refusals.delay(token, address, refusal, receive)

    async def _admit(self, asked: "_Handshake", stack: ExitStack) -> LocalSocket | Close:
        """The socket, connected to the hub until the stack is left, or how to close it."""
        origin = asked.headers.get("origin")
        if origin is not None and not origin_allowed(origin, self._origins):
            return ORIGIN_NOT_ALLOWED
        if asked.query("profile") not in (None, "1"):
            return PROFILE_UNKNOWN
        try:
            socket = await self._messaging.connect(asked.token())
            stack.callback(self._messaging.hub.disconnect, socket)
        except Unauthenticated as error:
            return Close(POLICY_VIOLATION, error.code)
        except TooManySockets:
            return TOO_MANY_SOCKETS
        except StorageUnavailable as error:
            log.warning("A WebSocket could not be admitted", error=str(error))
            return OUR_FAULT
        except Exception:
            log.exception("A WebSocket could not be admitted")
            return OUR_FAULT
        return socket

    async def _serve(
        self,
        socket: LocalSocket,
        scope: WebsocketScope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        stack: ExitStack,
    ) -> None:
        """Leave it to a listener that adopts sockets, and otherwise serve it until it ends."""
        extension: Any = scope["extensions"].get(DIRECT_FRAMES)
        if extension is not None:
            sink: Adopting = extension["sink"]
            sink.adopt(partial(self._messaging.hub.disconnect, socket))
            stack.pop_all()
            socket.attach(sink)
            return
        async with trio.open_nursery() as nursery:
            messages = _Messages(send, nursery)
            socket.attach(messages)
            while (await receive())["type"] != "websocket.disconnect":
                pass
            messages.over = True
            nursery.cancel_scope.cancel()


class Adopting(Transport, Protocol):
    """A transport that can keep the socket open after its application's task has ended."""

    def adopt(self, ended: Callable[[], None]) -> None:
        """Keep it, read and drop what the peer sends, and call `ended` once it is closed."""


class _Handshake:
    """What a client asks for when it opens a socket."""

    def __init__(self, scope: WebsocketScope) -> None:
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.offered = list(scope["subprotocols"])
        self._query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)

    def query(self, name: str) -> str | None:
        return self._query[name][-1] if name in self._query else None

    def token(self) -> str:
        """The token in the query, the Authorization header, or after `bearer` among the subprotocols."""
        token = self.query("token")
        if token is not None:
            return token
        if "authorization" in self.headers:
            return bearer_token(self.headers["authorization"])
        if BEARER in self.offered[:-1]:
            return self.offered[self.offered.index(BEARER) + 1]
        raise TokenInvalid


async def _accept(send: ASGISendCallable, asked: _Handshake, *, logged: bool = True) -> None:
    subprotocol = BEARER if BEARER in asked.offered else None
    accept: Any = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": []}
    if not logged:
        accept[UNLOGGED] = True
    await send(accept)


async def _close(send: ASGISendCallable, close: Close) -> None:
    await send({"type": "websocket.close", "code": close.code, "reason": close.reason})


class _Messages:
    """The way out through ASGI: one message at a time."""

    def __init__(self, send: ASGISendCallable, nursery: trio.Nursery) -> None:
        self._send = send
        self._nursery = nursery
        self.over = False

    def offer(self, frames: bytes) -> int:
        del frames
        return 0

    async def write(self, frames: bytes) -> None:
        for payload in payloads(frames):
            await self._send({"type": "websocket.send", "bytes": None, "text": payload.decode()})

    async def close(self, code: int, reason: str) -> None:
        await _close(self._send, Close(code, reason))
        self.over = True
        self._nursery.cancel_scope.cancel()

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        if not self.over:
            self._nursery.start_soon(task)

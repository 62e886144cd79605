"""The WebSocket at `/ws`: authenticates the caller, then sends events as long as the session lasts.

A separate ASGI application beside the framework's: a framework's socket takes four tasks and 30 KiB, and
there may be thousands.
"""

from collections.abc import Awaitable, Callable, Collection
from contextlib import ExitStack
from typing import Any, Protocol
from urllib.parse import parse_qs

import structlog
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, WebsocketScope

from adapters.http_api.closes import ORIGIN_NOT_ALLOWED, PROFILE_UNKNOWN
from adapters.http_api.cors import origin_allowed
from adapters.http_api.dispatch import bearer_token
from adapters.http_api.sockets import PROFILES
from adapters.quart_app.refusals import RepeatedRefusals
from adapters.runtime import Messaging, Subscription, TooManySockets
from adapters.runtime.hub import NOBODY, POLICY_VIOLATION, TOO_MANY_SOCKETS, Caller, Transport
from messaging_core.errors import TokenInvalid, Unauthenticated
from messaging_core.ports import StorageUnavailable
from messaging_core.profiles import Close
from messaging_core.sockets import OUR_FAULT, payloads

log = structlog.get_logger(__name__)

PATH = "/ws"

DIRECT_FRAMES = "direct_frames"
"""The scope's extension by which the project's listener adopts a socket, and writes frames that are encoded
once for many sockets."""

UNLOGGED = "unlogged"
"""A key of the accept event; the project's listener then logs no line about the socket."""

MESSAGE_BYTES = "message_bytes"
"""A key of the accept event: the largest message of this socket's client, for the project's listener."""

BEARER = "bearer"
"""The subprotocol that a client offers together with a token where it cannot set a header."""


class SocketEndpoint:
    """Serves sockets, from the handshake to the close.

    A refused socket is accepted and then closed with 1008 and the reason: without the accept it would be a
    403, which a browser reports as 1006 without a reason. A repeated refusal is delayed before the accept, so
    that the socket is not open meanwhile. Every message of the client is read, and handed to its socket's
    protocol, whatever the protocol makes of it.
    """

    def __init__(
        self,
        messaging: Messaging,
        origins: Collection[str],
        refusals: RepeatedRefusals | None = None,
        *,
        profile: str = "1",
    ) -> None:
        """`profile` is that of a socket whose handshake names none."""
        self._messaging = messaging
        self._profile = profile
        self._origins = origins
        self._refusals = refusals

    async def keep_house(self) -> None:
        """Runs until cancelled: logs refusals that are repeated no longer."""
        if self._refusals is not None:
            await self._refusals.keep_logging()

    async def __call__(
        self, scope: WebsocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        await receive()  # websocket.connect
        handshake = _Handshake(scope)
        with ExitStack() as stack:
            # The hub knows the socket before the client sees it open, so that it misses no event after that.
            admitted = await self._admit(handshake, stack)
            repeated = isinstance(admitted, Close) and await self._delay(handshake, admitted, scope, receive)
            resumes = not isinstance(admitted, Close) and admitted.protocol.awaits_resume
            largest = self._messaging.limits.resume_bytes if resumes else None
            await _accept(send, handshake, logged=not repeated, message_bytes=largest)
            if isinstance(admitted, Close):
                await _close(send, admitted)
                return
            log.info("WebSocket connected: user_id=%d", admitted.actor.user_id)
            try:
                await self._serve(admitted, scope, receive, send, stack)
            except Exception:
                log.exception("A WebSocket failed", user_id=admitted.actor.user_id)
                await _close(send, OUR_FAULT)

    async def _delay(
        self, handshake: "_Handshake", refusal: Close, scope: WebsocketScope, receive: ASGIReceiveCallable
    ) -> bool:
        """Delay a repeated refusal; whether it is one."""
        if self._refusals is None or refusal is OUR_FAULT:
            return False
        try:
            token = handshake.token()
        except Unauthenticated:
            token = ""
        address = scope["client"][0] if scope["client"] else ""
        return await self._refusals.delay(token, address, refusal, receive)

    async def _admit(self, handshake: "_Handshake", stack: ExitStack) -> Subscription | Close:
        """The socket, connected to the hub until the stack unwinds, or the close that refuses it."""
        origin = handshake.headers.get("origin")
        if origin is not None and not origin_allowed(origin, self._origins):
            return ORIGIN_NOT_ALLOWED
        name = handshake.query("profile")
        profile = PROFILES.get(self._profile if name is None else name)
        if profile is None:
            return PROFILE_UNKNOWN
        resumes = profile.counts and handshake.query("resume") == "1"
        caller = handshake.caller if profile.counts else NOBODY
        try:
            socket = await self._messaging.connect(handshake.token(), profile, caller=caller, resumes=resumes)
            stack.callback(socket.end)
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
        socket: Subscription,
        scope: WebsocketScope,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
        stack: ExitStack,
    ) -> None:
        """Hand the socket to a listener that adopts sockets; otherwise serve it until it ends."""
        extension: Any = scope["extensions"].get(DIRECT_FRAMES)
        if extension is not None:
            sink: AdoptingTransport = extension["sink"]
            sink.adopt(socket.end, socket.receive)
            stack.pop_all()
            socket.attach(sink)
            return
        async with trio.open_nursery() as nursery:
            transport = _AsgiTransport(send, nursery)
            socket.attach(transport)
            while (event := await receive())["type"] != "websocket.disconnect":
                if event["type"] == "websocket.receive":
                    socket.receive(event["text"] if event["text"] is not None else event["bytes"] or b"")
            transport.over = True
            nursery.cancel_scope.cancel()


class AdoptingTransport(Transport, Protocol):
    """A transport that can keep the socket open after its application's task has ended."""

    def adopt(self, ended: Callable[[], None], received: Callable[[str | bytes], None]) -> None:
        """Keep the socket open: call `received` with each message of the peer, and `ended` at the end."""


class _Handshake:
    """A client's handshake request."""

    def __init__(self, scope: WebsocketScope) -> None:
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self.offered = list(scope["subprotocols"])
        self.caller = Caller(self.headers.get("host"), scope["client"][0] if scope["client"] else "")
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


async def _accept(
    send: ASGISendCallable, handshake: _Handshake, *, logged: bool, message_bytes: int | None
) -> None:
    subprotocol = BEARER if BEARER in handshake.offered else None
    accept: Any = {"type": "websocket.accept", "subprotocol": subprotocol, "headers": []}
    if not logged:
        accept[UNLOGGED] = True
    if message_bytes is not None:
        accept[MESSAGE_BYTES] = message_bytes
    await send(accept)


async def _close(send: ASGISendCallable, close: Close) -> None:
    await send({"type": "websocket.close", "code": close.code, "reason": close.reason})


class _AsgiTransport:
    """A transport over ASGI: one message at a time."""

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

"""One WebSocket between the connection and an ASGI application."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

import trio
from hypercorn.typing import ASGISendEvent, WebsocketDisconnectEvent, WebsocketReceiveEvent
from hypercorn.utils import UnexpectedMessageError

from adapters.listener.asgi_handshake import AsgiHandshake
from adapters.listener.boundary import Boundary
from adapters.listener.direct import EXTENSION, DirectFrames
from adapters.listener.h11_request import SocketRequest
from adapters.listener.http1 import Http1
from adapters.listener.inbox import AppTasks, Inbox
from adapters.listener.logs import log
from adapters.listener.peer import Peer
from adapters.listener.websocket import (
    CloseCode,
    EndCause,
    SocketEffects,
    SocketEnd,
    SocketMessage,
    SocketPhase,
    SocketRefusal,
    WebSocket,
)


class EmptyBytes(bytes):
    """b"", but true: quart-trio 0.12 reads `event.get("bytes") or event["text"]`, which turns b"" into
    None.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


class AsgiSocket:
    """Performs what the socket's machine decides, and translates between it and ASGI.

    All frames leave through `_perform`, except those of the application in `DirectFrames`.
    """

    __slots__ = (
        "_accepted_at",
        "_client",
        "_end_reported",
        "_ended",
        "_handshake",
        "_http",
        "_inbox",
        "_logged",
        "_path",
        "_peer",
        "_received",
        "_tasks",
        "closed",
        "machine",
    )

    def __init__(self, request: SocketRequest, http: Http1, peer: Peer, tasks: AppTasks) -> None:
        """Calls the application at once."""
        self._http = http
        self._peer = peer
        self._tasks = tasks
        self.closed = False
        """Whether the connection ends."""
        self._accepted_at = 0.0
        self._logged = True
        """Whether the listener logs this socket's end; false if the application does."""
        self._end_reported = False
        self._ended: Callable[[], None] | None = None
        """The callback of an adopted socket's end; no task of the application receives from it."""
        self._received: Callable[[str | bytes], None] | None = None
        """The callback of an adopted socket's messages; None where they are dropped."""
        key = dict(request.fields)[b"sec-websocket-key"]
        now = trio.current_time()
        self.machine = WebSocket.begin(key, peer.shared.config, now)
        rest, peer_ended = http.take_rest()
        if rest:
            self.machine.receive(rest, now)
        if peer_ended:
            self.machine.receive(b"", now)
        self._handshake: AsgiHandshake | None = AsgiHandshake(request, http, peer, self.machine)
        """None once the socket is adopted: thousands may be open."""
        scope = self._handshake.scope
        self._path = scope["raw_path"].decode("latin-1")
        self._client = None if scope["client"] is None else scope["client"][0]
        if peer.shared.config.quick_path:
            scope["extensions"][EXTENSION] = {"sink": DirectFrames(peer.writer, self.machine, self)}
        self._inbox: Inbox = tasks.start_app(scope, self.send)
        self._inbox.put({"type": "websocket.connect"})

    # --- called by the reader ------------------------------------------------------------------------------

    async def step(self, now: float) -> bool:
        """Process one frame; returns True if there may be another. Waits only for writes to the peer."""
        if self.closed:
            return False
        if self._http.restarting:
            await self._restart(now)
        effects = self.machine.next_effects(now)
        if effects is None:
            return False
        await self._perform(effects)
        return True

    async def _restart(self, now: float) -> None:
        if effects := self.machine.restart(now):
            await self._perform(effects)
            self._report_end()

    async def expire(self, now: float) -> None:
        """The machine's deadline has passed."""
        self._peer.shared.counts.timeouts += self.machine.phase is SocketPhase.HANDSHAKE
        await self._perform(self.machine.expire(now))

    @property
    def sleeps(self) -> bool:
        """Whether the reader may end: only bytes or the deadline lead to the next step."""
        return self.machine.sleeps and not self.closed and not self._http.restarting

    @property
    def rests(self) -> bool:
        """Whether there is no work for a reader."""
        return self.machine.rests and not self.closed and not self._http.restarting

    def close_connection(self) -> None:
        """The connection has ended."""
        if not self.closed:
            self.closed = True
            self.machine.open = False
            self._report_end()

    # --- called by the application -------------------------------------------------------------------------

    async def send(self, message: ASGISendEvent | None) -> None:
        """ASGI's `send`; None marks the application's end. A cancellation takes effect only before the
        send.
        """
        if message is not None:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self.closed or self.machine.ignores_app:
                await trio.lowlevel.checkpoint()  # a tight loop of sends must let other tasks run
                return
        elif self.closed or self.machine.phase is SocketPhase.CLOSING or self._ended is not None:
            return  # the reader awaits the peer's close, and ending now would lose ours; or it is adopted
        if message is None:
            with trio.CancelScope(shield=True):
                await self._perform(self.machine.abandon(trio.current_time()))
        elif message["type"] == "websocket.accept" and self._handshake is not None:
            if self.machine.phase is SocketPhase.HANDSHAKE:
                self._accepted_at = trio.current_time()
            self._logged = await self._handshake.accept(message)
        else:
            with trio.CancelScope(shield=True):
                await self._send(message)
        self._wake_if_needed()

    async def _send(self, message: ASGISendEvent) -> None:
        machine, phase, handshake = self.machine, self.machine.phase, self._handshake
        if message["type"] == "websocket.send" and phase is SocketPhase.OPEN:
            binary = message.get("bytes")
            data = message["text"] if binary is None else bytes(binary)
            if data is None:
                raise TypeError("a message needs bytes or a text")
            await self._perform(machine.send(data))
        elif message["type"] == "websocket.close" and phase in {SocketPhase.OPEN, SocketPhase.CLOSING}:
            code, reason = int(message.get("code", CloseCode.NORMAL)), message.get("reason") or ""
            await self._perform(machine.close(code, reason, trio.current_time()))
        elif handshake is None or phase not in {SocketPhase.HANDSHAKE, SocketPhase.RESPONSE}:
            raise UnexpectedMessageError(phase, message["type"])
        elif message["type"] == "websocket.close" and phase is SocketPhase.HANDSHAKE:
            await handshake.refuse(403)
            self._finish()
        elif message["type"] == "websocket.http.response.start" and phase is SocketPhase.HANDSHAKE:
            handshake.begin_response(message)
        elif message["type"] == "websocket.http.response.body":
            if await handshake.respond(message):
                self._finish()
        else:
            raise UnexpectedMessageError(phase, message["type"])

    async def close(self, code: int, reason: str) -> None:
        """See `DirectFrames.close`."""
        await self.send({"type": "websocket.close", "code": code, "reason": reason})

    def adopt(self, ended: Callable[[], None], received: Callable[[str | bytes], None] | None) -> None:
        """See `DirectFrames.adopt`."""
        if self._end_reported:
            ended()
        elif self.machine.phase is SocketPhase.HANDSHAKE:
            raise RuntimeError("accept the socket before you adopt it")
        else:
            self._ended = ended
            self._received = received
            for earlier in self._inbox.empty():
                if earlier["type"] == "websocket.receive":
                    text = earlier["text"]
                    self._hand_over(cast("bytes", earlier["bytes"]) if text is None else text)
            self._handshake = None
            self.machine.forget_application()
            self._wake_if_needed()

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """See `DirectFrames.start_soon`."""
        if not self._end_reported:
            self._tasks.start_soon(self._path, task)

    # --- called by both ------------------------------------------------------------------------------------

    async def _perform(self, effects: SocketEffects) -> None:
        if effects and isinstance(effects[-1], SocketEnd):
            self._note(effects[-1].cause)
        for effect in effects:
            if isinstance(effect, bytes):
                await self._peer.writer.send(effect)
            elif isinstance(effect, SocketMessage):
                self._deliver(effect.data)
            elif isinstance(effect, SocketRefusal):
                await cast("AsgiHandshake", self._handshake).refuse(effect.status)
            else:
                if effect.cause.resets:
                    self._peer.abort()
                self._finish()

    def _hand_over(self, data: str | bytes) -> None:
        """Call the application back with a message of an adopted socket's peer."""
        if self._received is not None:
            with Boundary(partial(self._peer.shared.report, self._path)):
                self._received(data)

    def _deliver(self, data: str | bytes) -> None:
        if self._ended is not None:
            self._hand_over(data)
            return
        text = data if isinstance(data, str) else None
        binary = None if isinstance(data, str) else data or EmptyBytes()
        event = {"type": "websocket.receive", "bytes": binary, "text": text}
        self._inbox.put(cast("WebsocketReceiveEvent", event))
        if self._inbox.full:
            self.machine.pause(trio.current_time())

    def resume(self) -> None:
        """The application has received from a full inbox, of this socket or of an earlier request."""
        self.machine.paused = self._inbox.full
        self._wake_if_needed()

    def _wake_if_needed(self) -> None:
        """Have a reader look at the state, which has changed, unless it would have nothing to do."""
        if self._peer.asleep and self.rests and not self._peer.over:
            self._peer.watch_again()
        else:
            self._peer.wake()

    # --- its end -------------------------------------------------------------------------------------------

    def _note(self, cause: EndCause) -> None:
        counts = self._peer.shared.counts
        counts.protocol_errors += cause is EndCause.FAILED
        counts.pings_without_pong += cause is EndCause.SILENT
        if cause is EndCause.NOT_READ:
            log.warning("application_does_not_receive", path=self._path)

    def _finish(self) -> None:
        self.close_connection()
        self._peer.finish()

    def _report_end(self) -> None:
        """Send the application its only websocket.disconnect, with the code of the side that closed first."""
        if self._end_reported:
            return
        self._end_reported = True
        if self._accepted_at and self.machine.phase in {SocketPhase.OPEN, SocketPhase.CLOSING}:
            self._peer.shared.counts.open_sockets -= 1
            if self._logged:
                self._log_end()
        if self._ended is not None:
            with Boundary(partial(self._peer.shared.report, self._path)):
                self._ended()
        else:
            event = {
                "type": "websocket.disconnect",
                "code": self.machine.code,
                "reason": self.machine.reason,
            }
            self._inbox.put(cast("WebsocketDisconnectEvent", event))  # Hypercorn's type has no reason

    def _log_end(self) -> None:
        machine = self.machine
        log.info(
            "socket_closed",
            path=self._path,
            code=int(machine.code),
            reason=None if machine.by_peer else machine.reason or None,
            seconds=round(trio.current_time() - self._accepted_at, 1),
            client=self._client,
        )

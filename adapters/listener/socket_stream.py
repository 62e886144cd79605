"""One WebSocket between the connection and the application."""

from collections.abc import Awaitable, Callable
from enum import IntEnum
from functools import partial
from math import inf
from time import time
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

import trio
from hypercorn.protocol.events import Body, Data, EndBody, Event, Request, Response, StreamClosed
from hypercorn.protocol.ws_stream import ASGIWebsocketState, FrameTooLargeError, WebsocketBuffer, WSStream
from hypercorn.typing import ASGISendEvent, WebsocketAcceptEvent, WebsocketScope
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Message, Ping, TextMessage

from adapters.listener.answers import RefusedRequest, closing_answer
from adapters.listener.boundary import Boundary
from adapters.listener.config import ListenerConfig
from adapters.listener.counts import ListenerCounts
from adapters.listener.direct import EXTENSION, DirectFrames
from adapters.listener.inbox import AppTasks
from adapters.listener.logs import LoggedResponse, log
from adapters.listener.socket_handshake import SWITCHING, accepting_answer

if TYPE_CHECKING:
    from adapters.listener.http_protocol import HttpProtocol

HANDSHAKE = ASGIWebsocketState.HANDSHAKE
CONNECTED = ASGIWebsocketState.CONNECTED
RESPONSE = ASGIWebsocketState.RESPONSE
CLOSED = ASGIWebsocketState.CLOSED
HTTPCLOSED = ASGIWebsocketState.HTTPCLOSED


class CloseCode(IntEnum):
    """The close codes that the listener itself gives or notes (RFC 6455, 7.4.1)."""

    NORMAL = 1000
    GONE = 1006
    TOO_BIG = 1009
    OUR_FAULT = 1011
    RESTARTING = 1012


UNLOGGED = "unlogged"
"""A key of websocket.accept: true where the application itself writes down that the socket was there."""

REFUSALS = {
    400: ("This is no handshake.", "bad_request"),
    403: ("The server does not take this socket.", "forbidden"),
    500: ("The server failed.", "internal_error"),
    503: ("The server takes no socket now.", "unavailable"),
}
"""Before the accept: Hypercorn does not take it; the application closed, raised, or took too long."""


class EmptyBytes(bytes):
    """b"", but true: quart-trio 0.12 reads `event.get("bytes") or event["text"]`, which makes b"" None."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


class _SmallQueue(list[Any]):
    """In place of wsproto's queue of events, a deque, which takes 700 bytes when it is empty."""

    __slots__ = ()

    def popleft(self) -> Any:
        return self.pop(0)


class MessageBuffer(WebsocketBuffer):
    """Collects a message's fragments; its bound is in bytes, where Hypercorn 0.18 counts characters."""

    size = 0

    def extend(self, event: Message[Any]) -> None:
        """Add a fragment, or raise `FrameTooLargeError` and add nothing."""
        wide = isinstance(event, TextMessage) and not event.data.isascii()
        self.size += len(event.data.encode() if wide else event.data)
        if self.size > self.max_length:
            raise FrameTooLargeError
        super().extend(event)

    def clear(self) -> None:
        super().clear()
        self.size = 0

    def to_message(self) -> dict[str, Any]:
        message = super().to_message()
        if message["bytes"] == b"":
            message["bytes"] = EmptyBytes()
        return message


class SocketStream(WSStream):
    """Advanced by the connection's reader; its timers are deadlines of that reader, so it needs no task.

    Overrides of Hypercorn 0.18: malformed frames that end without a close frame, a limit that counts
    characters and goes on buffering, pings whose answers nobody checks, a close that is lost when the
    application ends right after it, a reader that waits for the application, sends that never yield.

    All that goes out passes `_send_wsproto_event`, but for frames made elsewhere: those pass `DirectFrames`.
    """

    __slots__ = (
        "_accepted_at",
        "_alarm",
        "_by_peer",
        "_code",
        "_counts",
        "_cut",
        "_ended",
        "_fed",
        "_full_since",
        "_heard",
        "_key",
        "_limits",
        "_protocol",
        "_reason",
        "_tasks",
        "_told",
        "_unlogged",
        "app",
        "app_put",
        "buffer",
        "client",
        "closed",
        "config",
        "connection",
        "context",
        "response",
        "scheme",
        "scope",
        "send",
        "server",
        "start_time",
        "state",
        "stream_id",
        "task_group",
    )

    def __init__(
        self,
        protocol: "HttpProtocol",
        tasks: AppTasks,
        limits: ListenerConfig,
        counts: ListenerCounts,
        stream_id: int,
    ) -> None:
        self.app = protocol.app
        self.app_put = None
        self.client = protocol.client
        self.closed = False
        self.config = protocol.config
        self.context = protocol.context
        self.task_group = tasks
        self.send = protocol.stream_send
        self.scheme = "wss" if protocol.ssl else "ws"
        self.server = protocol.server
        self.state = HANDSHAKE
        self.stream_id = stream_id
        self.buffer = MessageBuffer(limits.message_bytes)
        self._protocol = protocol
        self._tasks = tasks
        self._limits = limits
        self._counts = counts
        self._alarm = trio.current_time() + limits.handshake_time
        self._full_since = inf
        self._heard = True
        self._fed = False
        """Whether there may be a frame that has not been looked at."""
        self._accepted_at = 0.0
        self._code: int = CloseCode.GONE
        self._reason = ""
        self._by_peer = False
        """Whether the reason is the peer's: in a log whatever they like must not stand."""
        self._told = False
        self._unlogged = False
        """Whether the application writes it down itself, and we do not."""
        self._cut = False
        """Closed by another than the application: what that still sends is dropped."""
        self._ended: Callable[[], None] | None = None
        """Whom to tell of the end, once the socket is adopted: no task of the application's reads it."""

    # --- the reader's side ---------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When the reader calls `expire`: for the handshake, a stall, the next ping, the peer's last word."""
        if self.state is CONNECTED and self._tasks.inbox.full:
            return self._full_since + self._limits.stall_time
        return self._alarm

    def reading(self, held: int) -> bool:
        """Whether more may be read; `held` bytes have come before the accept."""
        match self.state:
            case ASGIWebsocketState.HANDSHAKE:
                return held < self._limits.message_bytes
            case ASGIWebsocketState.CONNECTED:
                return not self._tasks.inbox.full
            case _:
                return True

    @property
    def sleeping(self) -> bool:
        """Whether nobody has accepted it yet, or no task of the application's reads it."""
        adopted = self.state is CONNECTED and self._ended is not None
        return (adopted or self.state is HANDSHAKE) and not self.closed

    @property
    def resting(self) -> bool:
        """Whether nothing that has come awaits a step."""
        return not self._fed and not self.closed

    @property
    def holding(self) -> bool:
        """Whether bytes that come are held back: nobody has accepted yet."""
        return self.state is HANDSHAKE

    async def handle(self, event: Event) -> None:
        """Begin, take in bytes that follow the 101 for `next_frame`, or note the end."""
        if self.closed:
            return
        if isinstance(event, Request):
            await self._begin(event)
        elif isinstance(event, (Body, Data)):
            self._heard = True
            if self.state in {CONNECTED, CLOSED} and self.connection.state is not ConnectionState.CLOSED:
                self.connection.receive_data(event.data)
                self._fed = True
        elif isinstance(event, StreamClosed):
            self.closed = True
            await self._tell_end()

    async def _begin(self, request: Request) -> None:
        """Ask the application; the header fields are those of `plain_handshake`."""
        self.start_time = time()
        fields = dict(request.headers)
        self._key = fields[b"sec-websocket-key"]
        offered = fields.get(b"sec-websocket-protocol", b"").decode("ascii")
        path, _, query = request.raw_path.partition(b"?")
        self.scope = {
            "type": "websocket",
            "asgi": {"spec_version": "2.3", "version": "3.0"},
            "scheme": self.scheme,
            "http_version": request.http_version,
            "path": unquote(path.decode("ascii")),
            "raw_path": path,
            "query_string": query,
            "root_path": self.config.root_path,
            "headers": request.headers,
            "client": self.client,
            "server": self.server,
            "state": request.state.copy(),  # type: ignore[typeddict-item] # of Hypercorn's own class
            "subprotocols": [each.strip() for each in offered.split(",")] if offered else [],
            "extensions": {"websocket.http.response": {}},
        }
        if self._limits.quick_path:
            self.scope["extensions"][EXTENSION] = {"sink": DirectFrames(self._protocol.link, self)}
        self.app_put = await self._tasks.spawn_app(self.app, self.config, self.scope, self.app_send)
        await self.app_put({"type": "websocket.connect"})

    async def next_frame(self) -> bool:
        """Do what one frame asks for; false if none is whole, or none may be looked at now.

        Waits for the peer at most.
        """
        if not self._fed or self.closed or (self.state is CONNECTED and self._tasks.inbox.full):
            return False
        event = next(self.connection.events(), None)
        self._fed = event is not None
        if isinstance(event, Message):
            if self.state is CONNECTED:
                await self._deliver(event)
        elif isinstance(event, Ping):
            await self._send_wsproto_event(event.response())
        elif isinstance(event, CloseConnection):
            await self._peer_closed(event)
        return event is not None

    async def expire(self) -> None:
        """The deadline has passed."""
        if self.state is HANDSHAKE:
            self._counts.timeouts += 1
            await self._send_error_response(503)
            await self._over()
        elif self.state is not CONNECTED:
            await self._over(reset=True)
        elif self._tasks.inbox.full:
            log.warning("application_does_not_receive", path=self._path)
            await self._fail(CloseCode.OUR_FAULT, "not_read")
        elif not self._heard:
            self._counts.pings_unanswered += 1
            await self._over(reset=True)
        else:
            self._heard = False
            self._alarm = trio.current_time() + self._limits.ping_interval
            await self._send_wsproto_event(Ping())

    async def restart(self) -> None:
        """Close it because the server ends; the peer's answer is awaited for a moment."""
        if self.state is HANDSHAKE:
            await self._send_error_response(503)
            await self._over()
        elif self.state is CONNECTED:
            self._cut = True
            await self._close(CloseCode.RESTARTING, "")
            await self._tell_end()

    # --- the application's side ----------------------------------------------------------------------------

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """ASGI's `send`; None is the application's end. Cancelled before it begins or not at all."""
        if message is not None:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self.closed or self._cut:
                await trio.lowlevel.checkpoint()  # a tight loop of sends must let others run
                return
        elif self.closed or self.state is CLOSED or self._ended is not None:
            return  # the reader awaits the peer's close: ending now would lose ours; or it is adopted
        if message is not None and message["type"] == "websocket.accept" and self.state is HANDSHAKE:
            await self._accept(message)
        else:
            with trio.CancelScope(shield=True):
                await self._send(message)
        self._tasks.consumer.changed()  # what may be read, and until when, has changed

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self.scope["subprotocols"]:
            raise ValueError(f"the subprotocol {subprotocol} was not offered")
        answer = accepting_answer(self._key, subprotocol, message.get("headers", ()))
        del self._key
        self.state = CONNECTED
        self.connection = Connection(ConnectionType.SERVER)
        self._accepted_at = trio.current_time()
        self._alarm = self._accepted_at + self._limits.ping_interval
        self._counts.open_sockets += 1
        await self._protocol.switch(answer)
        self._unlogged = bool(message.get(UNLOGGED))
        if not self._unlogged:
            await self.config.log.access(
                self.scope, {"status": SWITCHING, "headers": []}, time() - self.start_time
            )

    async def _send(self, message: ASGISendEvent | None) -> None:
        if message is None and self.state is CONNECTED:
            self._cut = True
            await self._close(CloseCode.OUR_FAULT, "")
        elif message is not None and message["type"] == "websocket.close" and self.state is CONNECTED:
            await self._close(int(message.get("code", CloseCode.NORMAL)), message.get("reason") or "")
        else:
            await super().app_send(message)
        if self.state is HTTPCLOSED:
            await self._over()

    @property
    def open(self) -> bool:
        """Whether frames may be written."""
        return self.state is CONNECTED and not self.closed

    def adopt(self, ended: Callable[[], None]) -> None:
        """See `DirectFrames.adopt`."""
        if self._told:
            ended()
        elif self.state is HANDSHAKE:
            raise RuntimeError("a socket is adopted after its accept")
        else:
            self._ended = ended
            self._tasks.inbox.drop()
            self._tasks.consumer.changed()
            # There may be thousands, and each would keep its handshake: what is left is for the log.
            self.scope = cast("WebsocketScope", {"type": "websocket", "raw_path": self.scope["raw_path"]})
            self.app_put = None
            self.connection._events = _SmallQueue()  # type: ignore[assignment] # noqa: SLF001

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """See `DirectFrames.start_soon`."""
        if not self._told:
            self._tasks.start_soon(self._path, task)

    # --- both ----------------------------------------------------------------------------------------------

    async def _deliver(self, event: Message[Any]) -> None:
        try:
            self.buffer.extend(event)
        except FrameTooLargeError:
            await self._fail(CloseCode.TOO_BIG, "message_too_big")
            return
        if event.message_finished and self._ended is not None:
            self.buffer.clear()
        elif event.message_finished:
            message = self.buffer.to_message()
            self.buffer.clear()
            await self._tasks.inbox.put(message)  # type: ignore[arg-type] # Hypercorn's own is a plain dict too
            if self._tasks.inbox.full:
                self._full_since = trio.current_time()

    async def _peer_closed(self, event: CloseConnection) -> None:
        if self.connection.state is ConnectionState.REMOTE_CLOSING:
            self._code, self._reason, self._by_peer = int(event.code), event.reason or "", True
            self.state = CLOSED
            self._cut = True
            await self._send_wsproto_event(event.response())
            await self._over()
        elif self.connection.state is ConnectionState.CLOSED:
            await self._over()  # the answer to our own
        else:
            await self._fail(int(event.code), event.reason or "")  # wsproto's way to say: this is no frame

    async def _fail(self, code: int, reason: str) -> None:
        """Close with a code and never look at what the peer sends after that."""
        self._counts.protocol_errors += code != CloseCode.OUR_FAULT
        self._cut = True
        await self._close(code, reason)
        await self._over()

    async def _close(self, code: int, reason: str) -> None:
        if self.state is CONNECTED:
            self._code, self._reason = code, reason
        self.state = CLOSED
        self._alarm = trio.current_time() + self._limits.linger_time
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason or None))

    async def _over(self, *, reset: bool = False) -> None:
        """Nothing more goes either way; after a reset not even what has been sent."""
        if reset:
            self._protocol.reset()
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _tell_end(self) -> None:
        """Give the application its one websocket.disconnect, with the code of whoever closed first."""
        if self._told:
            return
        self._told = True
        if self._accepted_at:
            self._counts.open_sockets -= 1
            if not self._unlogged:
                self._log_end()
        if self._ended is not None:
            with Boundary(partial(self._tasks.report, self._path)):
                self._ended()
        elif self.app_put is not None:
            await self.app_put({"type": "websocket.disconnect", "code": self._code, "reason": self._reason})

    def _log_end(self) -> None:
        log.info(
            "socket_closed",
            path=self._path,
            code=int(self._code),
            reason=None if self._by_peer else self._reason or None,
            seconds=round(trio.current_time() - self._accepted_at, 1),
            client=self._client,
        )

    async def _send_error_response(self, status_code: int) -> None:
        detail, code = REFUSALS[status_code]
        headers, body = closing_answer(RefusedRequest(status_code, detail, code=code))
        self.state = HTTPCLOSED
        self._alarm = inf
        await self.send(Response(stream_id=self.stream_id, headers=headers, status_code=status_code))
        await self.send(Body(stream_id=self.stream_id, data=body))
        await self.send(EndBody(stream_id=self.stream_id))
        answered: LoggedResponse = {"status": status_code, "headers": [], "bytes": len(body)}
        await self.config.log.access(self.scope, answered, time() - self.start_time)

    @property
    def _path(self) -> str:
        return self.scope["raw_path"].decode("latin-1")

    @property
    def _client(self) -> str | None:
        return None if self.client is None else self.client[0]

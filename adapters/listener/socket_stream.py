"""One WebSocket between the connection and the application."""

from collections.abc import Awaitable, Callable
from enum import IntEnum
from functools import partial
from math import inf
from time import time
from typing import Any, cast
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
from adapters.listener.link import StreamOwner
from adapters.listener.logs import LoggedResponse, log
from adapters.listener.socket_handshake import SWITCHING, accepting_answer

HANDSHAKE = ASGIWebsocketState.HANDSHAKE
CONNECTED = ASGIWebsocketState.CONNECTED
RESPONSE = ASGIWebsocketState.RESPONSE
CLOSED = ASGIWebsocketState.CLOSED
HTTPCLOSED = ASGIWebsocketState.HTTPCLOSED


class CloseCode(IntEnum):
    """The close codes that the listener itself sends or logs (RFC 6455, 7.4.1)."""

    NORMAL = 1000
    GONE = 1006
    TOO_BIG = 1009
    OUR_FAULT = 1011
    RESTARTING = 1012


UNLOGGED = "unlogged"
"""A key of websocket.accept: true if the application logs the socket itself."""

REFUSALS = {
    400: ("This is no handshake.", "bad_request"),
    403: ("The server does not take this socket.", "forbidden"),
    500: ("The server failed.", "internal_error"),
    503: ("The server takes no socket now.", "unavailable"),
}
"""Before the accept: Hypercorn refuses it; or the application closed, raised, or took too long."""


class EmptyBytes(bytes):
    """b"", but true: quart-trio 0.12 reads `event.get("bytes") or event["text"]`, which turns b"" into
    None.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


class _SmallQueue(list[Any]):
    """Replaces wsproto's queue of events, a deque, which takes 700 bytes when it is empty."""

    __slots__ = ()

    def popleft(self) -> Any:
        return self.pop(0)


class MessageBuffer(WebsocketBuffer):
    """Collects a message's fragments; its limit is in bytes, whereas Hypercorn 0.18 counts characters."""

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
    """A WebSocket that the connection's reader advances; its timers are that reader's deadlines, not tasks.

    Overrides of Hypercorn 0.18: malformed frames that end without a close frame, a limit that counts
    characters and continues to buffer, pings whose pongs are not checked, a close that is lost if the
    application ends right after it, a reader that waits for the application, sends that never yield.

    All frames leave through `_send_wsproto_event`, except those of the application in `DirectFrames`.
    """

    __slots__ = (
        "_accepted_at",
        "_alarm",
        "_by_peer",
        "_code",
        "_counts",
        "_end_reported",
        "_ended",
        "_full_since",
        "_ignores_app",
        "_key",
        "_limits",
        "_may_have_frame",
        "_peer_was_heard",
        "_protocol",
        "_reason",
        "_tasks",
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
        protocol: StreamOwner,
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
        self._peer_was_heard = True
        self._may_have_frame = False
        """Whether received bytes may hold a frame that has not been processed."""
        self._accepted_at = 0.0
        self._code: int = CloseCode.GONE
        self._reason = ""
        self._by_peer = False
        """Whether the peer has chosen the reason: its text must not reach the log."""
        self._end_reported = False
        self._unlogged = False
        """Whether the application logs this socket, so the listener does not."""
        self._ignores_app = False
        """The peer or the listener has closed the socket: further sends of the application are dropped."""
        self._ended: Callable[[], None] | None = None
        """The callback of an adopted socket's end; no task of the application receives from it."""

    # --- called by the reader
    # ---------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When the reader calls `expire`: for the handshake, a stall, the next ping, or the linger time."""
        if self.state is CONNECTED and self._tasks.inbox.full:
            return self._full_since + self._limits.stall_time
        return self._alarm

    def reading(self, held: int) -> bool:
        """Whether the reader may read more; `held` are bytes received before the accept."""
        match self.state:
            case ASGIWebsocketState.HANDSHAKE:
                return held < self._limits.message_bytes
            case ASGIWebsocketState.CONNECTED:
                return not self._tasks.inbox.full
            case _:
                return True

    @property
    def sleeping(self) -> bool:
        """Whether the reader may end: the socket awaits its accept, or is adopted."""
        adopted = self.state is CONNECTED and self._ended is not None
        return (adopted or self.state is HANDSHAKE) and not self.closed

    @property
    def resting(self) -> bool:
        """Whether no received frame awaits processing."""
        return not self._may_have_frame and not self.closed

    @property
    def holding(self) -> bool:
        """Whether received bytes must wait for the accept."""
        return self.state is HANDSHAKE

    async def handle(self, event: Event) -> None:
        """Start the application, store bytes after the 101 for `next_frame`, or handle the connection's
        end.
        """
        if self.closed:
            return
        if isinstance(event, Request):
            await self._begin(event)
        elif isinstance(event, (Body, Data)):
            self._peer_was_heard = True
            if self.state in {CONNECTED, CLOSED} and self.connection.state is not ConnectionState.CLOSED:
                self.connection.receive_data(event.data)
                self._may_have_frame = True
        elif isinstance(event, StreamClosed):
            self.closed = True
            await self._report_end()

    async def _begin(self, request: Request) -> None:
        """Start the application; the header fields come from `plain_handshake`."""
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
        """Process one frame; false if none is complete, or the inbox is full.

        Waits for nothing but writes to the peer.
        """
        if not self._may_have_frame or self.closed or (self.state is CONNECTED and self._tasks.inbox.full):
            return False
        event = next(self.connection.events(), None)
        self._may_have_frame = event is not None
        if isinstance(event, Message):
            if self.state is CONNECTED:
                await self._deliver(event)
        elif isinstance(event, Ping):
            await self._send_wsproto_event(event.response())
        elif isinstance(event, CloseConnection):
            await self._peer_closed(event)
        return event is not None

    async def expire(self) -> None:
        """Handle the deadline."""
        if self.state is HANDSHAKE:
            self._counts.timeouts += 1
            await self._send_error_response(503)
            await self._finish()
        elif self.state is not CONNECTED:
            await self._finish(reset=True)
        elif self._tasks.inbox.full:
            log.warning("application_does_not_receive", path=self._path)
            await self._fail(CloseCode.OUR_FAULT, "not_read")
        elif not self._peer_was_heard:
            self._counts.pings_unanswered += 1
            await self._finish(reset=True)
        else:
            self._peer_was_heard = False
            self._alarm = trio.current_time() + self._limits.ping_interval
            await self._send_wsproto_event(Ping())

    async def restart(self) -> None:
        """Close it because the server shuts down; the peer has `linger_time` to answer."""
        if self.state is HANDSHAKE:
            await self._send_error_response(503)
            await self._finish()
        elif self.state is CONNECTED:
            self._ignores_app = True
            await self._close(CloseCode.RESTARTING, "")
            await self._report_end()

    # --- called by the application
    # ----------------------------------------------------------------------------

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """ASGI's `send`; None marks the application's end. A cancellation takes effect before the send
        only.
        """
        if message is not None:
            await trio.lowlevel.checkpoint_if_cancelled()
            if self.closed or self._ignores_app:
                await trio.lowlevel.checkpoint()  # a tight loop of sends must let other tasks run
                return
        elif self.closed or self.state is CLOSED or self._ended is not None:
            return  # the reader awaits the peer's close, and ending now would lose ours; or it is adopted
        if message is not None and message["type"] == "websocket.accept" and self.state is HANDSHAKE:
            await self._accept(message)
        else:
            with trio.CancelScope(shield=True):
                await self._send(message)
        self._tasks.observer.state_changed()  # `reading` and `deadline` have changed

    async def _accept(self, message: WebsocketAcceptEvent) -> None:
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self.scope["subprotocols"]:
            raise ValueError(f"the client has not offered the subprotocol {subprotocol}")
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
            self._ignores_app = True
            await self._close(CloseCode.OUR_FAULT, "")
        elif message is not None and message["type"] == "websocket.close" and self.state is CONNECTED:
            await self._close(int(message.get("code", CloseCode.NORMAL)), message.get("reason") or "")
        else:
            await super().app_send(message)
        if self.state is HTTPCLOSED:
            await self._finish()

    @property
    def open(self) -> bool:
        """Whether frames can be written."""
        return self.state is CONNECTED and not self.closed

    def adopt(self, ended: Callable[[], None]) -> None:
        """See `DirectFrames.adopt`."""
        if self._end_reported:
            ended()
        elif self.state is HANDSHAKE:
            raise RuntimeError("accept the socket before you adopt it")
        else:
            self._ended = ended
            self._tasks.inbox.drop()
            self._tasks.observer.state_changed()
            # Thousands may be open: release their handshakes, except the path for the log.
            self.scope = cast("WebsocketScope", {"type": "websocket", "raw_path": self.scope["raw_path"]})
            self.app_put = None
            self.connection._events = _SmallQueue()  # type: ignore[assignment] # noqa: SLF001

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """See `DirectFrames.start_soon`."""
        if not self._end_reported:
            self._tasks.start_soon(self._path, task)

    # --- called by both
    # ----------------------------------------------------------------------------------------------

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
            await self._tasks.inbox.put(message)  # type: ignore[arg-type] # Hypercorn passes a plain dict too
            if self._tasks.inbox.full:
                self._full_since = trio.current_time()

    async def _peer_closed(self, event: CloseConnection) -> None:
        if self.connection.state is ConnectionState.REMOTE_CLOSING:
            self._code, self._reason, self._by_peer = int(event.code), event.reason or "", True
            self.state = CLOSED
            self._ignores_app = True
            await self._send_wsproto_event(event.response())
            await self._finish()
        elif self.connection.state is ConnectionState.CLOSED:
            await self._finish()  # the answer to our close frame
        else:  # wsproto reports a malformed frame like this
            await self._fail(int(event.code), event.reason or "")

    async def _fail(self, code: int, reason: str) -> None:
        """Close with a code, and ignore all further bytes of the peer."""
        self._counts.protocol_errors += code != CloseCode.OUR_FAULT
        self._ignores_app = True
        await self._close(code, reason)
        await self._finish()

    async def _close(self, code: int, reason: str) -> None:
        if self.state is CONNECTED:
            self._code, self._reason = code, reason
        self.state = CLOSED
        self._alarm = trio.current_time() + self._limits.linger_time
        await self._send_wsproto_event(CloseConnection(code=code, reason=reason or None))

    async def _finish(self, *, reset: bool = False) -> None:
        """End the connection; with `reset`, unsent bytes are lost."""
        if reset:
            self._protocol.reset()
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _report_end(self) -> None:
        """Send the application its only websocket.disconnect, with the code of the side that closed first."""
        if self._end_reported:
            return
        self._end_reported = True
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
        response: LoggedResponse = {"status": status_code, "headers": [], "bytes": len(body)}
        await self.config.log.access(self.scope, response, time() - self.start_time)

    @property
    def _path(self) -> str:
        return self.scope["raw_path"].decode("latin-1")

    @property
    def _client(self) -> str | None:
        return None if self.client is None else self.client[0]

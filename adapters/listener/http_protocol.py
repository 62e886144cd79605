"""HTTP/1.1 on one connection: heads, bodies, answers, the next request, and the upgrade to a WebSocket."""

from dataclasses import replace
from enum import Enum, auto
from functools import partial
from math import inf
from typing import cast
from urllib.parse import unquote

import h11
import trio
from hypercorn.events import RawData
from hypercorn.protocol.events import Body, Data, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.trio.tcp_server import MAX_RECV
from hypercorn.typing import ConnectionState, H11SendableEvent

from adapters.http_api.exchange import HttpRequest
from adapters.listener.answers import NOT_WELL_FORMED, RefusedRequest, closing_answer
from adapters.listener.boundary import Boundary
from adapters.listener.config import ListenerConfig
from adapters.listener.counts import ListenerCounts
from adapters.listener.head import Fields, has_begun, plain_request, take_head
from adapters.listener.http_stream import HttpStream
from adapters.listener.inbox import AppTasks
from adapters.listener.link import Link
from adapters.listener.logs import log, log_request
from adapters.listener.proxies import parse_address, request_source
from adapters.listener.request_body import RequestBody
from adapters.listener.socket_handshake import asks_for_socket, handshake_beyond_doubt, plain_handshake
from adapters.listener.socket_stream import SocketStream
from adapters.listener.whole_exchange import WholeExchange, begin_exchange
from adapters.listener.whole_requests import SEPARATE, WholeRequests, plain_head

TURN = 32
"""Steps of one connection, each a frame or a piece of a body, after which other tasks run: about 0.2 ms of
the loop's time, whereas one read of 64 KiB may hold ten thousand steps."""

SMALL_READ = 16_384
"""Bytes of one read while a head is awaited; enough for a request of usual size."""

PIPELINE_BYTES = 65_536
"""Bytes of pipelined requests that are read while one is answered; the rest waits in the kernel."""

CLOSE = (b"connection", b"close")
SOON = ((b"retry-after", b"10"),)
NO_MORE_HTTP = h11.Connection(h11.SERVER)
"""Replaces the parser of a connection that has become a WebSocket; receives no bytes."""


def _has_body(fields: Fields) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in fields
    )


class Phase(Enum):
    """What the next bytes belong to.

    HEAD - WHOLE - HEAD: a whole request, answered by one call.
    HEAD - WHOLE - REST - HEAD: the same, refused by its head.
    HEAD - BODY - ANSWER - HEAD: a request through h11 and ASGI.
    HEAD - BODY - REST - HEAD: the same, answered before the end of its body.
    HEAD - SOCKET: a WebSocket, until the connection ends.
    """

    HEAD = auto()
    """A request's head; the connection is idle before its first byte."""
    BODY = auto()
    """The body of the request in progress, whose answer has not ended."""
    WHOLE = auto()
    """The body of a whole request, answered once all of it has been received."""
    ANSWER = auto()
    """Pipelined requests: the current one has been received, its answer has not ended."""
    REST = auto()
    """A body that is dropped, within its limits, because its request has been answered."""
    SOCKET = auto()
    """A WebSocket, accepted or awaiting the accept."""


class HttpProtocol(H11Protocol):
    """Advances one connection; only its reader calls `receive`, `advance` and `expire`.

    Overrides of Hypercorn 0.18: no cleartext HTTP/2 (a peer could end the process in two ways), heads checked
    before h11 parses them, a reader that does not wait for the response, a next cycle outside the
    application's task, the rest of a body after an early answer, bytes before the 101, refusals with a
    reason.
    """

    __slots__ = (
        "_began",
        "_body",
        "_counted",
        "_ended",
        "_head_begun",
        "_held_head",
        "_limits",
        "_method",
        "_phase",
        "_progressed",
        "_proxy",
        "_received",
        "_receiving",
        "_shed",
        "_unread_head",
        "_whole",
        "_whole_requests",
        "app",
        "client",
        "config",
        "connection",
        "connection_state",
        "context",
        "counts",
        "draining",
        "fresh",
        "keep_alive_requests",
        "link",
        "restarting",
        "send",
        "server",
        "ssl",
        "stream",
        "task_group",
    )  # with Hypercorn's attributes: an instance dictionary would double the size

    connection: h11.Connection
    task_group: AppTasks
    stream: HttpStream | SocketStream | None

    def __init__(  # noqa: PLR0917 - Hypercorn's takes nine
        self,
        link: Link,
        tasks: AppTasks,
        limits: ListenerConfig,
        counts: ListenerCounts,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        whole_requests: WholeRequests | None = None,
    ) -> None:
        # Hypercorn's attributes, except an event for which nothing waits here.
        self.app = link.app
        self.config = link.config
        self.context = link.context
        self.task_group = tasks
        self.connection_state = ConnectionState(link.state)
        self.ssl = False
        self.client = client
        self.server = server
        self.send = link.protocol_send
        self.stream = None
        self.keep_alive_requests = 0
        self.connection = self._parser()
        tasks.observer = self
        self.draining = False
        """The server shuts down: the answer in progress is the last one."""
        self.fresh = True
        """No request has arrived yet: at shutdown a new connection still gets its first answer."""
        self.restarting = False
        """The server shuts down: a WebSocket must close."""
        self.link = link
        self._limits = limits
        self.counts = counts
        self._phase = Phase.HEAD
        self._received = bytearray()
        """Received bytes that neither h11 nor the WebSocket has processed."""
        self._ended = False
        """The peer has ended its side; it may still read."""
        self._held_head = b""
        """A response's head, written together with the first bytes of its body."""
        self._began = trio.current_time()
        """When the idle time, the head or the request started."""
        self._progressed = self._began
        self._head_begun = False
        self._body: RequestBody | None = None
        """Of the last request through h11."""
        self._method = b""
        self._unread_head = b""
        """A handshake's head that h11 has not parsed; it must if h11 writes the answer."""
        self._proxy = ""
        """The peer's address if it is a trusted proxy, otherwise empty."""
        trusted = limits.trusted_proxies
        if trusted and client is not None and parse_address(client[0]) in trusted:
            self._proxy = client[0]
        self._counted = 0
        """Bytes of unanswered requests, as last reported to the ledger."""
        self._shed = False
        """Whether the ledger has shed this connection's requests."""
        self._receiving = False
        """Whether the reader is counting, and checks `_shed` afterwards."""
        self._whole_requests = whole_requests
        self._whole: WholeExchange | None = None
        """The whole request in progress, which bypasses h11 and ASGI."""

    # --- called by the reader
    # ---------------------------------------------------------------------------------

    @property
    def reading(self) -> bool:
        """Whether the reader may read from the connection; false is back-pressure."""
        if self._ended:
            return False
        if isinstance(self.stream, SocketStream):
            return self.stream.reading(len(self._received))
        match self._phase:
            case Phase.BODY:
                return not self.task_group.inbox.full and not self._too_large
            case Phase.ANSWER:
                return len(self._received) < PIPELINE_BYTES
            case _:
                return True

    @property
    def next_read(self) -> int:
        """The most bytes of the next read: fewer for a head, and for bytes that are dropped."""
        phase = self._phase  # compared one by one: a member of an Enum takes long to hash
        return SMALL_READ if phase is Phase.HEAD or phase is Phase.REST else MAX_RECV

    @property
    def sleeping(self) -> bool:
        """Whether the reader may end: only bytes or the deadline lead to the next step."""
        return isinstance(self.stream, SocketStream) and self.stream.sleeping and not self.restarting

    @property
    def resting(self) -> bool:
        """Whether it is a WebSocket without work for the reader."""
        nothing_pending = not self._received and not self._ended and not self.restarting
        return nothing_pending and isinstance(self.stream, SocketStream) and self.stream.resting

    @property
    def deadline(self) -> float:
        """When the reader calls `expire` unless bytes arrive first; seconds of trio's clock."""
        if isinstance(self.stream, SocketStream):
            return self.stream.deadline
        limits = self._limits
        match self._phase:
            case Phase.HEAD:
                return self._began + (limits.head_time if self._head_begun else limits.idle_time)
            case Phase.BODY if self._too_large:
                return self._progressed + limits.refusal_time
            case Phase.BODY if self.task_group.inbox.full:
                return inf
            case Phase.BODY | Phase.WHOLE | Phase.REST:
                return min(self._progressed + limits.body_idle_time, self._began + limits.body_time)
            case _:
                return inf

    @property
    def _too_large(self) -> bool:
        return self._body is not None and self._body.too_large

    def receive(self, data: bytes) -> None:
        """Store received bytes, none for their end; `advance` processes them."""
        self._received += data
        self._ended = not data
        self._progressed = trio.current_time()

    async def end(self) -> None:
        """Handle the connection's end."""
        await self._close_stream()

    async def advance(self) -> None:
        """Take all possible steps, in turns with other tasks; never waits for an application called by
        ASGI.
        """
        steps = 0
        try:
            while not self.link.over and await self._step():
                steps += 1
                if steps % TURN == 0:
                    await trio.lowlevel.checkpoint()  # between two steps the state is consistent
            if self._received or self._counted or self._body is not None:
                self.count(receiving=True)
        except RefusedRequest as refused:
            await self._refuse(refused)
        except h11.RemoteProtocolError as error:
            # h11's message may quote the line, and a token in it.
            await self._refuse(RefusedRequest(error.error_status_hint, NOT_WELL_FORMED))
        if self._shed and not self.link.over:
            detail = "The server is receiving too much at this moment. Try again."
            await self._refuse(RefusedRequest(503, detail, code="busy", headers=SOON))

    def count(self, *, receiving: bool = False) -> None:
        """Count the bytes of unanswered requests, here and with the application.

        Beyond a bound this may shed connections, this one too if the reader is `receiving`.
        """
        delivered = 0
        if self._body is not None and self._phase in {Phase.BODY, Phase.ANSWER}:
            delivered = self._body.size
        size = len(self._received) + delivered
        if size != self._counted and not self._shed:
            self._counted = size
            self._receiving = receiving
            self.link.count_unread(size)
            self._receiving = False

    def shed(self) -> bool:
        """Drop the unanswered requests; false if the only one is being answered, and may be committed."""
        if self._shed:
            return False
        if self._phase in {Phase.HEAD, Phase.WHOLE, Phase.BODY} and (self._receiving or self.link.idle):
            self._shed = True
            self._received.clear()
            self.link.wake()
        elif self._received and self._phase not in {Phase.HEAD, Phase.BODY}:
            self.link.abort()  # it pipelines requests without reading the answers
        else:
            return False
        self.counts.unread_shed += 1
        return True

    async def expire(self) -> None:
        """Handle the deadline."""
        if isinstance(self.stream, SocketStream):
            await self.stream.expire()
        elif self._too_large:
            detail = f"The body is larger than {self._limits.body_bytes} bytes."
            await self._refuse(RefusedRequest(413, detail, code="body_too_large"))
        elif self._head_begun or self._phase in {Phase.BODY, Phase.WHOLE}:
            self.counts.timeouts += 1
            await self._refuse(
                RefusedRequest(408, "The request took too long to arrive.", code="request_timeout")
            )
        else:
            self.link.finish()

    # --- steps ------------------------------------------------------------------------------------------

    async def _step(self) -> bool:
        """Take one step; returns whether another may be possible."""
        match self._phase:
            case Phase.HEAD:
                return await self._step_head()
            case Phase.WHOLE if self._whole is not None:
                return await self._whole.step(self, self._received, ended=self._ended)
            case Phase.REST if self._whole is not None:
                return self._whole.drop(self, self._received, ended=self._ended)
            case Phase.BODY | Phase.REST:
                return await self._step_body()
            case Phase.SOCKET:
                return await self._step_socket()
        return False

    async def _step_head(self) -> bool:
        if self._proxy:
            self.client = (self._proxy, 0)  # the client is unknown until the head has been read
        head = take_head(
            self._received, max_bytes=self._limits.head_bytes, max_fields=self._limits.head_fields
        )
        if head is None:
            return self._await_head()
        self._head_begun = self.fresh = False
        if self._proxy:
            # Once, for all paths of the request; Hypercorn derives the scheme from `ssl`.
            source = request_source(head, self._proxy, self._limits.trusted_proxies)
            self.client, self.ssl = (source.client, 0), source.secure
        plain = plain_head(head) if self._limits.quick_path else None
        if plain is not None and plain.upgrade:
            handshake = handshake_beyond_doubt(plain.method, plain.fields)
            if handshake is not None:
                self._unread_head = head
                await self._begin_socket(head.split(b" ", 2)[1], handshake)
                return True
        elif plain is not None:
            whole = begin_exchange(plain, self._whole_requests, self._limits)
            if whole is not None:
                self._whole = whole
                self._phase = Phase.WHOLE
                self.counts.requests += 1
                if len(self._received) < plain.length:
                    self._began = self._progressed = trio.current_time()
                return await whole.step(self, self._received, ended=self._ended)
        self._began = self._progressed = trio.current_time()
        self.connection.receive_data(head)
        await self._begin(cast("h11.Request", self.connection.next_event()))
        return True

    def _await_head(self) -> bool:
        """Wait for the rest of a head."""
        begun = has_begun(self._received)
        if begun and self._ended:
            raise RefusedRequest(400, "The request ended before its head did.")
        if self._ended or (self.draining and (self.restarting or not self.fresh)):
            self.fresh = False
            if begun:
                raise RefusedRequest(503, "The server is shutting down.", code="draining", headers=SOON)
            self.link.finish()
        elif begun and not self._head_begun:
            self._head_begun = True
            self._began = trio.current_time()
        return False

    async def _step_body(self) -> bool:
        if self._phase is Phase.BODY and (self.task_group.inbox.full or self._too_large):
            return False
        body = cast("RequestBody", self._body)
        data = body.take(self._received)
        if data or self._ended:
            self.connection.receive_data(data)
        event = self.connection.next_event()
        if isinstance(event, h11.Data):
            await self._give_body(body.within(bytes(event.data)))
        elif isinstance(event, h11.EndOfMessage):
            self._received += self.connection.trailing_data[0]
            await self._body_ended()
        else:
            return bool(data)  # more bytes, or the end, may follow
        return True

    async def _give_body(self, data: bytes) -> None:
        if self._phase is Phase.REST:
            if self._too_large:
                self.link.finish()
        elif self.stream is not None:
            await self.stream.handle(Body(stream_id=STREAM_ID, data=data))

    async def _body_ended(self) -> None:
        if self._phase is Phase.REST:
            self._next_cycle()
            return
        self._phase = Phase.ANSWER
        if self.stream is not None:
            await self.stream.handle(EndBody(stream_id=STREAM_ID))

    async def _step_socket(self) -> bool:
        socket = cast("SocketStream", self.stream)
        if self.restarting:
            await socket.restart()
        if self._received and not socket.holding:
            data = bytes(self._received)
            self._received.clear()
            await socket.handle(Data(stream_id=STREAM_ID, data=data))
        if await socket.next_frame():
            return True
        if self._ended and not socket.holding:
            self.link.finish()
        return False

    # --- the start of a request
    # ----------------------------------------------------------------------------------

    async def _begin(self, request: h11.Request) -> None:
        self._method = request.method
        target, fields = plain_request(request)
        self._phase = Phase.BODY
        self._body = RequestBody(fields, self._limits)
        if asks_for_socket(request.method, request.http_version, fields):
            fields = plain_handshake(fields)
            if not isinstance(self.connection.next_event(), h11.EndOfMessage):
                raise RefusedRequest(400, "A WebSocket's handshake has no body.")
            await self._begin_socket(target, fields)
            return
        if await self._refused_from_head(request.method, target, fields):
            return
        stream = HttpStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        # Not upper-cased, as in Hypercorn: h11 frames the answer to a HEAD by the original method.
        await self._begin_stream(
            stream, request.method.decode(), target, fields, request.http_version.decode()
        )

    async def _refused_from_head(self, method: bytes, target: bytes, fields: Fields) -> bool:
        """Answer a request that the application refuses by its head; returns whether it does.

        Through ASGI the application would receive the body meanwhile, and hold it in memory.
        """
        if self._whole_requests is None or not _has_body(fields):
            return False
        path, _, query = target.partition(b"?")
        joined: dict[str, str] = {}
        for name, value in fields:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            joined[key] = f"{joined[key]}, {text}" if key in joined else text
        plain = unquote(path.decode("latin-1"))
        route = self._whole_requests.route(method.decode(), plain)
        if route is None:
            return False
        client = "" if self.client is None else self.client[0]
        began = trio.current_time()
        refusal = None
        with Boundary(partial(self.task_group.report, plain)):
            refusal = await route.refusal(HttpRequest(method.decode(), plain, query, joined, b"", client))
        if refusal is None:
            return False
        self.counts.requests += 1
        length = (b"content-length", b"%d" % len(refusal.body))
        headers = [
            length,
            *((name.encode("latin-1"), value.encode("latin-1")) for name, value in refusal.headers),
        ]
        await self.stream_send(Response(STREAM_ID, headers, refusal.status))
        await self.stream_send(Body(STREAM_ID, refusal.body))
        await self.stream_send(EndBody(STREAM_ID))
        log_request(
            method.decode(),
            path.decode("latin-1"),
            refusal.status,
            size=len(refusal.body),
            seconds=trio.current_time() - began,
            client=client or None,
            fields=refusal.headers,
        )
        await self._answered()
        return True

    async def _begin_socket(self, target: bytes, fields: Fields) -> None:
        """Become a WebSocket if the application accepts; `fields` come from `plain_handshake`."""
        self._method = b"GET"
        self._phase = Phase.SOCKET
        stream = SocketStream(self, self.task_group, self._limits, self.counts, STREAM_ID)
        await self._begin_stream(stream, "GET", target, fields, "1.1")

    async def _begin_stream(
        self, stream: HttpStream | SocketStream, method: str, target: bytes, fields: Fields, version: str
    ) -> None:
        self.counts.requests += 1
        self.stream = stream
        await stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=fields,
                http_version=version,
                method=method,
                raw_path=target,
                state=self.connection_state,
            )
        )

    # --- called by its inbox and streams ---------------------------------------------------------------

    async def body_awaited(self) -> None:
        """The application waits for a body: send the 100 that the peer waits for."""
        connection = self.connection
        if (
            self._phase is Phase.BODY
            and connection.they_are_waiting_for_100_continue
            and connection.our_state is h11.SEND_RESPONSE
            and not (self._body is not None and self._body.declares_too_much)
        ):
            with trio.CancelScope(shield=True):
                await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))

    def state_changed(self) -> None:
        """Wake the reader, which may have work now."""
        self.link.wake_if_needed()

    def reset(self) -> None:
        """Reset the connection."""
        self.link.abort()

    # --- the answer, called by the application's task
    # -----------------------------------------------------------

    async def stream_send(self, event: StreamEvent) -> None:
        """Send a stream's event; a stream's end has no checkpoint, so that nothing can cancel it."""
        if isinstance(event, StreamClosed):
            await self._answered()
        elif isinstance(event, Response) and event.status_code >= 200 and self._is_last:
            headers = [*event.headers, *([] if CLOSE in event.headers else [CLOSE])]
            await super().stream_send(replace(event, headers=headers))
        else:
            await super().stream_send(event)

    @property
    def _is_last(self) -> bool:
        """Whether the connection must close after this answer."""
        return (
            self.draining
            or self._phase is Phase.SOCKET
            or self.connection.they_are_waiting_for_100_continue
            or (self._body is not None and (self._body.too_large or self._body.declares_too_much))
        )

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        if self._unread_head:
            self.connection.receive_data(self._unread_head)
            self._unread_head = b""
            self.connection.next_event()  # the request, which has been processed already,
            self.connection.next_event()  # and its end
        try:
            pieces = self.connection.send_with_data_passthrough(event) or []
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            self._held_head = b"".join(pieces)
            return
        head, self._held_head = self._held_head, b""
        if isinstance(event, h11.Data) and len(event.data) > SEPARATE and event.data is pieces[-1]:
            # A large object, which several connections may send at once, is not copied.
            await self.link.write(head + b"".join(pieces[:-1]), event.data)
            await trio.lowlevel.cancel_shielded_checkpoint()  # a tight loop of sends must let others run
        elif data := b"".join([head, *pieces]):
            await self.send(RawData(data=data))

    async def switch(self, answer: bytes) -> None:
        """Write the 101; the bytes that follow are not HTTP."""
        self.connection = NO_MORE_HTTP  # thousands of these stay open: release their parsers
        self._unread_head = b""
        await self.link.write(answer)

    async def _answered(self) -> None:
        incomplete = self._phase is not Phase.SOCKET and self.connection.our_state is h11.SEND_BODY
        await self._close_stream()
        if incomplete:
            self.link.abort()  # in HTTP/1.0 an orderly end of the connection would mark the end of the body
        elif self._phase is Phase.SOCKET or self.connection.our_state is not h11.DONE or self.draining:
            self.link.finish()
        elif self._phase is Phase.ANSWER:
            self._next_cycle()
        else:
            self._phase = Phase.REST
            self.link.wake()

    # --- the end of a request
    # ------------------------------------------------------------------------------------

    def _parser(self) -> h11.Connection:
        return h11.Connection(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)

    def next_request(self) -> None:
        """Await the next request; the caller must make the reader process bytes received already."""
        self._whole = None
        self._phase = Phase.HEAD
        self._began = trio.current_time()

    def drop_body(self) -> None:
        """Drop the body of a request that was refused by its head, within the limits of any body."""
        self._phase = Phase.REST

    def _next_cycle(self) -> None:
        """The same after a request through h11, with a new parser: h11's own next cycle keeps its buffer."""
        self.connection = self._parser()
        self._method = b""
        self._body = None
        if self._counted:
            self.count()
        self.next_request()
        if self._received or self._ended or self.draining:
            self.link.wake()
        else:
            self.link.rearm()

    async def _refuse(self, refused: RefusedRequest) -> None:
        """Answer a refused request, unless an answer has started, and close the connection."""
        self.counts.bad_requests += 1
        client = None if self.client is None else self.client[0]
        log.info("request_refused", status=refused.status, code=refused.code, client=client)
        if isinstance(self.stream, HttpStream):
            await self.stream.log_listener_answer(refused.status)
        elif self._whole is not None:
            seconds = trio.current_time() - self._began
            self._whole.log_listener_answer(refused.status, seconds=seconds, client=client)
        await self._close_stream()
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            headers, body = closing_answer(refused)
            headers += [*self._limits.refusal_headers, *self.config.response_headers("h11")]
            await self._send_h11_event(h11.Response(status_code=refused.status, headers=headers))
            if self._method != b"HEAD":
                await self._send_h11_event(h11.Data(data=body))
            await self._send_h11_event(h11.EndOfMessage())
        self.link.finish()

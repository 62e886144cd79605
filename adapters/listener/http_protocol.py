"""HTTP/1.1 on one connection: heads, bodies, answers, the next request, and the hand-over to a WebSocket."""

from dataclasses import replace
from enum import Enum, auto
from functools import partial
from math import inf
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

import h11
import trio
from hypercorn.events import RawData
from hypercorn.protocol.events import Body, Data, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.trio.tcp_server import MAX_RECV
from hypercorn.typing import ConnectionState, H11SendableEvent

from adapters.listener.answers import NOT_WELL_FORMED, RefusedRequest, closing_answer
from adapters.listener.boundary import Boundary
from adapters.listener.config import ListenerConfig
from adapters.listener.counts import ListenerCounts
from adapters.listener.head import Fields, has_begun, plain_request, take_head
from adapters.listener.http_stream import HttpStream
from adapters.listener.inbox import AppTasks
from adapters.listener.logs import log, log_request
from adapters.listener.proxies import parse_address, request_source
from adapters.listener.request_body import RequestBody
from adapters.listener.socket_handshake import asks_for_socket, handshake_beyond_doubt, plain_handshake
from adapters.listener.socket_stream import SocketStream
from adapters.listener.whole_exchange import WholeExchange, begin_whole
from adapters.listener.whole_requests import SEPARATE, WholeRequest, WholeRequests, plain_head

if TYPE_CHECKING:
    from adapters.listener.connection import PeerConnection

TURN = 32
"""Steps of one connection, each a frame or a piece of a body, after which others run: about 0.2 ms of the
loop's time, where 64 KiB that come at once may hold ten thousand steps."""

SMALL_READ = 16_384
"""Bytes that are read at a time while a head is awaited; a request of usual size comes in one piece."""

PIPELINE_BYTES = 65_536
"""How much of the requests to come is read while one is answered; the rest waits in the kernel."""

CLOSE = (b"connection", b"close")
SOON = ((b"retry-after", b"10"),)
NO_MORE_HTTP = h11.Connection(h11.SERVER)
"""In place of the parser of a connection that has become a WebSocket; never fed."""


def _has_body(fields: Fields) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0"))
        for name, value in fields
    )


class Phase(Enum):
    """What the bytes that come next belong to.

    HEAD - WHOLE - HEAD: a request that is answered by one call; HEAD - WHOLE - REST - HEAD, if from its head.
    HEAD - BODY - ANSWER - HEAD: one that goes through h11 and ASGI; if it is answered before all of its body
    is here, HEAD - BODY - REST - HEAD.
    HEAD - SOCKET, from which nothing leads back.
    """

    HEAD = auto()
    """A request's head, or nothing yet: the connection is idle."""
    BODY = auto()
    """The body of the request in progress, whose answer may have begun, not ended."""
    WHOLE = auto()
    """The body of a request that is answered once all of it is here."""
    ANSWER = auto()
    """Later requests: this one is whole, its answer is not."""
    REST = auto()
    """A body that nobody wants, since its answer has been given; dropped, within bounds."""
    SOCKET = auto()
    """A WebSocket, accepted or about to be."""


class HttpProtocol(H11Protocol):
    """Advances one connection; `receive`, `advance` and `expire` are its reader's alone.

    Overrides of Hypercorn 0.18: no cleartext HTTP/2 (each of its two ways in could end the process), heads
    judged before h11 sees them, a reader that does not wait for the response, a next cycle that is no task of
    the application's, the rest of a body after an early answer, bytes before the 101, answers that say why.
    """

    __slots__ = (
        "_began",
        "_body",
        "_counted",
        "_ended",
        "_given_up",
        "_head_begun",
        "_held_head",
        "_limits",
        "_method",
        "_phase",
        "_progressed",
        "_proxy",
        "_received",
        "_receiving",
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
    )  # Hypercorn's too: in the place of its dictionary, which takes as much again

    connection: h11.Connection
    task_group: AppTasks
    stream: HttpStream | SocketStream | None

    def __init__(  # noqa: PLR0917 - Hypercorn's takes nine
        self,
        link: "PeerConnection",
        tasks: AppTasks,
        limits: ListenerConfig,
        counts: ListenerCounts,
        client: tuple[str, int] | None,
        server: tuple[str, int] | None,
        whole_requests: WholeRequests | None = None,
    ) -> None:
        # All of Hypercorn's but an event, for which nobody waits here.
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
        tasks.consumer = self
        self.draining = False
        """The server ends: the answer in progress is the last one."""
        self.fresh = True
        """No request has come yet: who has just connected is owed an answer to the first."""
        self.restarting = False
        """And a WebSocket is closed for it."""
        self.link = link
        self._limits = limits
        self.counts = counts
        self._phase = Phase.HEAD
        self._received = bytearray()
        """What neither h11 nor the WebSocket has been given yet."""
        self._ended = False
        """The peer sends nothing more; it may still read."""
        self._held_head = b""
        """A response's head, to leave in one write with the first bytes of its body."""
        self._began = trio.current_time()
        """When the idling, the head or the request began."""
        self._progressed = self._began
        self._head_begun = False
        self._body: RequestBody | None = None
        """Of the last request that went through h11."""
        self._method = b""
        self._unread_head = b""
        """Of a handshake that h11 has not been shown: it is, if the answer is h11's to make."""
        self._proxy = ""
        """The peer's address, where what it says of its clients' is believed."""
        trusted = limits.trusted_proxies
        if trusted and client is not None and parse_address(client[0]) in trusted:
            self._proxy = client[0]
        self._counted = 0
        """Bytes that the connection keeps of requests that are not answered, as far as it is counted."""
        self._given_up = False
        """Whether they were dropped because all connections together keep too much."""
        self._receiving = False
        """Whether the reader is counting, and will look whether it has to give up."""
        self._whole_requests = whole_requests
        self._whole: WholeExchange | None = None
        """The request in progress that goes past h11 and ASGI."""

    # --- the reader's side ---------------------------------------------------------------------------------

    @property
    def reading(self) -> bool:
        """Whether the reader may take bytes off the connection: back-pressure when it may not."""
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
        """Bytes to read at most: fewer where no more is expected, or all is dropped."""
        phase = self._phase  # compared one by one: a member of an Enum takes long to hash
        return SMALL_READ if phase is Phase.HEAD or phase is Phase.REST else MAX_RECV

    @property
    def sleeping(self) -> bool:
        """Whether only the peer, or time, can bring about the next step."""
        return isinstance(self.stream, SocketStream) and self.stream.sleeping and not self.restarting

    @property
    def resting(self) -> bool:
        """Whether it is a WebSocket for which the reader could do nothing now but wait."""
        nothing_came = not self._received and not self._ended and not self.restarting
        return nothing_came and isinstance(self.stream, SocketStream) and self.stream.resting

    @property
    def deadline(self) -> float:
        """When the reader calls `expire`, unless something comes first; seconds of trio's clock."""
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
        """Take in bytes that have come, none for their end; `advance` does the rest."""
        self._received += data
        self._ended = not data
        self._progressed = trio.current_time()

    async def end(self) -> None:
        """The connection has ended."""
        await self._close_stream()

    async def advance(self) -> None:
        """Take every step that what has come allows, in turns; never waits for the application."""
        steps = 0
        try:
            while not self.link.over and await self._step():
                steps += 1
                if steps % TURN == 0:
                    await trio.lowlevel.checkpoint()  # between two steps, where everything is whole
            if self._received or self._counted or self._body is not None:
                self.count(receiving=True)
        except RefusedRequest as refused:
            await self._refuse(refused)
        except h11.RemoteProtocolError as error:
            # h11's own words may quote the line, and with it a token.
            await self._refuse(RefusedRequest(error.error_status_hint, NOT_WELL_FORMED))
        if self._given_up and not self.link.over:
            detail = "The server is receiving too much at this moment. Try again."
            await self._refuse(RefusedRequest(503, detail, code="busy", headers=SOON))

    def count(self, *, receiving: bool = False) -> None:
        """Count what of requests is here, or with the application, and not answered.

        It may turn out to be too much, and this connection's the most, which is looked at while `receiving`.
        """
        given = 0
        if self._body is not None and self._phase in {Phase.BODY, Phase.ANSWER}:
            given = self._body.size
        kept = len(self._received) + given
        if kept != self._counted and not self._given_up:
            self._counted = kept
            self._receiving = receiving
            self.link.keep_unread(kept)
            self._receiving = False

    def give_up(self) -> bool:
        """Drop what has come of requests; false if one is being answered, and nothing else has come."""
        if self._given_up:
            return False
        if self._phase in {Phase.HEAD, Phase.WHOLE, Phase.BODY} and (self._receiving or self.link.idle):
            self._given_up = True
            self._received.clear()
            self.link.wake()
        elif self._received and self._phase not in {Phase.HEAD, Phase.BODY}:
            self.link.abort()  # it sends more, and has not read what it asked for before
        else:
            return False
        self.counts.unread_shed += 1
        return True

    async def expire(self) -> None:
        """The deadline has passed."""
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

    # --- its steps ------------------------------------------------------------------------------------------

    async def _step(self) -> bool:
        """One step; whether another may be possible."""
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
            self.client = (self._proxy, 0)  # until this head says whose it is, nobody knows
        head = take_head(
            self._received, max_bytes=self._limits.head_bytes, max_fields=self._limits.head_fields
        )
        if head is None:
            return self._await_head()
        self._head_begun = self.fresh = False
        if self._proxy:
            # Here once, for every way that the request may take; `ssl` is what Hypercorn makes the scheme of.
            seen = request_source(head, self._proxy, self._limits.trusted_proxies)
            self.client, self.ssl = (seen.client, 0), seen.secure
        plain = plain_head(head) if self._limits.quick_path else None
        if plain is not None and plain.upgrade:
            handshake = handshake_beyond_doubt(plain.method, plain.fields)
            if handshake is not None:
                self._unread_head = head
                await self._begin_socket(head.split(b" ", 2)[1], handshake)
                return True
        elif plain is not None:
            whole = begin_whole(plain, self._whole_requests, self._limits)
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
        """What there is is no whole head."""
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
            return bool(data)  # behind it there may be more, or the end
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

    # --- a request begins ----------------------------------------------------------------------------------

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
        # Not in upper case, as Hypercorn has it: h11 frames the answer to a HEAD by the method's own.
        await self._begin_stream(
            stream, request.method.decode(), target, fields, request.http_version.decode()
        )

    async def _refused_from_head(self, method: bytes, target: bytes, fields: Fields) -> bool:
        """Answer what the application refuses whatever the body holds; whether it does.

        An application asked through ASGI would be given the body meanwhile, and keep it.
        """
        if self._whole_requests is None or not _has_body(fields):
            return False
        path, _, query = target.partition(b"?")
        told: dict[str, str] = {}
        for name, value in fields:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            told[key] = f"{told[key]}, {text}" if key in told else text
        plain = unquote(path.decode("latin-1"))
        route = self._whole_requests.route(method.decode(), plain)
        if route is None:
            return False
        client = "" if self.client is None else self.client[0]
        began = trio.current_time()
        refusal = None
        with Boundary(partial(self.task_group.report, plain)):
            refusal = await route.refusal(WholeRequest(method.decode(), plain, query, told, b"", client))
        if refusal is None:
            return False
        self.counts.requests += 1
        length = (b"content-length", b"%d" % len(refusal.body))
        headers = [
            length,
            *((name.encode("latin-1"), value.encode("latin-1")) for name, value in refusal.fields),
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
            fields=refusal.fields,
        )
        await self._answered()
        return True

    async def _begin_socket(self, target: bytes, fields: Fields) -> None:
        """Become a WebSocket, if the application accepts; `fields` are those of `plain_handshake`."""
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

    # --- what its inbox and its streams call ---------------------------------------------------------------

    async def wanted(self) -> None:
        """The application waits for a body: the peer that waits for a 100 gets it."""
        connection = self.connection
        if (
            self._phase is Phase.BODY
            and connection.they_are_waiting_for_100_continue
            and connection.our_state is h11.SEND_RESPONSE
            and not (self._body is not None and self._body.declares_too_much)
        ):
            with trio.CancelScope(shield=True):
                await self._send_h11_event(h11.InformationalResponse(status_code=100, headers=[]))

    def changed(self) -> None:
        """The reader may go on."""
        self.link.look()

    def reset(self) -> None:
        """End the connection without a word."""
        self.link.abort()

    # --- its answer, from the application's task -----------------------------------------------------------

    async def stream_send(self, event: StreamEvent) -> None:
        """What a stream has to send; its end runs without a checkpoint, so that nothing can cancel it."""
        if isinstance(event, StreamClosed):
            await self._answered()
        elif isinstance(event, Response) and event.status_code >= 200 and self._is_last:
            headers = [*event.headers, *([] if CLOSE in event.headers else [CLOSE])]
            await super().stream_send(replace(event, headers=headers))
        else:
            await super().stream_send(event)

    @property
    def _is_last(self) -> bool:
        """Whether the connection closes after this answer, whatever the application says."""
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
            self.connection.next_event()  # the request, which has been acted upon already,
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
            # One object that may be large, and many connections' at once, is not copied.
            await self.link.write(head + b"".join(pieces[:-1]), event.data)
            await trio.lowlevel.cancel_shielded_checkpoint()  # a tight loop of sends must let others run
        elif data := b"".join([head, *pieces]):
            await self.send(RawData(data=data))

    async def switch(self, answer: bytes) -> None:
        """Write the 101; what comes from now on is no HTTP."""
        self.connection = NO_MORE_HTTP  # thousands of these stay open: their parsers need not
        self._unread_head = b""
        await self.link.write(answer)

    async def _answered(self) -> None:
        incomplete = self._phase is not Phase.SOCKET and self.connection.our_state is h11.SEND_BODY
        await self._close_stream()
        if incomplete:
            self.link.abort()  # to HTTP/1.0 the plain end of the connection would be the end of the body
        elif self._phase is Phase.SOCKET or self.connection.our_state is not h11.DONE or self.draining:
            self.link.finish()
        elif self._phase is Phase.ANSWER:
            self._next_cycle()
        else:
            self._phase = Phase.REST
            self.link.wake()

    # --- a request ends ------------------------------------------------------------------------------------

    def _parser(self) -> h11.Connection:
        return h11.Connection(h11.SERVER, max_incomplete_event_size=self.config.h11_max_incomplete_size)

    def next_request(self) -> None:
        """Await the next one; who calls sees to it that the reader looks at what of it is here already."""
        self._whole = None
        self._phase = Phase.HEAD
        self._began = trio.current_time()

    def drop_body(self) -> None:
        """The request is answered from its head: drop its body, within the bounds of any other."""
        self._phase = Phase.REST

    def _next_cycle(self) -> None:
        """The same after h11's, with a new parser: its own next cycle would keep what it has buffered."""
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
        """Answer in the application's stead if nothing has been answered yet, and close."""
        self.counts.bad_requests += 1
        client = None if self.client is None else self.client[0]
        log.info("request_refused", status=refused.status, code=refused.code, client=client)
        if isinstance(self.stream, HttpStream):
            await self.stream.answered_by_listener(refused.status)
        elif self._whole is not None:
            seconds = trio.current_time() - self._began
            self._whole.answered_by_listener(refused.status, seconds=seconds, client=client)
        await self._close_stream()
        if self.connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            headers, body = closing_answer(refused)
            headers += [*self._limits.refusal_headers, *self.config.response_headers("h11")]
            await self._send_h11_event(h11.Response(status_code=refused.status, headers=headers))
            if self._method != b"HEAD":
                await self._send_h11_event(h11.Data(data=body))
            await self._send_h11_event(h11.EndOfMessage())
        self.link.finish()

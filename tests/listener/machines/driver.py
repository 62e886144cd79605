"""Drives the listener's machines with an echo application: no network, no clock, no task.

`MachineStream` has the methods of a TCP stream that `RawPeer` uses, so that a test can talk to the machines
as it talks to a server. Time passes only when the peer waits for bytes, and then to the next deadline.
"""

from math import inf
from typing import Any, cast

import trio
from attrs import define, field

from adapters.http_api.exchange import HttpResponse
from adapters.listener import ListenerConfig
from adapters.listener.h11_request import Pieces, RequestHead, SocketRequest
from adapters.listener.heads import HeadReader
from adapters.listener.http1 import BodyPart, Http1, HttpEvent, HttpPhase, HttpSignal
from adapters.listener.refused_request import RefusedRequest
from adapters.listener.responses import closing_response
from adapters.listener.websocket import SocketEffects, SocketMessage, SocketRefusal, WebSocket
from adapters.listener.whole_requests import PlainHead, response_head
from tests.listener.harness import TIMES, RawPeer

STEPS = 10_000
"""Steps after bytes or a deadline; more of them are an endless loop."""


@define
class MachineConnection:
    """One connection whose application echoes requests and messages at once."""

    limits: ListenerConfig
    whole: bool
    """Whether one call responds to plain requests."""
    now: float = 0.0
    sent: bytearray = field(factory=bytearray)
    """Bytes for the peer."""
    over: bool = False
    reset: bool = False
    responded_whole: list[str] = field(factory=list)
    """The paths of requests that one call responded to."""
    socket: WebSocket | None = None
    http: Http1 = field(init=False)
    _head: RequestHead | PlainHead | None = None
    _body: bytes = b""

    def __attrs_post_init__(self) -> None:
        self.http = Http1(self.limits, HeadReader(self.limits, ("127.0.0.1", 1)), 0.0)

    @property
    def machine(self) -> Http1 | WebSocket:
        """What receives the peer's bytes now."""
        return self.http if self.socket is None else self.socket

    def receive(self, data: bytes) -> None:
        """Process bytes of the peer, none for the end of its side."""
        if not self.over:
            self.machine.receive(data, self.now)
            self._advance()

    def wait(self) -> None:
        """Let time pass until the deadline."""
        assert self.machine.deadline < inf, f"nothing will ever happen in {self.machine}"
        self.now = max(self.now, self.machine.deadline)
        try:
            if self.socket is not None:
                self._perform(self.socket.expire(self.now))
            elif self.http.expire() is HttpSignal.OVER:
                self.over = True
        except RefusedRequest as refused:
            self._refuse(refused)
        self._advance()

    def _advance(self) -> None:
        try:
            for _ in range(STEPS):
                if self.over or not self._step():
                    return
        except RefusedRequest as refused:
            self._refuse(refused)
        else:
            raise AssertionError(f"no end in {self.machine}")

    def _step(self) -> bool:
        if self.socket is not None:
            effects = self.socket.next_effects(self.now)
            self._perform(effects or ())
            return effects is not None
        if self.http.phase is HttpPhase.WHOLE:
            return self._respond_whole()
        event = self.http.next_event(self.now)
        if event is not None:
            self._handle(event)
        return event is not None

    def _refuse(self, refused: RefusedRequest) -> None:
        self.sent += self.http.refuse(refused.status, *closing_response(refused))
        self.over = True

    # --- HTTP ----------------------------------------------------------------------------------------------

    def _handle(self, event: HttpEvent) -> None:
        if isinstance(event, PlainHead) and self.whole:
            self._head = event
            self.http.take_whole(event.length, self.now)
        elif isinstance(event, PlainHead):
            self._handle(self.http.take_in_pieces(self.now))
        elif isinstance(event, RequestHead):
            self._head, self._body = event, b""
            if self.http.request.awaits_100:
                self._send(self.http.request.continue_100())
        elif isinstance(event, SocketRequest):
            self._open(event)
        elif isinstance(event, BodyPart):
            self._body += event.data
        elif event is HttpSignal.BODY_ENDED:
            self._respond()
        elif event is HttpSignal.OVER:
            self.over = True

    def _respond(self) -> None:
        head, request = cast("RequestHead", self._head), self.http.request
        path, _, query = head.target.partition(b"?")
        body = b"%b %b?%b %b" % (head.method, path, query, self._body)
        length = (b"content-length", b"%d" % len(body))
        self._send(request.begin_response(200, [length], [], last=self.http.closing))
        if head.method != b"HEAD":
            self._send(request.response_part(body))
        self._send(request.end_response())
        assert self.http.responded(self.now)
        self.over = self.http.phase is HttpPhase.OVER

    def _respond_whole(self) -> bool:
        body = self.http.whole_body()
        if body is None:
            return False
        head = cast("PlainHead", self._head)
        self.responded_whole.append(head.path)
        echo = b"%b %b?%b %b" % (head.method.encode(), head.path.encode(), head.query, body)
        response = HttpResponse(200, echo)
        self.sent += response_head(response, close=head.last, requested=head.last) + response.body
        self.over = head.last
        return self.http.whole_responded(self.now, last=head.last)

    def _send(self, pieces: Pieces) -> None:
        self.sent += b"".join(pieces)

    # --- WebSocket -----------------------------------------------------------------------------------------

    def _open(self, request: SocketRequest) -> None:
        key = dict(request.fields)[b"sec-websocket-key"]
        self.socket = WebSocket.begin(key, self.limits, self.now)
        rest, ended = self.http.take_rest()
        if rest:
            self.socket.receive(rest, self.now)
        if ended:
            self.socket.receive(b"", self.now)
        self.sent += self.socket.accept(None, (), self.now)
        self.http.release()

    def _perform(self, effects: SocketEffects) -> None:
        for effect in effects:
            if isinstance(effect, bytes):
                self.sent += effect
            elif isinstance(effect, SocketMessage):
                self._perform(cast("WebSocket", self.socket).send(effect.data))
            else:
                assert not isinstance(effect, SocketRefusal)
                self.over = True
                self.reset = effect.cause.resets


class MachineStream:
    """A connection to the machines, seen from the peer's side as a TCP stream."""

    def __init__(self, connection: MachineConnection) -> None:
        self._connection = connection

    async def send_all(self, data: bytes) -> None:
        if self._connection.reset:
            raise trio.BrokenResourceError
        self._connection.receive(data)

    async def send_eof(self) -> None:
        self._connection.receive(b"")

    async def receive_some(self) -> bytes:
        connection = self._connection
        while not connection.sent:
            if connection.reset:
                raise trio.BrokenResourceError
            if connection.over:
                return b""
            connection.wait()
        data = bytes(connection.sent)
        connection.sent.clear()
        return data


def machine_peer(*, whole: bool = False, **numbers: Any) -> tuple[RawPeer, MachineConnection]:
    """A peer of the machines, and their side of the connection."""
    connection = MachineConnection(ListenerConfig(**(TIMES | numbers)), whole)
    return RawPeer(cast("trio.SocketStream", MachineStream(connection))), connection

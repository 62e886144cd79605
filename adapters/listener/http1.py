"""A server's side of HTTP/1.1 on one connection, without a network and without a clock.

Bytes and times go in; requests, pieces of bodies, refusals, bytes to send and the next deadline come out. h11
knows the grammar of a request and of its response (`H11Request`); this module decides what the next bytes
belong to, how many of them there may be, and how long anybody is waited for.
"""

# What this module is
# ===================
#
# Rule 1: whatever decides what the peer's next bytes mean is here. Rule 2: nothing here waits, reads a clock,
# or knows of a task or a socket. Its driver passes bytes, times and the application's responses, and sends
# what is returned.
#
# Two machines run side by side. h11's exists only while a request needs it, and says whether a response may
# follow. Ours is the phase, and says what the next bytes belong to:
#
#   phase     the next bytes are                      the deadline
#   HEAD      a request's head                        idle_time; head_time from its first byte on
#   CHOICE    not looked at: the driver decides       none
#             whether one call responds to this head
#   WHOLE     its body, which must be complete        body_idle_time, body_time
#   BODY      a body, given in pieces                 the same; none while the application has no room;
#                                                     refusal_time once it is too large
#   RESPONSE  pipelined requests, held back           none: the application has the turn
#   REST      a body that nobody needs any more       body_idle_time, body_time
#   SOCKET    no HTTP: `take_rest` returns them       none: the WebSocket has its own
#   OVER      not looked at: the connection ends      none
#
# The usual ways through them:
#
#   HEAD - CHOICE - WHOLE - HEAD            one call responds
#   HEAD - CHOICE - WHOLE - REST - HEAD     the same, refused by its head
#   HEAD - BODY - RESPONSE - HEAD           through h11 and ASGI
#   HEAD - BODY - REST - HEAD               the same, with the response before the end of its body
#   HEAD - SOCKET                           a WebSocket, until the connection ends
#
# A refusal (`RefusedRequest`, raised by `next_event` and others) leaves the phase as it is; the driver
# builds the response to it, which `refuse` frames and after which the connection ends.

from collections.abc import Mapping
from enum import Enum, auto
from math import inf
from typing import Final, Literal, NamedTuple

from attrs import define, field

from adapters.listener.config import ListenerConfig
from adapters.listener.h11_request import H11Request, NoPiece, RequestHead, SocketRequest
from adapters.listener.heads import HeadReader
from adapters.listener.refused_request import Headers, RefusedRequest
from adapters.listener.request_body import take_whole_body
from adapters.listener.socket_handshake import handshake_beyond_doubt
from adapters.listener.whole_requests import PlainHead, plain_head

SMALL_READ = 16_384
"""Bytes of one read while a head is awaited; enough for a request of usual size."""
MAX_READ = 65_536
"""Bytes of one read."""
PIPELINE_BYTES = 65_536
"""Bytes of pipelined requests that are read while one awaits its response; the rest waits in the kernel."""


class HttpPhase(Enum):
    """What the next bytes belong to; the table above says more."""

    HEAD = auto()
    CHOICE = auto()
    WHOLE = auto()
    BODY = auto()
    RESPONSE = auto()
    REST = auto()
    SOCKET = auto()
    OVER = auto()

    __hash__ = object.__hash__  # Enum's is written in Python, and each request looks several phases up


HttpMove = Literal[
    "plain head", "request", "upgrade", "whole", "responded", "responded early", "body ended", "over"
]

HTTP_MOVES: Final[Mapping[HttpPhase, Mapping[HttpMove, HttpPhase]]] = {
    HttpPhase.HEAD: {
        "plain head": HttpPhase.CHOICE,
        "request": HttpPhase.BODY,
        "upgrade": HttpPhase.SOCKET,
        "over": HttpPhase.OVER,
    },
    HttpPhase.CHOICE: {"whole": HttpPhase.WHOLE, "request": HttpPhase.BODY, "over": HttpPhase.OVER},
    HttpPhase.WHOLE: {
        "responded": HttpPhase.HEAD,
        "responded early": HttpPhase.REST,
        "over": HttpPhase.OVER,
    },
    HttpPhase.BODY: {
        "body ended": HttpPhase.RESPONSE,
        "responded early": HttpPhase.REST,
        "over": HttpPhase.OVER,
    },
    HttpPhase.RESPONSE: {"responded": HttpPhase.HEAD, "over": HttpPhase.OVER},
    HttpPhase.REST: {"body ended": HttpPhase.HEAD, "over": HttpPhase.OVER},
    HttpPhase.SOCKET: {"over": HttpPhase.OVER},
    HttpPhase.OVER: {"over": HttpPhase.OVER},
}
"""What may happen in a phase, and the phase after it; anything else is an error of the driver."""

_RECEIVED_BY_APP = frozenset({HttpPhase.BODY, HttpPhase.RESPONSE})
"""The phases in which the application has received a body through h11, and has not responded to it."""


class BodyPart(NamedTuple):
    """A piece of the body, for the application."""

    data: bytes


class HttpSignal(Enum):
    """Events without data."""

    BODY_ENDED = auto()
    """The application has the whole body."""
    DROPPED = auto()
    """Bytes were processed, and nothing of them is for the application."""
    OVER = auto()
    """The connection must end, without a response."""


def request_beyond_doubt(head: bytes) -> PlainHead | SocketRequest | None:
    """The request of a head that is understood without h11; None for all others."""
    plain = plain_head(head)
    if plain is None or not plain.upgrade:
        return plain
    handshake = handshake_beyond_doubt(plain.method, plain.fields)
    return None if handshake is None else SocketRequest(head.split(b" ", 2)[1], handshake)


HttpEvent = PlainHead | RequestHead | SocketRequest | BodyPart | HttpSignal


@define(eq=False, weakref_slot=False)
class Http1:
    """One connection, from its first byte until it ends or becomes a WebSocket.

    `receive`, `next_event`, `expire` and the methods for whole requests belong to the one task that advances
    the connection; the methods of a response may be called by the application's tasks. Times are seconds of
    one clock that never goes back.
    """

    _limits: ListenerConfig
    heads: HeadReader
    began: float
    """When the idle time, the body or the request began."""
    phase: HttpPhase = field(init=False, default=HttpPhase.HEAD)
    request: H11Request = field(init=False)
    """The request through h11 that is in progress, and its response."""
    draining: bool = field(init=False, default=False)
    """The server shuts down: the response in progress is the last one."""
    restarting: bool = field(init=False, default=False)
    """The server shuts down, and waits for no further head."""
    paused: bool = field(init=False, default=False)
    """Whether the application has no room for more of the body."""
    _progressed: float = field(init=False, default=0.0)
    """When bytes arrived last."""
    _received: bytearray = field(init=False, factory=bytearray)
    """Received bytes that have not been processed."""
    _peer_ended: bool = field(init=False, default=False)
    """The peer has ended its side; it may still read."""
    _head: bytes = field(init=False, default=b"")
    """The head that waits for the driver's choice."""
    _left: int = field(init=False, default=0)
    """Of a whole request, the bytes of its body that are awaited or dropped."""

    def __attrs_post_init__(self) -> None:
        self.request = H11Request(self._limits)

    # --- what the driver asks ------------------------------------------------------------------------------

    @property
    def reading(self) -> bool:
        """Whether bytes may be read from the peer; false is back-pressure."""
        phase = self.phase
        if self._peer_ended or phase is HttpPhase.OVER:
            return False
        if phase is HttpPhase.BODY:
            return not self.paused and not self.request.too_large
        return phase is not HttpPhase.RESPONSE or len(self._received) < PIPELINE_BYTES

    @property
    def next_read(self) -> int:
        """The most bytes of the next read: fewer for a head, and for bytes that are dropped."""
        phase = self.phase
        return SMALL_READ if phase is HttpPhase.HEAD or phase is HttpPhase.REST else MAX_READ

    @property
    def deadline(self) -> float:
        """When `expire` must be called, unless bytes arrive first."""
        phase, limits = self.phase, self._limits
        if phase is HttpPhase.HEAD:
            begun_until = self.heads.deadline
            return begun_until if begun_until < inf else self.began + limits.idle_time
        if phase is HttpPhase.BODY:
            if self.request.too_large:
                return self._progressed + limits.refusal_time
            if self.paused:
                return inf
        elif phase is not HttpPhase.WHOLE and phase is not HttpPhase.REST:
            return inf
        return min(self._progressed + limits.body_idle_time, self.began + limits.body_time)

    @property
    def buffered(self) -> int:
        """Received bytes that have not been processed."""
        return len(self._received)

    @property
    def unread(self) -> int:
        """The same, and those of the body that the application has received and not responded to."""
        size = len(self._received)
        return size + self.request.size if self.phase in _RECEIVED_BY_APP else size

    @property
    def has_input(self) -> bool:
        """Whether `next_event` may have an event without further bytes of the peer."""
        return bool(self._received) or self._peer_ended or self.draining

    # --- what the peer does, and does not do ---------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Store received bytes, none for the end of the peer's side; `next_event` processes them."""
        self._received += data
        self._peer_ended = not data
        self._progressed = now

    def next_event(self, now: float) -> HttpEvent | None:
        """Process one head or piece of a body; None if more bytes are needed, or the driver has the turn.

        Raises `RefusedRequest`, which belongs to `refuse`.
        """
        phase = self.phase
        if phase is HttpPhase.HEAD:
            return self._next_head(now)
        if phase is HttpPhase.BODY and not self.paused and not self.request.too_large:
            return self._next_piece(now)
        if phase is HttpPhase.REST:
            return self._next_piece(now) if self.request.begun else self._drop(now)
        return None

    def expire(self) -> HttpSignal:
        """The deadline has passed: the connection ends, silently if it was idle. Raises `RefusedRequest`."""
        if self.request.too_large:
            detail = f"The body is larger than {self._limits.body_bytes} bytes."
            raise RefusedRequest(413, detail, code="body_too_large")
        if self.heads.begun or self.phase in {HttpPhase.BODY, HttpPhase.WHOLE}:
            raise RefusedRequest(408, "The request took too long to arrive.", code="request_timeout")
        return self._end()

    def refuse(self, status: int, headers: Headers, body: bytes) -> bytes:
        """End the connection; returns the bytes of this response, none if one has begun."""
        may_respond = self.phase is not HttpPhase.REST and not self.request.response_begun
        self._move("over")
        return self.request.refusal(status, headers, body) if may_respond else b""

    # --- heads ---------------------------------------------------------------------------------------------

    def _next_head(self, now: float) -> HttpEvent | None:
        closing = self.draining and (self.restarting or not self.heads.fresh)
        head = self.heads.next(self._received, now, ended=self._peer_ended, closing=closing)
        if not head:
            return None if head is None else self._end()
        request = request_beyond_doubt(head) if self._limits.quick_path else None
        if request is None or isinstance(request, PlainHead):
            self._head = head
            if request is None:
                return self.take_in_pieces(now)
            self._move("plain head")
        else:
            self.request.skip(head)
            self._move("upgrade")
        return request

    def take_in_pieces(self, now: float) -> RequestHead | SocketRequest:
        """The head goes to h11, and its body to ASGI. Raises `RefusedRequest`."""
        self.began = self._progressed = now
        self.paused = False
        head, self._head = self._head, b""
        request = self.request.parse(head)
        self._move("upgrade" if isinstance(request, SocketRequest) else "request")
        return request

    def take_rest(self) -> tuple[bytes, bool]:
        """Remove and return the received bytes, and whether the peer has ended its side."""
        rest, self._received = bytes(self._received), bytearray()
        return rest, self._peer_ended

    def release(self) -> None:
        """The handshake was accepted: no HTTP follows. Thousands of these may stay open."""
        self.request = H11Request(self._limits)

    # --- whole requests ------------------------------------------------------------------------------------

    def take_whole(self, length: int, now: float) -> None:
        """The application responds to the plain head, with a body of `length` bytes, by one call."""
        self._move("whole")
        self._head = b""
        self._left = length
        if len(self._received) < length:
            self.began = self._progressed = now

    def whole_body(self) -> bytes | None:
        """The body of a whole request; None if a part is missing. Raises `RefusedRequest`."""
        return take_whole_body(self._received, self._left, ended=self._peer_ended)

    def whole_responded(self, now: float, *, last: bool) -> bool:
        """The whole request has its response: await the next, or end after the `last`.

        Returns whether `next_event` may have an event without further bytes.
        """
        self._move("over" if last else "responded")
        self.began = now
        return self.has_input

    def whole_refused(self, *, last: bool) -> bool:
        """The same for a request that has its response by its head: drop its body first."""
        self._move("over" if last else "responded early")
        return self.has_input

    def _drop(self, now: float) -> HttpSignal | None:
        """Drop the body of a whole request."""
        dropped = min(self._left, len(self._received))
        del self._received[:dropped]
        self._left -= dropped
        if self._left:
            return self._end() if self._peer_ended else None
        self._move("body ended")
        self.began = now
        return HttpSignal.DROPPED

    # --- bodies and responses through h11 ------------------------------------------------------------------

    def _next_piece(self, now: float) -> HttpEvent | None:
        piece = self.request.next_piece(self._received, ended=self._peer_ended)
        if piece is NoPiece.INCOMPLETE:
            return None
        if piece is NoPiece.PROCESSED:
            return HttpSignal.DROPPED
        dropping = self.phase is HttpPhase.REST
        if piece is NoPiece.END:
            self._move("body ended")
            if not dropping:
                return HttpSignal.BODY_ENDED
            self._await_request(now)
            return HttpSignal.DROPPED
        if not dropping:
            return BodyPart(piece)
        return self._end() if self.request.too_large else HttpSignal.DROPPED

    @property
    def closing(self) -> bool:
        """Whether the response in progress is the last one, for a reason outside of its request."""
        return self.draining or self.phase is HttpPhase.SOCKET

    def responded(self, now: float) -> bool:
        """No more of the response follows: await the next request, drop the rest of a body, or end.

        False if the response is incomplete: then the connection must be reset, because in HTTP/1.0 its
        orderly end would mark the end of the body.
        """
        if self.draining or not self.request.response_complete:
            self._move("over")
            return not self.request.response_incomplete
        if self.phase is HttpPhase.RESPONSE:
            self._move("responded")
            self._await_request(now)
        else:
            self._move("responded early")
        return True

    def _await_request(self, now: float) -> None:
        self.request = H11Request(self._limits)
        self.began = now

    # --- the machine ---------------------------------------------------------------------------------------

    def _move(self, move: HttpMove) -> None:
        self.phase = HTTP_MOVES[self.phase][move]

    def _end(self) -> Literal[HttpSignal.OVER]:
        self._move("over")
        return HttpSignal.OVER

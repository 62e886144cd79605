"""A server's side of one WebSocket, without a network and without a clock.

Bytes and times go in; messages, bytes to send, an end and the next deadline come out. wsproto's
`FrameProtocol` knows the frames; this module decides who closes, with which code, and how long anybody is
waited for. wsproto's `Connection` would keep a second state beside ours, and a deque for events: 0.7 KiB of
memory for each idle socket.
"""

# What this module is
# ===================
#
# Rule 1: whatever decides what happens to a socket is here. Rule 2: nothing here waits, reads a clock, or
# knows of a task. Its driver passes bytes, times and what the application wants, and performs the effects in
# their order.
#
# The phases, and what each means for the two sides and for the clock:
#
#   phase      the peer's bytes           the application may        the deadline
#   HANDSHAKE  held, up to a message      accept, respond, refuse    handshake_time: refuse with 503
#   RESPONSE   dropped                    continue its response      the same time: reset
#   REFUSED    dropped                    nothing                    none: the connection is about to end
#   OPEN       frames                     send messages, close       ping_interval: ping, or reset;
#                                                                    stall_time while the application does not
#                                                                    receive: close with 1011
#   CLOSING    frames up to its close     nothing                    linger_time: reset
#
# There is no phase after CLOSING: the effect `SocketEnd` ends the connection, and with it this object.
#
# Two things do not fit into the phases. `paused` says that the application's inbox is full: then no frame is
# processed, and so no close and no pong of the peer is noticed, which is why it is bounded in time.
# `ignores_app` says that the peer or the listener has closed the socket: what the application still sends is
# dropped, whereas it is an error after a close of its own.

from collections.abc import Iterable, Mapping
from enum import Enum, IntEnum, auto
from io import BytesIO, StringIO
from math import inf
from typing import Final, Literal, NamedTuple, Self

from attrs import define, field
from wsproto.frame_protocol import Frame, FrameProtocol, Opcode, ParseFailed

from adapters.listener.config import ListenerConfig
from adapters.listener.socket_handshake import accepting_response

MAX_READ = 65_536
"""Bytes of one read."""


class CloseCode(IntEnum):
    """The close codes that the listener itself sends or logs (RFC 6455, 7.4.1)."""

    NORMAL = 1000
    GONE = 1006
    TOO_BIG = 1009
    OUR_FAULT = 1011
    RESTARTING = 1012


class SocketPhase(Enum):
    """How far a socket has come; the table above says what each phase means."""

    HANDSHAKE = auto()
    RESPONSE = auto()
    REFUSED = auto()
    OPEN = auto()
    CLOSING = auto()

    __hash__ = object.__hash__  # Enum's is written in Python


SocketMove = Literal["accept", "begin response", "refuse", "close"]

SOCKET_MOVES: Final[Mapping[SocketPhase, Mapping[SocketMove, SocketPhase]]] = {
    SocketPhase.HANDSHAKE: {
        "accept": SocketPhase.OPEN,
        "begin response": SocketPhase.RESPONSE,
        "refuse": SocketPhase.REFUSED,
    },
    SocketPhase.RESPONSE: {"refuse": SocketPhase.REFUSED},
    SocketPhase.REFUSED: {},
    SocketPhase.OPEN: {"close": SocketPhase.CLOSING},
    SocketPhase.CLOSING: {"close": SocketPhase.CLOSING},
}
"""What may happen in a phase, and the phase after it; anything else is an error of the driver."""


class EndCause(Enum):
    """Why a connection ends."""

    CLOSED = "an orderly end: both sides have closed, the peer has left, or the handshake was refused"
    FAILED = "the peer broke the protocol or a limit, and was sent a close with the code"
    NOT_READ = "the application did not receive in time, and the peer was sent 1011"
    SILENT = "the peer sent nothing after a ping: reset"
    NOT_CLOSED = "the peer did not close, or read a refusal, in time: reset"

    @property
    def resets(self) -> bool:
        """Whether the connection is reset, so that unsent bytes are lost."""
        return self in {EndCause.SILENT, EndCause.NOT_CLOSED}


class SocketMessage(NamedTuple):
    """A complete message for the application."""

    data: str | bytes


class SocketRefusal(NamedTuple):
    """The handshake must be refused with this HTTP status."""

    status: int


class SocketEnd(NamedTuple):
    """The connection must end."""

    cause: EndCause


SocketEffect = bytes | SocketMessage | SocketRefusal | SocketEnd
"""Bytes must be sent to the peer."""
SocketEffects = tuple[SocketEffect, ...]


class MessageBuffer:
    """Collects the fragments of one message, at most `limit` bytes of it."""

    __slots__ = ("_limit", "_parts", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: BytesIO | StringIO | None = None  # a list of empty fragments would have no bound
        self.size = 0
        """Bytes, of text in UTF-8; Hypercorn 0.18 counts characters, and continues to buffer beyond the
        limit.
        """

    def add(self, fragment: str | bytes) -> bool:
        """Add a fragment; false, and nothing of it is stored, if the message exceeds the limit."""
        if isinstance(fragment, str) and not fragment.isascii():
            self.size += len(fragment.encode())
        else:
            self.size += len(fragment)
        if self.size > self._limit:
            return False
        if self._parts is None:
            self._parts = StringIO() if isinstance(fragment, str) else BytesIO()
        self._parts.write(fragment)  # type: ignore[arg-type] # all fragments of a message have one type
        return True

    def clear(self) -> None:
        """Drop the fragments."""
        self._parts = None
        self.size = 0

    def take(self) -> str | bytes:
        """Remove and return the message."""
        message = b"" if self._parts is None else self._parts.getvalue()
        self.clear()
        return message


@define(eq=False, weakref_slot=False)
class WebSocket:
    """One socket, from its handshake's head to the end of its connection.

    `receive`, `next_effects`, `expire` and `restart` belong to the one task that advances the connection; all
    others may be called by the application's tasks. Times are seconds of one clock that never goes back.
    """

    _key: bytes
    _limits: ListenerConfig
    _alarm: float
    """When the handshake's time ends, the next ping is due, or the linger time ends."""
    phase: SocketPhase = field(init=False, default=SocketPhase.HANDSHAKE)
    open: bool = field(init=False, default=False)
    """Whether the application's frames may be sent."""
    paused: bool = field(init=False, default=False)
    """Whether the application has no room for messages: then no frame is processed."""
    ignores_app: bool = field(init=False, default=False)
    """Whether the peer or the listener has closed it: what the application still sends is dropped."""
    code: int = field(init=False, default=CloseCode.GONE)
    """The code of the side that closed first."""
    reason: str = field(init=False, default="")
    by_peer: bool = field(init=False, default=False)
    """Whether the peer has chosen the reason: its text must not reach the log."""
    _frames: FrameProtocol = field(init=False)
    """Since the accept."""
    _buffer: MessageBuffer = field(init=False)
    _held: bytes = field(init=False, default=b"")
    """Bytes received before the accept."""
    _full_since: float = field(init=False, default=inf)
    _peer_ended: bool = field(init=False, default=False)
    _peer_was_heard: bool = field(init=False, default=True)
    """Whether bytes have arrived since the last ping."""
    _may_have_frame: bool = field(init=False, default=False)
    """Whether received bytes may hold a frame that has not been processed."""
    _is_adopted: bool = field(init=False, default=False)
    """Whether no task of the application receives."""

    @classmethod
    def begin(cls, key: bytes, limits: ListenerConfig, now: float) -> Self:
        """A socket whose handshake, with this Sec-WebSocket-Key, has been checked."""
        return cls(key, limits, now + limits.handshake_time)

    def __attrs_post_init__(self) -> None:
        self._buffer = MessageBuffer(self._limits.message_bytes)

    # --- what the driver asks ------------------------------------------------------------------------------

    next_read = MAX_READ

    @property
    def reading(self) -> bool:
        """Whether bytes may be read from the peer; false is back-pressure."""
        if self._peer_ended:
            return False
        if self.phase is SocketPhase.HANDSHAKE:
            return len(self._held) < self._limits.message_bytes
        return not (self.phase is SocketPhase.OPEN and self.paused)

    @property
    def buffered(self) -> int:
        """Received bytes that are held until the accept."""
        return len(self._held)

    unread = buffered

    @property
    def deadline(self) -> float:
        """When `expire` must be called, unless bytes arrive first."""
        if self.phase is SocketPhase.OPEN and self.paused:
            return self._full_since + self._limits.stall_time
        return self._alarm

    @property
    def sleeps(self) -> bool:
        """Whether only bytes or the deadline lead to the next step, so that no task needs to wait for it."""
        return self.phase is SocketPhase.HANDSHAKE or (self.phase is SocketPhase.OPEN and self._is_adopted)

    @property
    def rests(self) -> bool:
        """Whether there is nothing to process."""
        return not (self._may_have_frame or self._held or self._peer_ended)

    # --- what the peer does, and does not do ---------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:  # noqa: ARG002 - as HTTP/1.1's machine
        """Store received bytes, none for the end of the peer's side; `next_effects` processes them."""
        self._peer_ended = not data
        self._peer_was_heard = True
        if self.phase is SocketPhase.HANDSHAKE:
            self._held += data
        elif data:
            self._parse(data)

    def next_effects(self, now: float) -> SocketEffects | None:
        """Process one frame; None if there is none, or none may be processed now."""
        waits = self.phase is SocketPhase.OPEN and self.paused
        if self._may_have_frame and not waits:
            try:
                frame = next(self._frames.received_frames(), None)
            except ParseFailed as error:
                return self._fail(int(error.code), str(error), EndCause.FAILED, now)
            self._may_have_frame = frame is not None
            if frame is not None:
                return self._process(frame, now)
        if self._peer_ended and self.phase is not SocketPhase.HANDSHAKE:
            return (SocketEnd(EndCause.CLOSED),)
        return None

    def expire(self, now: float) -> SocketEffects:
        """The deadline has passed."""
        match self.phase:
            case SocketPhase.HANDSHAKE:
                return self._refuse(503)
            case SocketPhase.OPEN if self.paused:
                return self._fail(CloseCode.OUR_FAULT, "not_read", EndCause.NOT_READ, now)
            case SocketPhase.OPEN if self._peer_was_heard:
                self._peer_was_heard = False
                self._alarm = now + self._limits.ping_interval
                return (bytes(self._frames.ping()),)
            case SocketPhase.OPEN:
                return (SocketEnd(EndCause.SILENT),)
            case _:
                return (SocketEnd(EndCause.NOT_CLOSED),)

    def restart(self, now: float) -> SocketEffects:
        """The server shuts down: close with 1012, or refuse. The peer has `linger_time` to close in turn."""
        if self.phase is SocketPhase.HANDSHAKE:
            return self._refuse(503)
        if self.phase is SocketPhase.OPEN:
            self.ignores_app = True
            return self.close(CloseCode.RESTARTING, "", now)
        return ()

    # --- what the application does -------------------------------------------------------------------------

    def accept(
        self,
        subprotocol: str | None,
        fields: Iterable[tuple[bytes, bytes]],
        now: float,
        *,
        message_bytes: int = 0,
    ) -> bytes:
        """Open the socket; returns the bytes of the 101.

        `message_bytes` raises the limit of this socket's messages. Raises `ValueError` for header fields that
        cannot be sent; then nothing has changed.
        """
        response = accepting_response(self._key, subprotocol, fields)
        self._move("accept")
        self.open = True
        self._alarm = now + self._limits.ping_interval
        self._frames = FrameProtocol(client=False, extensions=[])
        if message_bytes > self._limits.message_bytes:
            self._buffer = MessageBuffer(message_bytes)
        held, self._held, self._key = self._held, b"", b""
        if held:
            self._parse(held)
        return response

    def begin_response(self) -> None:
        """The application responds to the handshake with an HTTP response of its own."""
        self._move("begin response")

    def refuse(self) -> None:
        """The handshake has been refused, or its HTTP response is complete."""
        self._move("refuse")
        self._alarm = inf

    def send(self, message: str | bytes) -> SocketEffects:
        """A message of the application, dropped after a close."""
        return (bytes(self._frames.send_data(message)),) if self.phase is SocketPhase.OPEN else ()

    def close(self, code: int, reason: str, now: float) -> SocketEffects:
        """Close it, once or again; the peer has `linger_time` to respond."""
        was_open = self.phase is SocketPhase.OPEN
        self._leave()
        self._alarm = now + self._limits.linger_time
        if not was_open:
            return ()
        self.code, self.reason = int(code), reason
        return (bytes(self._frames.close(code, reason or None)),)

    def abandon(self, now: float) -> SocketEffects:
        """The application has ended: refuse with 500, or close with 1011."""
        if self.phase is SocketPhase.HANDSHAKE:
            return self._refuse(500)
        if self.phase is SocketPhase.OPEN:
            self.ignores_app = True
            return self.close(CloseCode.OUR_FAULT, "", now)
        return (SocketEnd(EndCause.CLOSED),) if self.phase is not SocketPhase.CLOSING else ()

    def forget_application(self) -> None:
        """No task of the application receives any more, so a message never has to wait for one."""
        self._is_adopted = True
        self.paused = False

    def pause(self, now: float) -> None:
        """The application has no room for another message; `paused` is set to false when it has."""
        self.paused = True
        self._full_since = now

    # --- the machine ---------------------------------------------------------------------------------------

    def _move(self, move: SocketMove) -> None:
        self.phase = SOCKET_MOVES[self.phase][move]

    def _parse(self, data: bytes) -> None:
        if self.phase in {SocketPhase.OPEN, SocketPhase.CLOSING}:
            self._frames.receive_bytes(data)
            self._may_have_frame = True

    def _process(self, frame: Frame, now: float) -> SocketEffects:
        payload = frame.payload
        if isinstance(payload, tuple):
            return self._peer_closes(*payload, now)
        if frame.opcode is Opcode.PONG or self.phase is not SocketPhase.OPEN:
            return ()
        if frame.opcode is Opcode.PING and not isinstance(payload, str):
            return (bytes(self._frames.pong(payload)),)
        if not self._buffer.add(payload):
            return self._fail(CloseCode.TOO_BIG, "message_too_big", EndCause.FAILED, now)
        return (SocketMessage(self._buffer.take()),) if frame.message_finished else ()

    def _peer_closes(self, code: int, reason: str, now: float) -> SocketEffects:
        if self.phase is SocketPhase.OPEN:
            reply = self.close(code, reason, now)
            self.ignores_app = self.by_peer = True
            return (*reply, SocketEnd(EndCause.CLOSED))
        return (SocketEnd(EndCause.CLOSED),)  # the response to our close

    def _fail(self, code: int, reason: str, cause: EndCause, now: float) -> SocketEffects:
        """Close, and ignore all further bytes of the peer."""
        self.ignores_app = True
        return (*self.close(code, reason, now), SocketEnd(cause))

    def _leave(self) -> None:
        self._move("close")
        self.open = False

    def _refuse(self, status: int) -> SocketEffects:
        return (SocketRefusal(status), SocketEnd(EndCause.CLOSED))

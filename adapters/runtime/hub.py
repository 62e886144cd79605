"""The open sockets of this process, and the frames that wait for each."""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

import structlog
import trio
from attrs import frozen

from messaging_core.effects import Deliver, DeliverEphemeral
from messaging_core.events import MessageCreated, kind_of
from messaging_core.frames import PlainFrame
from messaging_core.ids import ChatId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor
from messaging_core.sockets import Outbox, PutResult, text_frame

log = structlog.get_logger(__name__)


@frozen
class Close:
    """The code and reason of a close frame (RFC 6455, 7.4); no frame follows it."""

    code: int
    reason: str


POLICY_VIOLATION = 1008
RESTARTING = Close(1012, "restarting")
SLOW_CONSUMER = Close(4408, "slow_consumer")
TOO_MANY_SOCKETS = Close(4429, "too_many_sockets")


class TooManySockets(Exception):
    """The user has `sockets_per_user` open sockets in this process."""


class Transport(Protocol):
    """One connection: accepts frames at once while there is room, and otherwise through a writer task."""

    def offer(self, frames: bytes) -> int:
        """Write whole frames without waiting; the count of bytes written, the rest of which `write` sends
        first.
        """

    async def write(self, frames: bytes) -> None:
        """Write the rest of an offer, then `frames`."""

    async def close(self, code: int, reason: str) -> None:
        """Close the socket after the frames that were written."""

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task that does not outlive the connection; does nothing once the connection is over."""


WRITE_BYTES = 65_536
"""Bytes offered or written at a time: a larger write would leave the outbox's bound while it waits."""

NAMED_IN_LOG = 10
"""Largest audience whose users INFO lines name; a line takes some 30 us of the loop."""


class LocalSocket:
    """One open socket: frames are written at once or, while the connection is full, queued for a writer task.

    The writer runs only while frames wait: an idle socket has no task.
    """

    __slots__ = ("_limits", "_outbox", "_transport", "_writing", "actor", "closing")

    def __init__(self, actor: Actor, limits: Limits) -> None:
        self.actor = actor
        self._limits = limits
        self._outbox: Outbox | None = None
        self._transport: Transport | None = None
        self._writing = False
        """Whether a writer runs, or the last one has run; otherwise a frame may be written at once."""
        self.closing: Close | None = None
        """The close that is due; from then on no frame is accepted."""

    def attach(self, transport: Transport) -> None:
        """Start writing frames, those that wait already first."""
        self._transport = transport
        if self._outbox is not None or self.closing is not None:
            self._start_writer()

    def send(self, frames: Sequence[bytes], joined: bytes) -> None:
        """Write or queue durable frames; a full outbox closes the socket as a slow consumer.

        `joined` is the frames concatenated, shared by all sockets.
        """
        if self.closing is not None:
            return
        if self._transport is not None and not self._writing:
            taken = self._transport.offer(joined)
            if taken == len(joined):
                return
            if taken:
                self._start_writer()
                return
        if self._outbox is None:
            self._outbox = Outbox(self._limits)
        for frame in frames:
            if self._outbox.put(frame) is PutResult.FULL:
                self.closing = SLOW_CONSUMER
                log.warning(
                    "WebSocket closed: too slow", user_id=self.actor.user_id, waiting=len(self._outbox)
                )
                break
        self._start_writer()

    def close(self, close: Close) -> None:
        """Close the socket after the frames that wait; the first of several closes counts."""
        if self.closing is None:
            self.closing = close
            self._start_writer()

    def _start_writer(self) -> None:
        if self._transport is not None and not self._writing:
            self._writing = True
            self._transport.start_soon(self._write)

    async def _write(self) -> None:
        """Write until nothing waits; a close frame is the last."""
        transport = self._transport
        if transport is None:
            return
        await transport.write(b"")  # the rest of an offer
        while True:
            # A slow consumer's frames are dropped.
            waiting = None if self.closing is SLOW_CONSUMER else self._outbox
            frames = b"" if waiting is None else waiting.take(WRITE_BYTES)
            if frames:
                await transport.write(frames)
            elif self.closing is not None:
                await transport.close(self.closing.code, self.closing.reason)
                return
            else:
                self._outbox = None
                self._writing = False
                return


class Hub:
    """The sockets of this process by user; `encode` gives an event's JSON, which is framed once for all
    sockets.

    Deliveries of one turn of the loop, such as those of one commit, are sent together: one write a socket and
    chat.
    """

    def __init__(self, limits: Limits, encode: Callable[[PlainFrame], bytes]) -> None:
        self._limits = limits
        self._encode = encode
        self._sockets: dict[UserId, dict[LocalSocket, None]] = {}
        self._waiting: dict[ChatId, tuple[Sequence[UserId], list[bytes]]] = {}
        """The frames to send at the end of this turn, with their audience, by chat."""
        self._flushing: trio.lowlevel.ParkingLot | None = None
        """Where the flushing task waits; None until the first delivery."""
        self.draining = False
        self.gone: Callable[[UserId], None] | None = None
        """Called when a user's last socket is disconnected."""

    def connect(self, actor: Actor) -> LocalSocket:
        """A socket that receives every delivery from now until `disconnect`; raises `TooManySockets`."""
        self.flush()
        own = self._sockets.setdefault(actor.user_id, {})
        if len(own) >= self._limits.sockets_per_user:
            raise TooManySockets
        socket = LocalSocket(actor, self._limits)
        own[socket] = None
        if self.draining:
            socket.close(RESTARTING)
        return socket

    def disconnect(self, socket: LocalSocket) -> None:
        """Remove a socket; repeating it changes nothing."""
        own = self._sockets.get(socket.actor.user_id, {})
        own.pop(socket, None)
        if not own and self._sockets.pop(socket.actor.user_id, None) is not None and self.gone is not None:
            self.gone(socket.actor.user_id)

    def deliver(self, delivery: Deliver | DeliverEphemeral) -> None:
        """Send an event to every socket of its audience, at the end of this turn of the loop."""
        frame = kind_of(delivery.event).plain(delivery.event)
        if frame is None:
            return
        message = frame.data
        if self._flushing is None:
            self._flushing = trio.lowlevel.ParkingLot()
            trio.lowlevel.spawn_system_task(self._flush_each_turn)
        if self._flushing:  # the task waits there: this is the first delivery of a turn
            self._flushing.unpark()
        encoded = text_frame(self._encode(frame))
        audience, frames = self._waiting.get(message.chat_id, (delivery.audience, []))
        if audience != delivery.audience or sum(map(len, frames)) + len(encoded) > WRITE_BYTES:
            self._send(audience, frames)
            frames = []
        frames.append(encoded)
        self._waiting[message.chat_id] = (delivery.audience, frames)
        self._log(delivery, frame)

    def _log(self, delivery: Deliver | DeliverEphemeral, frame: PlainFrame) -> None:
        logger = log.bind()  # once for up to a thousand lines
        if not logger.is_enabled_for(logging.INFO):
            return
        if isinstance(delivery.event, MessageCreated):
            logger.info("Message created: %d in chat %d", frame.data.id, frame.data.chat_id)
        logger.info("Broadcasting to %d participants", len(delivery.audience))
        if len(delivery.audience) <= NAMED_IN_LOG:
            level = logging.INFO
        else:
            level = logging.DEBUG
            connected = sum(user_id in self._sockets for user_id in delivery.audience)
            logger.info("Sending WebSocket event to %d users: %s", connected, frame.event)
        if not logger.is_enabled_for(level):
            return
        for user_id in delivery.audience:
            if user_id in self._sockets:
                logger.log(level, "Sending WebSocket event to user %d: %s", user_id, frame.event)

    def flush(self) -> None:
        """Send everything now."""
        waiting, self._waiting = self._waiting, {}
        for audience, frames in waiting.values():
            self._send(audience, frames)

    async def _flush_each_turn(self) -> None:
        while True:
            self.flush()
            if self._flushing is not None:
                await self._flushing.park()

    def _send(self, audience: Sequence[UserId], frames: Sequence[bytes]) -> None:
        joined = b"".join(frames)
        for user_id in audience:
            for socket in tuple(self._sockets.get(user_id, ())):
                try:
                    socket.send(frames, joined)
                except Exception:
                    # A fault of one transport must not lose the events of others.
                    log.exception("A WebSocket could not be written to", user_id=user_id)

    def close_session(self, session_id: SessionId, reason: str) -> None:
        """Close a session's sockets with code 1008, after the events delivered so far."""
        self.flush()
        for socket in self._all():
            if socket.actor.session_id == session_id:
                socket.close(Close(POLICY_VIOLATION, reason))

    def drain(self) -> None:
        """Close every socket, and every later one, with 1012: the server is about to restart."""
        self.flush()
        self.draining = True
        for socket in self._all():
            socket.close(RESTARTING)

    def sessions(self) -> Collection[SessionId]:
        """The sessions that have a socket here."""
        return {socket.actor.session_id for socket in self._all()}

    def __len__(self) -> int:
        return sum(map(len, self._sockets.values()))

    def _all(self) -> list[LocalSocket]:
        return [socket for sockets in self._sockets.values() for socket in sockets]

"""The sockets that are open in this process, and what waits to be written to each."""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol

import structlog
import trio
from attrs import frozen

from messaging_core.effects import Deliver
from messaging_core.events import MessageCreated, kind_of
from messaging_core.frames import PlainFrame
from messaging_core.ids import ChatId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor
from messaging_core.sockets import Outbox, Room, text_frame

log = structlog.get_logger(__name__)


@frozen
class Close:
    """How a socket is to be closed (RFC 6455, 7.4); nothing is written after it."""

    code: int
    reason: str


POLICY_VIOLATION = 1008
RESTARTING = Close(1012, "restarting")
SLOW_CONSUMER = Close(4408, "slow_consumer")
TOO_MANY_SOCKETS = Close(4429, "too_many_sockets")


class TooManySockets(Exception):
    """The user has as many sockets open as one user may."""


class Transport(Protocol):
    """How frames leave: at once where there is room, or by a writer where there is not."""

    def offer(self, frames: bytes) -> int:
        """Write whole frames without waiting; how many bytes were taken, the rest being written first."""

    async def write(self, frames: bytes) -> None:
        """Write what an offer has left, and then frames, one after another."""

    async def close(self, code: int, reason: str) -> None:
        """Close after all that was written."""

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task that does not outlive the connection; nothing happens once that is over."""


WRITE_BYTES = 65_536
"""What is offered, or taken by a writer, at a time: more would count as written while it waits."""

NAMED_IN_LOG = 10
"""Participants up to whom INFO lines name each that hears an event; a line takes some 30 us of the loop."""


class LocalSocket:
    """One open socket: frames go straight out, or, while the line is full, through its outbox and a writer.

    The writer is a task that is there only while it is needed: an idle socket costs none.
    """

    __slots__ = ("_limits", "_outbox", "_transport", "_writing", "actor", "closing")

    def __init__(self, actor: Actor, limits: Limits) -> None:
        self.actor = actor
        self._limits = limits
        self._outbox: Outbox | None = None
        self._transport: Transport | None = None
        self._writing = False
        """Whether there is a writer, or the last one has been; otherwise a frame may go straight out."""
        self.closing: Close | None = None
        """How it is to be closed, once that is settled: nothing more is taken."""

    def attach(self, transport: Transport) -> None:
        """From now on frames leave, those first that have come already."""
        self._transport = transport
        if self._outbox is not None or self.closing is not None:
            self._start_writer()

    def send(self, frames: Sequence[bytes], joined: bytes) -> None:
        """Write or queue durable frames; where one finds no room the socket is closed as a slow consumer.

        `joined` is the same frames as one, made once for many sockets.
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
            if self._outbox.put(frame) is Room.FULL:
                self.closing = SLOW_CONSUMER
                log.warning(
                    "WebSocket closed: too slow", user_id=self.actor.user_id, waiting=len(self._outbox)
                )
                break
        self._start_writer()

    def close(self, close: Close) -> None:
        """Have the socket closed after what waits; the first of several closes counts."""
        if self.closing is None:
            self.closing = close
            self._start_writer()

    def _start_writer(self) -> None:
        if self._transport is not None and not self._writing:
            self._writing = True
            self._transport.start_soon(self._write)

    async def _write(self) -> None:
        """Write until nothing waits; a close is the last that is written."""
        transport = self._transport
        if transport is None:
            return
        await transport.write(b"")  # the rest of what was offered
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
    """The sockets of this process by user; `encode` gives an event's JSON, framed once for all of them.

    Deliveries that come in one turn of the loop, as those of one commit do, leave together: each socket gets
    what is new in a chat by one write.
    """

    def __init__(self, limits: Limits, encode: Callable[[PlainFrame], bytes]) -> None:
        self._limits = limits
        self._encode = encode
        self._sockets: dict[UserId, dict[LocalSocket, None]] = {}
        self._waiting: dict[ChatId, tuple[Sequence[UserId], list[bytes]]] = {}
        """What is to leave at the end of this turn, by chat: its audience and its frames."""
        self._flushing: trio.lowlevel.ParkingLot | None = None
        """Where the task that flushes waits, once there has been something to flush."""
        self.draining = False
        self.gone: Callable[[UserId], None] | None = None
        """Called when a user's last socket is forgotten."""

    def connect(self, actor: Actor) -> LocalSocket:
        """A socket that hears everything from now until it is disconnected; raises `TooManySockets`."""
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
        """Forget a socket; repeating it changes nothing."""
        own = self._sockets.get(socket.actor.user_id, {})
        own.pop(socket, None)
        if not own and self._sockets.pop(socket.actor.user_id, None) is not None and self.gone is not None:
            self.gone(socket.actor.user_id)

    def deliver(self, delivery: Deliver) -> None:
        """Have an event leave, at the end of this turn of the loop, to every socket of its audience."""
        frame = kind_of(delivery.event).plain(delivery.event)
        if frame is None:
            return
        message = frame.data
        if self._flushing is None:
            self._flushing = trio.lowlevel.ParkingLot()
            trio.lowlevel.spawn_system_task(self._flush_each_turn)
        if self._flushing:  # somebody waits there: for the first of a turn
            self._flushing.unpark()
        encoded = text_frame(self._encode(frame))
        audience, frames = self._waiting.get(message.chat_id, (delivery.audience, []))
        if audience != delivery.audience or sum(map(len, frames)) + len(encoded) > WRITE_BYTES:
            self._leave(audience, frames)
            frames = []
        frames.append(encoded)
        self._waiting[message.chat_id] = (delivery.audience, frames)
        self._log(delivery, frame)

    def _log(self, delivery: Deliver, frame: PlainFrame) -> None:
        logger = log.bind()  # once: below it may be asked a thousand times
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
        """Have everything leave now."""
        waiting, self._waiting = self._waiting, {}
        for audience, frames in waiting.values():
            self._leave(audience, frames)

    async def _flush_each_turn(self) -> None:
        while True:
            self.flush()
            if self._flushing is not None:
                await self._flushing.park()

    def _leave(self, audience: Sequence[UserId], frames: Sequence[bytes]) -> None:
        joined = b"".join(frames)
        for user_id in audience:
            for socket in tuple(self._sockets.get(user_id, ())):
                try:
                    socket.send(frames, joined)
                except Exception:
                    # A fault of one transport must not cost others their events.
                    log.exception("A WebSocket could not be written to", user_id=user_id)

    def close_session(self, session_id: SessionId, reason: str) -> None:
        """Close a session's sockets with code 1008, after what has been delivered."""
        self.flush()
        for socket in self._all():
            if socket.actor.session_id == session_id:
                socket.close(Close(POLICY_VIOLATION, reason))

    def drain(self) -> None:
        """Close every socket, and every one that still comes, because the server is about to restart."""
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

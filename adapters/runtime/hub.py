"""The sockets that are open in this process, and what waits to be written to each."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog
import trio
from attrs import frozen

from messaging_core.effects import Deliver
from messaging_core.events import MessageCreated
from messaging_core.fanout import PlainFrame, plain_frame
from messaging_core.ids import SessionId, UserId
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
    """How frames leave: at once where there is room, or by the socket's writer."""

    def offer(self, frame: bytes) -> int:
        """Write a frame without waiting; how many of its bytes were taken, the rest being written first."""

    async def write(self, frames: bytes) -> None:
        """Write what an offer has left, and then frames, one after another."""


WRITE_BYTES = 65_536
"""What a writer takes at a time: more would count as written while it waits."""


class LocalSocket:
    """One open socket: frames go straight out, or, while the line is full, to its one writer."""

    __slots__ = ("_begun", "_close", "_idle", "_outbox", "_wakeup", "actor")

    def __init__(self, actor: Actor, limits: Limits) -> None:
        self.actor = actor
        self._outbox = Outbox(limits)
        self._idle: Transport | None = None
        """The transport while its writer waits and nothing else does: nothing can be overtaken."""
        self._begun = False
        """Whether an offer has left a part of its frame to the writer."""
        self._close: Close | None = None
        self._wakeup = trio.Event()

    def send(self, frame: bytes) -> None:
        """Write or queue a durable frame; where it finds no room the socket is closed as a slow consumer."""
        if self._close is not None:
            return
        if self._idle is not None:
            taken = self._idle.offer(frame)
            if taken == len(frame):
                return
            self._idle = None
            self._begun = taken > 0
            if self._begun:
                self._wakeup.set()
                return
        if self._outbox.put(frame) is Room.FULL:
            self._close = SLOW_CONSUMER
            log.warning("WebSocket closed: too slow", user_id=self.actor.user_id, waiting=len(self._outbox))
        self._wakeup.set()

    async def write_to(self, transport: Transport) -> Close:
        """Be the writer: write what comes until the socket is to be closed; how."""
        while True:
            # A slow consumer's frames are dropped.
            frames = b"" if self._close is SLOW_CONSUMER else self._outbox.take(WRITE_BYTES)
            if frames or self._begun:
                self._begun = False
                await transport.write(frames)
            elif self._close is not None:
                return self._close
            else:
                self._idle, self._wakeup = transport, trio.Event()
                await self._wakeup.wait()
                self._idle = None

    def close(self, close: Close) -> None:
        """Have the socket closed after what waits; the first of several closes counts."""
        if self._close is None:
            self._close = close
        self._wakeup.set()


class Hub:
    """The sockets of this process by user; `encode` gives an event's JSON, framed once for all of them."""

    def __init__(self, limits: Limits, encode: Callable[[PlainFrame], bytes]) -> None:
        self._limits = limits
        self._encode = encode
        self._sockets: dict[UserId, dict[LocalSocket, None]] = {}
        self.draining = False

    @contextmanager
    def connected(self, actor: Actor) -> Iterator[LocalSocket]:
        """A socket that hears everything from now until the end of the block; raises `TooManySockets`."""
        own = self._sockets.setdefault(actor.user_id, {})
        if len(own) >= self._limits.sockets_per_user:
            raise TooManySockets
        socket = LocalSocket(actor, self._limits)
        own[socket] = None
        if self.draining:
            socket.close(RESTARTING)
        try:
            yield socket
        finally:
            del own[socket]
            if not own and self._sockets.get(actor.user_id) is own:
                del self._sockets[actor.user_id]

    def deliver(self, delivery: Deliver) -> None:
        """Queue an event on every socket of its audience; never waits."""
        frame = plain_frame(delivery.event)
        if frame is None:
            return
        message = frame.data
        if isinstance(delivery.event, MessageCreated):
            log.info("Message created: %d in chat %d", message.id, message.chat_id)
        log.info("Broadcasting to %d participants", len(delivery.audience))
        encoded = text_frame(self._encode(frame))
        for user_id in delivery.audience:
            sockets = self._sockets.get(user_id)
            if sockets:
                log.info("Sending WebSocket event to user %d: %s", user_id, frame.event)
                for socket in sockets:
                    socket.send(encoded)

    def close_session(self, session_id: SessionId, reason: str) -> None:
        """Close a session's sockets with code 1008."""
        for socket in self._all():
            if socket.actor.session_id == session_id:
                socket.close(Close(POLICY_VIOLATION, reason))

    def drain(self) -> None:
        """Close every socket, and every one that still comes, because the server is about to restart."""
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

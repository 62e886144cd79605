"""The sockets that are open in this process, and what waits to be written to each."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import structlog
import trio
from attrs import frozen

from messaging_core.effects import Deliver
from messaging_core.events import MessageCreated
from messaging_core.fanout import PlainFrame, plain_frame
from messaging_core.ids import SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor
from messaging_core.sockets import Outbox, Room

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


class LocalSocket:
    """One open socket: frames go in without waiting, and are taken out by its one writer."""

    __slots__ = ("_close", "_outbox", "_wakeup", "actor")

    def __init__(self, actor: Actor, limits: Limits) -> None:
        self.actor = actor
        self._outbox = Outbox(limits)
        self._close: Close | None = None
        self._wakeup = trio.Event()

    def send(self, frame: bytes) -> None:
        """Queue a durable frame; where it finds no room the socket is closed as a slow consumer."""
        if self._close is None and self._outbox.put(frame) is Room.FULL:
            self._close = SLOW_CONSUMER
            log.warning("WebSocket closed: too slow", user_id=self.actor.user_id, waiting=len(self._outbox))
        self._wakeup.set()

    def close(self, close: Close) -> None:
        """Have the socket closed after what waits; the first of several closes counts."""
        if self._close is None:
            self._close = close
        self._wakeup.set()

    async def receive(self) -> bytes | Close:
        """The next frame to write, or how to close; waits for one. A slow consumer's frames are dropped."""
        while True:
            if self._close is not SLOW_CONSUMER and (frame := self._outbox.get()) is not None:
                return frame
            if self._close is not None:
                return self._close
            self._wakeup = trio.Event()
            await self._wakeup.wait()


class Hub:
    """The sockets of this process by user; `encode` writes a frame once for all of them."""

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
        encoded = self._encode(frame)
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

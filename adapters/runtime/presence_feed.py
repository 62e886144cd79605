"""Sends sockets the presence of the people whom they watch, by comparing what the storage knows."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from math import inf
from typing import Any

import structlog
import trio

from adapters.runtime.hub import Hub, Subscription
from messaging_core import operations
from messaging_core.frames import Frame, PresenceData
from messaging_core.ids import UserId
from messaging_core.models import Presence
from messaging_core.operations import Query
from messaging_core.ports import StorageUnavailable
from messaging_core.sockets import Bundle

log = structlog.get_logger(__name__)

COMPARE_SECONDS = 10.0
"""Time between two comparisons of all who are watched."""
PAUSE_SECONDS = 0.1
"""Pause after lists were read: a client that sends list after list has only its last one read."""


class PresenceFeed:
    """Sends sockets the presence of the people whom they watch; `read` runs a query on a view of its own.

    Each presence is sent only if the socket's user may see it at that time. Somebody whom they may not see
    is asked about again when that person's presence changes.
    """

    def __init__(
        self, hub: Hub, read: Callable[[Query[Any]], Awaitable[Any]], now: Callable[[], datetime]
    ) -> None:
        self._hub = hub
        self._read = read
        self._now = now
        self._sockets: dict[Subscription, None] = {}
        """Those that watch somebody; closed ones until the next comparison."""
        self._new: dict[Subscription, None] = {}
        """Those with a list that has not been read for yet."""
        self._work = trio.Event()
        self._compare_at = 0.0
        self._fails = False
        hub.watch = self.watch

    def watch(self, socket: Subscription) -> None:
        """A socket has another list."""
        self._new[socket] = None
        self._work.set()

    async def run(self) -> None:
        """Send what is new, until cancelled; does nothing while nobody watches."""
        while True:
            with trio.move_on_at(self._compare_at if self._sockets else inf):
                await self._work.wait()
            self._work = trio.Event()
            try:
                await self._update_all()
                self._fails = False
            except StorageUnavailable as error:
                if not self._fails:  # once for an outage
                    log.warning("Presence cannot be read; it is tried again", error=str(error))
                self._fails = True
            except Exception:
                log.exception("Presence cannot be read; it is tried again")
            await trio.sleep(PAUSE_SECONDS)

    async def _update_all(self) -> None:
        """Update the sockets with a new list and, when it is time, all others."""
        known: dict[UserId, Presence] = {}
        waiting: list[Subscription] = []
        if trio.current_time() >= self._compare_at:
            self._compare_at = trio.current_time() + COMPARE_SECONDS
            waiting = list(self._sockets)
        while True:
            new, self._new = self._new, {}
            self._sockets |= new  # before they are read for: after a failure the comparison does it
            for socket in new:
                await self._update(socket, known)
            if not waiting:
                return
            await self._update(waiting.pop(), known)

    async def _update(self, socket: Subscription, known: dict[UserId, Presence]) -> None:
        """Send a socket what is new to it; `known` is what was read in this round."""
        watch_list = socket.protocol.watch_list
        if watch_list is None or socket.protocol.closing is not None:
            self._sockets.pop(socket, None)
            return
        await trio.lowlevel.checkpoint()
        unknown = [user_id for user_id in watch_list.user_ids if user_id not in known]
        if unknown:
            known.update(await self._read(operations.presences(unknown, self._now())))
        news = watch_list.news(known)
        if not news:
            return
        people = [presence.user_id for presence in news]
        seen = await self._read(operations.seen_by(socket.actor.user_id, people))
        if socket.protocol.watch_list is not watch_list:
            return  # its new list waits
        for presence in news:
            if presence.user_id not in seen or self._send(socket, presence):
                watch_list.note(presence)

    def _send(self, socket: Subscription, presence: Presence) -> bool:
        """Whether the socket has room; a later comparison tries one again that has none."""
        data = PresenceData(presence.user_id, presence.status, presence.last_seen)
        bundle = Bundle.of(self._hub.encode(Frame("presence", data)), is_ephemeral=True)
        if not socket.protocol.has_room(bundle):
            return False
        try:
            socket.put(bundle)
        except Exception:  # a fault of one transport must not lose what others are sent
            log.exception("A WebSocket could not be written to", user_id=socket.actor.user_id)
        return True

"""Sends sockets of a profile that counts what they missed: from the logs, as fast as each of them drains.

There is one mechanism for three cases: a gap in a chat's live events, an event that is shown to each viewer
differently, and a client that comes back. A socket that is behind in a chat is sent the chat's log from its
position on; live events of the chat skip it meanwhile, so its position is the buffer. Which events a reader
may see, and what a resumption holds, is decided by the core.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeVar

import structlog
import trio

from adapters.runtime.event_loop import places
from adapters.runtime.hub import Hub, SocketOver, Subscription
from adapters.runtime.relay import parts
from messaging_core import operations
from messaging_core.frames import Frame, NumberedFrame, ResumedChat, ResumedData, ResyncRequiredData
from messaging_core.ids import ChatId, UserId
from messaging_core.limits import Limits
from messaging_core.operations import ChatMarks, Context, MissedEvents, Query
from messaging_core.ports import Storage, StorageUnavailable
from messaging_core.profiles import Resume
from messaging_core.resuming import resumption
from messaging_core.sockets import Bundle, Positions, bundles

log = structlog.get_logger(__name__)

T = TypeVar("T")

AT_ONCE = 16
"""Sockets for which the storage is read at a time; the others wait in the order of their coming."""
EVENTS_AT_ONCE = 50
"""Entries of a log that one query reads: as many as a page of history has messages."""
CHATS_AT_ONCE = 20
"""Chats that one query reads, of up to 100 participants each."""
TRY_AGAIN_SECONDS = 1.0
"""Pause after the storage did not answer."""
RESYNCS_PER_SECOND = 20
"""Clients that are asked to fetch everything in each second: some dozen requests each."""


class CatchUp:
    """Catches up the sockets of a hub, which it is connected to by its creation."""

    def __init__(
        self, storage: Storage, hub: Hub, limits: Limits, context_of: Callable[[Subscription], Context]
    ) -> None:
        self._storage = storage
        self._hub = hub
        self._limits = limits
        self._context_of = context_of
        self._places = places(AT_ONCE)
        self._next_resync = 0.0
        self.charge: Callable[[UserId, int], float] | None = None
        """Charges a user for the bytes of a resumption; returns the seconds until their debt is repaid.

        None where nothing is charged.
        """
        hub.catch_up = self.catch_up
        hub.resume = self.resume

    async def catch_up(self, socket: Subscription) -> None:
        """Send a socket the events that it left out, until it is behind in no chat."""
        positions = _positions(socket)
        context = self._context_of(socket)
        while positions.behind and await self._advance(socket, next(iter(positions.behind)), context):
            pass

    async def resume(self, socket: Subscription, client: Resume) -> None:
        """Send a socket what its client missed, then `resumed`; from then on it receives live events.

        A user who resumes more than the rates allow is sent it slowly.
        """
        positions = _positions(socket)
        context = self._context_of(socket)
        if client.log != self._storage.incarnation:
            self._start_over(socket, positions, "other_log")
            return
        await self._pace(socket, 0)
        async with self._places:
            reaches = await self._read(socket, operations.reaches(context))
        found = resumption(client.chats, reaches, limits=self._limits)
        if found is None:
            self._start_over(socket, positions, "unknown_number")
            return
        positions.resume(found.accepted, found.missed)
        own = {chat_id for chat_id, reach in reaches.items() if reach.is_open}
        await self._show(socket, found.new, "chat.created", context)
        await self._show(socket, found.too_long, "chat.resync", context)
        sent = 0
        for chat_id in found.missed:
            while chat_id in positions.behind and sent < self._limits.resumed_bytes:
                count = await self._advance(socket, chat_id, context)
                if not count:
                    return
                sent += count
                await self._pace(socket, count)
            if chat_id in positions.behind and chat_id in own:
                await self._show(socket, [chat_id], "chat.resync", context)
            elif chat_id in positions.behind:
                positions.catch_up(chat_id, max(positions.accepted[chat_id], found.missed[chat_id] - 1))
        while await socket.drained():
            await self.catch_up(socket)
            positions.has_shed = False
            marks = await self._marks(socket, context)
            # A client counts the events after the position itself, so its counts must not include them.
            ahead = {
                chat_id: read.sequence
                for chat_id, read in marks.items()
                if read.sequence > positions.accepted.get(chat_id, 0)
            }
            positions.resume({}, ahead)
            if not positions.behind and not positions.has_shed:
                positions.is_held = False
                self._put(socket, Frame("resumed", ResumedData(_resumed(marks, positions), ())))
                return

    async def _marks(self, socket: Subscription, context: Context) -> Mapping[ChatId, ChatMarks]:
        """How far all chats of the user are read, some of them a query."""
        found: dict[ChatId, ChatMarks] = {}
        after: ChatId | None = None
        while True:
            async with self._places:
                some = await self._read(socket, operations.own_chat_marks(after, context))
            found.update(some.marks)
            if some.after is None:
                return found
            after = some.after

    async def _advance(self, socket: Subscription, chat_id: ChatId, context: Context) -> int:
        """Send the next events of a chat that the socket is behind in.

        Returns 0 if the socket is closing, and otherwise the bytes that were sent, 1 for none.
        """
        if not await socket.drained():
            return 0
        positions = _positions(socket)
        after = positions.accepted.get(chat_id)
        heard = positions.behind[chat_id]
        if after is None:
            await self._show(socket, [chat_id], "chat.created", context)
            return int(socket.protocol.closing is None)
        query = operations.missed_events(chat_id, after, context, count=EVENTS_AT_ONCE)
        async with self._places:
            found = await self._read(socket, query)
        await socket.turn_over()
        if socket.protocol.closing is not None:
            return 0
        return 1 + self._hand_over(socket, positions, chat_id, found, heard)

    def _hand_over(
        self, socket: Subscription, positions: Positions, chat_id: ChatId, found: MissedEvents, heard: int
    ) -> int:
        """Put those of the events that the socket has room for and has not accepted meanwhile; their bytes.

        `heard` is the last number that was left out before the log was read.
        """
        profile, encode = socket.protocol.profile, self._hub.encode
        after = positions.accepted[chat_id]
        shown = [
            (each.entry.sequence, encode(profile.show_to(each.event, each.entry, each.more)))
            for each in found.events
            if each.entry.sequence > after
        ]
        sent = 0
        for some in parts(shown, max(1, self._limits.outbox_frames // 2)):
            for bundle in bundles(some, log_of=chat_id):
                if bundle.span is None or not socket.protocol.has_room(bundle):
                    return sent
                socket.put(bundle)
                positions.catch_up(chat_id, bundle.span.last)
                sent += len(bundle.joined)
        through = max(found.through, heard) if found.is_last else found.through
        positions.catch_up(chat_id, max(through, positions.accepted[chat_id]))
        return sent

    async def _show(
        self, socket: Subscription, chat_ids: Sequence[ChatId], event: str, context: Context
    ) -> None:
        """Send chats as they are, each with its number, which becomes the socket's position."""
        positions = _positions(socket)
        left = list(chat_ids)
        size = 0
        while left and await socket.drained():
            asked = left[:CHATS_AT_ONCE]
            heard = {chat_id: positions.behind.get(chat_id, 0) for chat_id in asked}
            async with self._places:
                found = {
                    each.id: each for each in await self._read(socket, operations.chat_views(asked, context))
                }
            for chat_id in asked:
                current = found.get(chat_id)
                if current is None:
                    # The user has left it: of a chat that the client does not know, nothing is to be sent.
                    if chat_id not in positions.accepted:
                        positions.catch_up(chat_id, heard[chat_id])
                else:
                    data = socket.protocol.profile.show_chat(current)
                    frame = NumberedFrame(event, chat_id, current.chat.sequence, data)
                    bundle = Bundle.of(self._hub.encode(frame))
                    if not socket.protocol.has_room(bundle):
                        break
                    socket.put(bundle)
                    size += len(bundle.joined)
                    positions.catch_up(chat_id, current.chat.sequence)
                left.remove(chat_id)
            await self._pace(socket, size)
            size = 0

    def _start_over(
        self, socket: Subscription, positions: Positions, reason: Literal["other_log", "unknown_number"]
    ) -> None:
        """Have the client fetch everything, later the more others do; live events follow at once."""
        now = trio.current_time()
        self._next_resync = max(now, self._next_resync + 1 / RESYNCS_PER_SECOND)
        positions.begin_anew()
        data = ResyncRequiredData(reason, int(self._next_resync - now))
        self._put(socket, Frame("resync_required", data))

    def _put(self, socket: Subscription, frame: Frame) -> None:
        socket.put(Bundle.of(self._hub.encode(frame)))

    async def _pace(self, socket: Subscription, size: int) -> None:
        """Charge a part of a resumption, and wait while its user is in debt."""
        if self.charge is not None:
            await trio.sleep(self.charge(socket.actor.user_id, size))

    async def _read(self, socket: Subscription, query: Query[T]) -> T:
        """The query's result, however long the storage does not answer; raises `SocketOver`."""
        while socket.protocol.closing is None:
            try:
                return await self._storage.read(query)
            except StorageUnavailable as error:
                log.warning("The storage does not answer; a WebSocket waits", error=str(error))
            await trio.sleep(TRY_AGAIN_SECONDS)
        raise SocketOver


def _resumed(marks: Mapping[ChatId, ChatMarks], positions: Positions) -> list[ResumedChat]:
    """The chats of the user that the socket has received whole."""
    return [
        ResumedChat(chat_id, number, read.unread_count, read.read_up_to, read.others_read_up_to)
        for chat_id, number in positions.accepted.items()
        if (read := marks.get(chat_id)) is not None
    ]


def _positions(socket: Subscription) -> Positions:
    positions = socket.protocol.positions
    if positions is None:
        raise TypeError("the socket's profile does not count")
    return positions

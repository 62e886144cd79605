"""Delivers what other processes commit: by their signals and, where one was missed, from the log.

The relay decides when to look. In which order events are delivered is decided by `messaging_core.sequencing`,
and when a signal may have been missed by `messaging_core.liveness`.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from itertools import islice
from math import inf
from types import MappingProxyType
from typing import TypeVar, assert_never

import structlog
import trio
from attrs import define

from adapters.runtime.admissions import Admissions
from adapters.runtime.hub import Hub
from messaging_core.effects import CloseSockets, Deliver, DeliverEphemeral
from messaging_core.ids import ChatId, UserId
from messaging_core.liveness import BEAT_SECONDS, Liveness
from messaging_core.models import Chat
from messaging_core.operations import LogPart, log_part
from messaging_core.ports import Bus, Reader, Storage, StorageUnavailable
from messaging_core.positions import Reach, furthest
from messaging_core.sequencing import Following
from messaging_core.signals import Envelope, Reference, Signal

log = structlog.get_logger(__name__)

T = TypeVar("T")

GAP_PATIENCE_SECONDS = 0.02
"""How long the relay waits for the signal that closes a gap before it reads the log."""
POLL_SECONDS = 1.0
"""Pause between two comparisons with the storage while the bus is not heard, and after a failed one."""
COMPARISON_PAUSE_SECONDS = 0.1
"""Pause between any two comparisons, for a bus that keeps losing signals."""
USERS_AT_ONCE = 200
"""Users whose chats' positions one query reads."""
CHATS_AT_ONCE = 20
"""Chats whose logs one query reads."""
ENTRIES_AT_ONCE = 100
"""Entries of a chat's log that one query reads."""


@define
class Counts:
    """Counters, for metrics."""

    signals: int = 0
    """Signals received from other processes."""
    missed: int = 0
    """Occasions on which a signal may have been missed."""
    comparisons: int = 0
    """Comparisons of all positions with the storage."""
    moved: int = 0
    """Chats with events that a comparison found and no signal announced."""
    gaps: int = 0
    """Chats whose log was read."""
    read: int = 0
    """Entries of logs that were read."""
    from_log: int = 0
    """Events delivered from the log."""
    lost: int = 0
    """Occasions on which the bus fell silent."""


class Relay:
    """Connects one process with the others; `close_ended` closes the sockets of all ended sessions."""

    def __init__(
        self,
        bus: Bus,
        *,
        storage: Storage,
        hub: Hub,
        admissions: Admissions,
        deliver_ephemeral: Callable[[DeliverEphemeral], None],
        close_ended: Callable[[], Awaitable[None]],
    ) -> None:
        self.counts = Counts()
        self._bus = bus
        self._storage = storage
        self._hub = hub
        self._admissions = admissions
        self._deliver_ephemeral = deliver_ephemeral
        self._close_ended = close_ended
        self._following = Following()
        self._liveness = Liveness(bus.publisher, now=trio.current_time())
        self._was_alive = False
        self._comparison_due = False
        self._reasons: dict[str, None] = {}
        """Of the next comparison, for its log line."""
        self._compared_at = -inf
        self._work = trio.Event()

    # --- what happens here ---

    def deliver(self, delivery: Deliver) -> None:
        """Signal an event that was committed here, and deliver it after the chat's earlier ones."""
        self._bus.publish(delivery)
        leaving = self._following.arrive(delivery)
        self._leave((delivery,) if leaving is None else leaving)

    def signal(self, effect: DeliverEphemeral | CloseSockets) -> None:
        """Signal to the other processes what no log has: it was carried out here already."""
        self._bus.publish(effect)

    def doubt(self) -> None:
        """Have every process compare: a commit here, whose outcome is unknown, may never be signalled."""
        self._missed("it is not known what was committed")
        self._bus.rebuild()  # which skips a number

    async def follow(self, user_id: UserId) -> None:
        """Deliver to a user's socket, which the hub knows already, what any process commits from now on.

        Raises `StorageUnavailable`.
        """
        if not self._following.come(user_id):
            return
        try:
            await self._bus.follow(user_id)
            found = await self._storage.read(_positions_of([user_id]))
            followed = {chat_id for chat_id in found if self._following.follows(chat_id)}
            new = {chat_id for chat_id, reach in found.items() if reach.is_open} - followed
            chats = await self._read_chats(new)
        except BaseException:
            self._leave(self._following.turn_away(user_id))
            raise
        over = {chat_id: reach.number for chat_id, reach in found.items() if chat_id not in followed}
        for chat in chats:
            del over[chat.id]
        self._leave(self._following.settle(user_id, chats, followed=followed, over=over))
        if self._following.spilt:
            self.compare_soon()

    def compare_soon(self) -> None:
        """Have all positions compared with the storage."""
        self._comparison_due = True
        self._work.set()

    # --- whether it can be relied on ---

    @property
    def is_trusted(self) -> bool:
        """Whether this process knows of every session that ended elsewhere a second ago or earlier."""
        return self._liveness.is_trusted(now=trio.current_time())

    @property
    def trouble(self) -> str | None:
        """The fault, for an operator; None while the bus is heard."""
        if self._liveness.is_alive(now=trio.current_time()):
            return None
        return "The bus is not heard: events of other processes come late, by polling the storage."

    # --- what is heard ---

    async def run(self) -> None:
        """Run the bus, watch it, and catch up, for ever."""
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._bus.run, self._heard, self._missed)
                    nursery.start_soon(self._watch)
                    nursery.start_soon(self._catch_up)
            except Exception:
                log.exception("The bus failed; it is begun anew")
            await trio.sleep(POLL_SECONDS)

    def _heard(self, envelope: Envelope) -> None:
        why = self._liveness.heard(envelope, now=trio.current_time())
        if why is not None:
            self._missed(why)
        for signal in envelope.signals:
            try:
                self._handle(signal)
            except Exception:
                # A fault in one event must not lose the others.
                log.exception("A signal could not be handled")

    def _handle(self, signal: Signal) -> None:
        self.counts.signals += 1
        match signal:
            case Deliver() | Reference():
                self._leave(self._following.arrive(signal) or ())
            case DeliverEphemeral():
                self._deliver_ephemeral(signal)
            case CloseSockets(session_id, reason):
                self._admissions.end(session_id)
                self._hub.close_session(session_id, reason)
            case _:
                assert_never(signal)

    def _missed(self, why: str) -> None:
        """Distrust all verdicts and compare: the end of a session, or events, may have been missed."""
        self.counts.missed += 1
        self._reasons[why] = None
        self._admissions.end_all()
        self.compare_soon()

    async def _watch(self) -> None:
        """Detect publishers, and this process itself, that have fallen silent."""
        while True:
            now = trio.current_time()
            for _ in self._liveness.silent(now=now):
                self._missed("another process fell silent")
            alive = self._liveness.is_alive(now=now)
            if alive != self._was_alive:
                self._was_alive = alive
                if alive:
                    log.info("The bus is heard")
                else:
                    self.counts.lost += 1
                    log.warning("The bus is not heard any more; the storage is polled")
                self.compare_soon()
            if self._liveness.is_deaf(now=now):
                self._bus.rebuild()
            await trio.sleep(BEAT_SECONDS / 2)

    # --- what was missed ---

    async def _catch_up(self) -> None:
        while True:
            with trio.move_on_at(inf if self._was_alive else self._compared_at + POLL_SECONDS) as waiting:
                await self._work.wait()
            self._work = trio.Event()
            try:
                if self._comparison_due or waiting.cancelled_caught:
                    await trio.sleep_until(self._compared_at + COMPARISON_PAUSE_SECONDS)
                    await self._compare()
                elif self._was_alive:
                    await trio.sleep(GAP_PATIENCE_SECONDS)
                await self._look_up()
                await self._read_logs()
            except StorageUnavailable as error:
                log.warning("The storage does not respond; catching up is tried again", error=str(error))
                await self._try_again_soon()
            except Exception:
                log.exception("Catching up failed; it is tried again")
                await self._try_again_soon()

    async def _try_again_soon(self) -> None:
        self.compare_soon()
        await trio.sleep(POLL_SECONDS)

    async def _compare(self) -> None:
        """Find events that no signal announced, and sockets of ended sessions; forget chats of nobody."""
        self._comparison_due = False
        if self._reasons:
            log.info("Catching up with the storage", why=", ".join(self._reasons))
            self._reasons.clear()
        self.counts.comparisons += 1
        settled, coming = self._following.begin_comparison()
        found = await self._positions(settled)
        moved = self._following.compare(found)
        if moved:
            self.counts.moved += moved
            log.info("Found chats that have moved on", chats=moved)
        self._following.forget_others(await self._positions(coming, found))
        await self._close_ended()
        self._compared_at = trio.current_time()

    async def _positions(
        self, user_ids: Iterable[UserId], known: Mapping[ChatId, Reach] = MappingProxyType({})
    ) -> dict[ChatId, Reach]:
        """How far memberships of any of the users reach, and those that are known already."""
        positions = dict(known)
        for some in parts(user_ids, USERS_AT_ONCE):
            for chat_id, reach in (await self._storage.read(_positions_of(some))).items():
                positions[chat_id] = furthest(reach, positions.get(chat_id))
        return positions

    async def _look_up(self) -> None:
        """Read the members of chats that are new."""
        for chat in await self._read_chats(self._following.take_unknown()):
            self._following.looked_up(chat)

    async def _read_chats(self, chat_ids: Iterable[ChatId]) -> list[Chat]:
        """Chats with their members, each as it is when its part of them is read."""
        found: list[Chat] = []
        for some in parts(chat_ids, CHATS_AT_ONCE):
            found += [chat for chat in await self._storage.read(_chats(some)) if chat is not None]
        return found

    async def _read_logs(self) -> None:
        """Deliver from the log what is missing in the chats that are behind."""
        sequences = self._following.sequences
        before = self.counts.from_log
        users = frozenset(self._following.settled) if sequences.behind else frozenset()
        for some in parts(tuple(sequences.behind), CHATS_AT_ONCE):
            left = some
            while left:
                asked = {chat_id: sequences.position(chat_id) for chat_id in left if chat_id in sequences}
                heard = {chat_id: sequences.heard(chat_id) for chat_id in asked}
                read = await self._storage.read(_log_parts(asked, users))
                for chat_id, part in read.items():
                    if part is None:
                        self._following.skip(chat_id, through=heard[chat_id])
                        continue
                    self.counts.read += len(part.entries)
                    through = heard[chat_id] if part.is_last else None
                    leaving = self._following.read(chat_id, part.entries, through=through)
                    self.counts.from_log += len(leaving)
                    self._leave(leaving)
                self.counts.gaps += len(left)
                left = tuple(chat_id for chat_id, part in read.items() if part and not part.is_last)
        if self.counts.from_log > before:
            log.info("Delivered from the log", events=self.counts.from_log - before)

    def _leave(self, leaving: Iterable[Deliver]) -> None:
        for delivery in leaving:
            try:
                self._hub.deliver(delivery)
            except Exception:
                log.exception("An event could not be delivered", chat_id=delivery.entry.chat_id)
        if self._following.has_to_look:
            self._work.set()

    def gone(self, user_id: UserId) -> None:
        """Deliver nothing to a user any more, whose last socket has closed."""
        self._following.go(user_id)
        self._bus.unfollow(user_id)


def _positions_of(user_ids: Collection[UserId]) -> Callable[[Reader], Mapping[ChatId, Reach]]:
    return lambda reader: reader.positions(user_ids)


def _chats(chat_ids: Collection[ChatId]) -> Callable[[Reader], list[Chat | None]]:
    return lambda reader: [reader.chat(chat_id) for chat_id in chat_ids]


def _log_parts(
    after: Mapping[ChatId, int], users: Collection[UserId]
) -> Callable[[Reader], dict[ChatId, LogPart | None]]:
    return lambda reader: {
        chat_id: log_part(reader, chat_id, position, users=users, count=ENTRIES_AT_ONCE)
        for chat_id, position in after.items()
    }


def parts(values: Iterable[T], size: int) -> Iterable[tuple[T, ...]]:
    """Yields tuples of at most `size` values."""
    iterator = iter(values)
    while part := tuple(islice(iterator, size)):
        yield part

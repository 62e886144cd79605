"""The test suite of every bus: each test is one rule of `messaging_core.ports.Bus`.

The test module of a bus derives from `BusContract` and returns an exchange that connects several of them:

    import pytest

    from messaging_core.testing.bus_contract import BusContract, Exchange
    from messaging_core.testing.memory_bus import MemoryBroker

    class TestMemoryBus(BusContract):
        @pytest.fixture
        def exchange(self) -> Exchange:
            return MemoryBroker()
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import pairwise
from typing import Protocol

import trio
from attrs import define, evolve, field

from messaging_core.effects import CloseSockets, Deliver, DeliverEphemeral
from messaging_core.events import (
    ChatCreated,
    DurableEvent,
    MessageCreated,
    MessageDeleted,
    MessageUpdated,
    Typing,
)
from messaging_core.fanout import announce, announce_ephemeral
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.liveness import Liveness
from messaging_core.models import Chat, Member, Message, MessageType, Role
from messaging_core.ports import Bus
from messaging_core.signals import Envelope, Reference, Signal

PATIENCE = 60
"""Seconds that a test waits for an event before it fails."""
AUDIENCE = (UserId(1), UserId(2))


class Exchange(Protocol):
    """Connects the buses of several processes."""

    def bus(self) -> Bus:
        """The bus of another process; it does not run yet."""

    async def disrupt(self) -> None:
        """End all connections, as a broker's restart does; the buses may reconnect."""


@define(eq=False)
class BusProcess:
    """A process that only publishes and receives signals."""

    bus: Bus
    envelopes: list[Envelope] = field(factory=list)
    missed: list[str] = field(factory=list)
    _changed: trio.Event = field(factory=trio.Event)

    @property
    def signals(self) -> list[Signal]:
        return [signal for envelope in self.envelopes for signal in envelope.signals]

    def numbered(self, publisher: str) -> list[Envelope]:
        """The received envelopes of a publisher that have a number."""
        return [e for e in self.envelopes if e.publisher == publisher and e.number is not None]

    async def wait_until(self, holds: Callable[["BusProcess"], object]) -> None:
        """Wait until the condition holds."""
        with trio.move_on_after(PATIENCE) as waiting:
            while not holds(self):
                await self._changed.wait()
        assert not waiting.cancelled_caught, f"received {self.signals[-20:]}, missed {self.missed}"

    async def wait_for_own_heartbeat(self) -> None:
        """Wait until an envelope that this process sends from now on has come back."""
        since = trio.current_time()
        await self.wait_until(
            lambda process: any(e.sent_at > since for e in process.numbered(self.bus.publisher))
        )

    async def run(self) -> None:
        await self.bus.run(self._heard, self._missed)

    def _heard(self, envelope: Envelope) -> None:
        self.envelopes.append(envelope)
        self._change()

    def _missed(self, why: str) -> None:
        self.missed.append(why)
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def bus_processes(exchange: Exchange, count: int = 2) -> AsyncIterator[Sequence[BusProcess]]:
    """Connected processes that receive signals for `AUDIENCE`."""
    processes = [BusProcess(exchange.bus()) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for process in processes:
            nursery.start_soon(process.run)
        for process in processes:
            await process.wait_for_own_heartbeat()
            for user_id in AUDIENCE:
                await process.bus.follow(user_id)
        yield processes
        nursery.cancel_scope.cancel()


NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
MEMBERS = tuple(Member(user_id, Role.MEMBER, NOW) for user_id in AUDIENCE)
CHAT = Chat(ChatId(5), 'A "group"', True, NOW, MEMBERS, 1, NOW, None)
MESSAGE = Message(
    MessageId(2**53 - 1), CHAT.id, AUDIENCE[0], MessageType.TEXT, "Hello", None, NOW, None, None, None, 1, 1
)


def delivery(
    number: int, event: DurableEvent | None = None, audience: tuple[UserId, ...] = AUDIENCE
) -> Deliver:
    """An event of the test chat with this number in the log."""
    if event is None:
        event = MessageCreated(evolve(MESSAGE, content=f"number {number}", sequence=number, revision=number))
    *_, effect = announce(evolve(CHAT, sequence=number - 1), event, now=NOW)
    assert isinstance(effect, Deliver)
    return evolve(effect, audience=audience)


def log_numbers(process: BusProcess) -> list[int]:
    """The log numbers in the received signals, in order, each once."""
    received = [
        signal.entry.sequence if isinstance(signal, Deliver) else signal.sequence
        for signal in events(process)
    ]
    return list(dict.fromkeys(received))


def events(process: BusProcess) -> list[Deliver | Reference]:
    return [signal for signal in process.signals if isinstance(signal, Deliver | Reference)]


def skipped_numbers(process: BusProcess, publisher: str) -> bool:
    """Whether the numbers of a publisher that the process has received have a gap."""
    numbers = [envelope.number or 0 for envelope in process.numbered(publisher)]
    return any(later > earlier + 1 for earlier, later in pairwise(numbers))


class BusContract:
    """Derive from this, name the class `Test…`, and add a fixture `exchange`."""

    async def test_every_other_process_receives_a_signal(self, exchange: Exchange) -> None:
        """All other processes receive a signal whole; its publisher does not."""
        async with bus_processes(exchange, 3) as (one, two, three):
            sent = delivery(7)
            one.bus.publish(sent)
            for process in (two, three):
                await process.wait_until(events)
                assert events(process) == [sent] * len(events(process))
            await one.wait_for_own_heartbeat()
            assert one.signals == []

    async def test_every_kind_of_event_arrives_unchanged(self, exchange: Exchange) -> None:
        """Messages arrive with any text and payload, new chats with their members."""
        message = evolve(
            MESSAGE,
            content="\U0001f44b \u2028 \" \\ '; 'לום",
            payload={"a": [1, 2.5, None, True, {"ключ": "\x7f"}], "": {}},
            reply_to_id=MESSAGE.id,
            edited_at=MESSAGE.ts,
            deleted_at=MESSAGE.ts,
            sequence=2,  # of its creation, among `kinds`
        )
        orphan = evolve(message, author_id=None, content=None)
        kinds: list[DurableEvent] = [
            ChatCreated(CHAT),
            MessageCreated(message),
            MessageUpdated(orphan),
            MessageDeleted(message),
        ]
        sent = [delivery(number, event) for number, event in enumerate(kinds, 1)]
        async with bus_processes(exchange) as (one, two):
            for each in sent:
                one.bus.publish(each)
            await two.wait_until(lambda process: len(log_numbers(process)) == len(sent))
            assert [
                signal for number, signal in enumerate(events(two)) if signal not in events(two)[:number]
            ] == sent

    async def test_an_ephemeral_event_arrives_unchanged(self, exchange: Exchange) -> None:
        """An ephemeral event reaches the processes that follow its audience, among durable ones.

        Only the durable ones have an order: a bus may send to each user separately.
        """
        typing = announce_ephemeral(CHAT, Typing(CHAT.id, AUDIENCE[0], is_typing=True))
        last = DeliverEphemeral(typing.event, AUDIENCE[:1])
        sent: list[Deliver | DeliverEphemeral] = [delivery(1), typing, delivery(2), last]
        async with bus_processes(exchange) as (one, two):
            for each in sent:
                one.bus.publish(each)
            await two.wait_until(lambda process: all(each in process.signals for each in sent))
            assert all(signal in sent for signal in two.signals)
            assert log_numbers(two) == [1, 2]

    async def test_signals_of_one_process_arrive_in_order(self, exchange: Exchange) -> None:
        """A thousand signals of one process arrive in the order of publishing."""
        async with bus_processes(exchange) as (one, two):
            for number in range(1, 1001):
                one.bus.publish(delivery(number))
                if number % 100 == 0:
                    await trio.lowlevel.checkpoint()
            await two.wait_until(lambda process: len(log_numbers(process)) == 1000)
            assert log_numbers(two) == list(range(1, 1001))

    async def test_an_ended_session_reaches_every_process(self, exchange: Exchange) -> None:
        """CloseSockets reaches every process, even one that follows no user."""
        async with bus_processes(exchange, 3) as (one, two, three):
            for user_id in AUDIENCE:
                two.bus.unfollow(user_id)
            ended = CloseSockets(SessionId(9), "session_revoked")
            one.bus.publish(ended)
            for process in (two, three):
                await process.wait_until(lambda process: process.signals)
                assert process.signals == [ended]

    async def test_a_too_large_signal_becomes_a_reference(self, exchange: Exchange) -> None:
        """A large event or audience arrives as a reference or whole, and later signals arrive too."""
        large = MessageCreated(evolve(MESSAGE, payload={"a": "x" * 32_000}))
        many = tuple(UserId(2**40 + number) for number in range(20_000))
        async with bus_processes(exchange) as (one, two):
            sent = [delivery(1, large), delivery(2, audience=(*AUDIENCE, *many)), delivery(3)]
            for each in sent:
                one.bus.publish(each)
            await two.wait_until(lambda process: len(log_numbers(process)) == 3)
            for signal in events(two):
                if isinstance(signal, Reference):
                    assert signal.chat_id == CHAT.id
                    assert signal.audience in (None, AUDIENCE)
                else:
                    assert signal in sent

    async def test_heartbeats_come_back_without_gaps_in_their_numbers(self, exchange: Exchange) -> None:
        """Without faults, no process suspects a missed signal."""
        async with bus_processes(exchange) as (one, two):
            seen = {process.bus.publisher: Liveness(process.bus.publisher, now=0.0) for process in (one, two)}
            for number in range(1, 4):
                one.bus.publish(delivery(number))
                await one.wait_for_own_heartbeat()
                await two.wait_until(lambda process, n=number: n in log_numbers(process))  # type: ignore[misc]
            before = len(two.numbered(one.bus.publisher))
            await two.wait_until(lambda process: len(process.numbered(one.bus.publisher)) >= before + 2)
            for process in (one, two):
                first, *rest = process.numbered(one.bus.publisher)
                liveness = seen[process.bus.publisher]
                liveness.heard(first, now=first.sent_at)
                assert [liveness.heard(envelope, now=envelope.sent_at) for envelope in rest] == [None] * len(
                    rest
                )

    async def test_signals_before_the_connection_arrive_or_leave_a_gap(self, exchange: Exchange) -> None:
        """Signals published before the connection arrive or skip a number; publishing never fails."""
        async with bus_processes(exchange, 1) as (two,):
            one = BusProcess(exchange.bus())
            for number in range(1, 30_001):
                one.bus.publish(delivery(number))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.run)
                await one.wait_for_own_heartbeat()
                await two.wait_until(lambda process: process.numbered(one.bus.publisher))
                first = two.numbered(one.bus.publisher)[0].number
                assert first is not None
                assert first > 1 or log_numbers(two) == list(range(1, 30_001))
                nursery.cancel_scope.cancel()

    async def test_a_bus_reconnects_after_a_disruption(self, exchange: Exchange) -> None:
        """After a disruption signals arrive again, each process learns that it may have missed some, and
        each publisher skips a number.
        """
        async with bus_processes(exchange) as (one, two):
            before = [len(process.missed) for process in (one, two)]
            await exchange.disrupt()
            for process, count in zip((one, two), before, strict=True):
                await process.wait_until(lambda process, count=count: len(process.missed) > count)  # type: ignore[misc]
                await process.wait_for_own_heartbeat()
                # Of its own numbers, for those of the other may also be missing because they were not heard.
                await process.wait_until(lambda process: skipped_numbers(process, process.bus.publisher))
            one.bus.publish(delivery(5))
            two.bus.publish(delivery(6))
            await two.wait_until(lambda process: 5 in log_numbers(process))
            await one.wait_until(lambda process: 6 in log_numbers(process))

    async def test_rebuild_reconnects_one_process(self, exchange: Exchange) -> None:
        """`rebuild` replaces the connection of this process, skips a number, and does not affect others."""
        async with bus_processes(exchange) as (one, two):
            # Only after one number of a publisher can a skipped one be noticed.
            await two.wait_until(lambda process: process.numbered(one.bus.publisher))
            untouched, before = len(two.missed), len(one.missed)
            one.bus.rebuild()
            await one.wait_until(lambda process: len(process.missed) > before)
            await one.wait_for_own_heartbeat()
            await two.wait_until(lambda process: skipped_numbers(process, one.bus.publisher))
            two.bus.publish(delivery(5))
            await one.wait_until(lambda process: 5 in log_numbers(process))
            assert len(two.missed) == untouched

    async def test_rebuild_without_a_connection_skips_a_number(self, exchange: Exchange) -> None:
        """A commit of unknown outcome before the first connection leaves a gap that others see after it."""
        one = BusProcess(exchange.bus())
        one.bus.rebuild()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.run)
            await one.wait_for_own_heartbeat()
            assert one.numbered(one.bus.publisher)[0].number == 2
            nursery.cancel_scope.cancel()

    async def test_the_last_signals_of_an_ending_process_arrive(self, exchange: Exchange) -> None:
        """An ending process sends its signals and a last envelope, so no other waits for its silence."""
        async with bus_processes(exchange, 1) as (two,):
            async with bus_processes(exchange, 1) as (one,):
                one.bus.publish(delivery(1))
            await two.wait_until(lambda process: log_numbers(process) == [1])
            await two.wait_until(lambda process: process.numbered(one.bus.publisher)[-1].is_last)

    async def test_a_user_can_be_followed_again(self, exchange: Exchange) -> None:
        """Signals arrive for a user who is followed again; repeating either call changes nothing."""
        async with bus_processes(exchange) as (one, two):
            for user_id in AUDIENCE * 2:
                two.bus.unfollow(user_id)
            for user_id in AUDIENCE * 2:
                await two.bus.follow(user_id)
            one.bus.publish(delivery(1))
            await two.wait_until(lambda process: log_numbers(process) == [1])

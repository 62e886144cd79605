"""The one suite that every bus passes: what `messaging_core.ports.Bus` says, a rule a test.

A bus's own test module derives from `BusContract` and says how several of them are connected:

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
from typing import Protocol

import trio
from attrs import define, evolve, field

from messaging_core.effects import CloseSockets, Deliver
from messaging_core.events import ChatCreated, Event, MessageCreated, MessageDeleted, MessageUpdated
from messaging_core.fanout import announce
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.liveness import Liveness
from messaging_core.models import Chat, Member, Message, MessageType, Role
from messaging_core.ports import Bus
from messaging_core.signals import Envelope, Reference, Signal

PATIENCE = 20
"""Seconds after which what should have happened has not."""
AUDIENCE = (UserId(1), UserId(2))


class Exchange(Protocol):
    """What the buses of several processes are connected through."""

    def bus(self) -> Bus:
        """The bus of one more process, not running yet."""

    async def disrupt(self) -> None:
        """End the connections of all, as a broker's restart does; they may come back."""


@define(eq=False)
class Ear:
    """A process that only sends and receives signals."""

    bus: Bus
    envelopes: list[Envelope] = field(factory=list)
    missed: list[str] = field(factory=list)
    _changed: trio.Event = field(factory=trio.Event)

    @property
    def signals(self) -> list[Signal]:
        return [signal for envelope in self.envelopes for signal in envelope.signals]

    def told(self, publisher: str) -> list[Envelope]:
        """The numbered envelopes of a publisher."""
        return [e for e in self.envelopes if e.publisher == publisher and e.number is not None]

    async def until(self, holds: Callable[["Ear"], object]) -> None:
        """Wait until this is true."""
        with trio.move_on_after(PATIENCE) as waiting:
            while not holds(self):
                await self._changed.wait()
        assert not waiting.cancelled_caught, f"it has heard {self.signals[-20:]}, and missed {self.missed}"

    async def hears_itself(self) -> None:
        """Wait until something that it sends from now on has come back."""
        since = trio.current_time()
        await self.until(lambda ear: any(e.sent_at > since for e in ear.told(self.bus.publisher)))

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
async def ears(exchange: Exchange, count: int = 2) -> AsyncIterator[Sequence[Ear]]:
    """So many processes, each of which hears itself, and signals for the audience of these tests."""
    listening = [Ear(exchange.bus()) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        for ear in listening:
            nursery.start_soon(ear.run)
        for ear in listening:
            await ear.hears_itself()
            for user_id in AUDIENCE:
                await ear.bus.follow(user_id)
        yield listening
        nursery.cancel_scope.cancel()


NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
MEMBERS = tuple(Member(user_id, Role.MEMBER, NOW) for user_id in AUDIENCE)
CHAT = Chat(ChatId(5), 'A "group"', True, NOW, MEMBERS, 1, NOW, None)
MESSAGE = Message(
    MessageId(2**53 - 1), CHAT.id, AUDIENCE[0], MessageType.TEXT, "Hello", None, NOW, None, None, None
)


def delivery(number: int, event: Event | None = None, audience: tuple[UserId, ...] = AUDIENCE) -> Deliver:
    """An event of the tests' chat with a number of the log."""
    if event is None:
        event = MessageCreated(evolve(MESSAGE, content=f"number {number}"))
    *_, told = announce(evolve(CHAT, sequence=number - 1), event, now=NOW)
    assert isinstance(told, Deliver)
    return evolve(told, audience=audience)


def numbers(ear: Ear) -> list[int]:
    """The numbers of the log that signals have told of, in their order, each once."""
    told = [
        signal.entry.sequence if isinstance(signal, Deliver) else signal.sequence for signal in events(ear)
    ]
    return list(dict.fromkeys(told))


def events(ear: Ear) -> list[Deliver | Reference]:
    return [signal for signal in ear.signals if not isinstance(signal, CloseSockets)]


class BusContract:
    """Derive, name the class `Test…`, and give it a fixture that returns an `Exchange`."""

    async def test_every_other_process_hears_what_is_rung(self, exchange: Exchange) -> None:
        """Whole, and the one that rang does not."""
        async with ears(exchange, 3) as (one, two, three):
            told = delivery(7)
            one.bus.publish(told)
            for ear in (two, three):
                await ear.until(events)
                assert events(ear) == [told] * len(events(ear))
            await one.hears_itself()
            assert one.signals == []

    async def test_every_kind_of_event_comes_as_it_was(self, exchange: Exchange) -> None:
        """Messages with whatever text and payload, new chats with their members."""
        message = evolve(
            MESSAGE,
            content="\U0001f44b \u2028 \" \\ '; 'לום",
            payload={"a": [1, 2.5, None, True, {"ключ": "\x7f"}], "": {}},
            reply_to_id=MESSAGE.id,
            edited_at=MESSAGE.ts,
            deleted_at=MESSAGE.ts,
        )
        orphan = evolve(message, author_id=None, content=None)
        kinds: list[Event] = [
            ChatCreated(CHAT),
            MessageCreated(message),
            MessageUpdated(orphan),
            MessageDeleted(message),
        ]
        told = [delivery(number, event) for number, event in enumerate(kinds, 1)]
        async with ears(exchange) as (one, two):
            for each in told:
                one.bus.publish(each)
            await two.until(lambda ear: len(numbers(ear)) == len(told))
            assert [
                signal for number, signal in enumerate(events(two)) if signal not in events(two)[:number]
            ] == told

    async def test_signals_of_one_process_come_in_their_order(self, exchange: Exchange) -> None:
        """However many at once."""
        async with ears(exchange) as (one, two):
            for number in range(1, 1001):
                one.bus.publish(delivery(number))
                if number % 100 == 0:
                    await trio.lowlevel.checkpoint()
            await two.until(lambda ear: len(numbers(ear)) == 1000)
            assert numbers(two) == list(range(1, 1001))

    async def test_an_ended_session_reaches_every_process(self, exchange: Exchange) -> None:
        """Whoever is followed there."""
        async with ears(exchange, 3) as (one, two, three):
            for user_id in AUDIENCE:
                two.bus.unfollow(user_id)
            ended = CloseSockets(SessionId(9), "session_revoked")
            one.bus.publish(ended)
            for ear in (two, three):
                await ear.until(lambda ear: ear.signals)
                assert ear.signals == [ended]

    async def test_what_is_too_large_is_referred_to(self, exchange: Exchange) -> None:
        """An event, an audience: it does not fail, and what comes after it comes."""
        large = MessageCreated(evolve(MESSAGE, payload={"a": "x" * 32_000}))
        many = tuple(UserId(2**40 + number) for number in range(20_000))
        async with ears(exchange) as (one, two):
            told = [delivery(1, large), delivery(2, audience=(*AUDIENCE, *many)), delivery(3)]
            for each in told:
                one.bus.publish(each)
            await two.until(lambda ear: len(numbers(ear)) == 3)
            for signal in events(two):
                if isinstance(signal, Reference):
                    assert signal.chat_id == CHAT.id
                    assert signal.audience in (None, AUDIENCE)
                else:
                    assert signal in told

    async def test_heartbeats_come_back_and_leave_no_number_out(self, exchange: Exchange) -> None:
        """As long as nothing goes wrong, nobody takes it that something does."""
        async with ears(exchange) as (one, two):
            seen = {ear.bus.publisher: Liveness(ear.bus.publisher, now=0.0) for ear in (one, two)}
            for number in range(1, 4):
                one.bus.publish(delivery(number))
                await one.hears_itself()
                await two.until(lambda ear, n=number: n in numbers(ear))  # type: ignore[misc]
            before = len(two.told(one.bus.publisher))
            await two.until(lambda ear: len(ear.told(one.bus.publisher)) >= before + 2)
            for ear in (one, two):
                first, *rest = ear.told(one.bus.publisher)
                liveness = seen[ear.bus.publisher]
                liveness.heard(first, now=first.sent_at)
                assert [liveness.heard(envelope, now=envelope.sent_at) for envelope in rest] == [None] * len(
                    rest
                )

    async def test_what_is_rung_before_there_is_a_connection_is_noticed(self, exchange: Exchange) -> None:
        """It arrives, or a number is left out; and publishing never fails, however much it is."""
        async with ears(exchange, 1) as (two,):
            one = Ear(exchange.bus())
            for number in range(1, 30_001):
                one.bus.publish(delivery(number))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.run)
                await one.hears_itself()
                await two.until(lambda ear: ear.told(one.bus.publisher))
                first = two.told(one.bus.publisher)[0].number
                assert first is not None
                assert first > 1 or numbers(two) == list(range(1, 30_001))
                nursery.cancel_scope.cancel()

    async def test_after_a_disruption_signals_come_again(self, exchange: Exchange) -> None:
        """Without anybody's doing; each process is told that it may have missed something."""
        async with ears(exchange) as (one, two):
            before = [len(ear.missed) for ear in (one, two)]
            await exchange.disrupt()
            for ear, count in zip((one, two), before, strict=True):
                await ear.until(lambda ear, count=count: len(ear.missed) > count)  # type: ignore[misc]
                await ear.hears_itself()
            one.bus.publish(delivery(5))
            two.bus.publish(delivery(6))
            await two.until(lambda ear: 5 in numbers(ear))
            await one.until(lambda ear: 6 in numbers(ear))

    async def test_a_connection_is_made_anew_when_it_is_asked_for(self, exchange: Exchange) -> None:
        """As it is by who does not hear its own heartbeats; the others are not touched."""
        async with ears(exchange) as (one, two):
            untouched, before = len(two.missed), len(one.missed)
            one.bus.rebuild()
            await one.until(lambda ear: len(ear.missed) > before)
            await one.hears_itself()
            two.bus.publish(delivery(5))
            await one.until(lambda ear: 5 in numbers(ear))
            assert len(two.missed) == untouched

    async def test_the_last_signals_of_a_process_that_ends_are_heard(self, exchange: Exchange) -> None:
        """The others need not wait for its silence."""
        async with ears(exchange, 1) as (two,):
            async with ears(exchange, 1) as (one,):
                one.bus.publish(delivery(1))
            await two.until(lambda ear: numbers(ear) == [1])
            await two.until(lambda ear: ear.told(one.bus.publisher)[-1].is_last)

    async def test_who_is_followed_again_is_heard_of_again(self, exchange: Exchange) -> None:
        """A user comes, goes and comes; repeating either changes nothing."""
        async with ears(exchange) as (one, two):
            for user_id in AUDIENCE * 2:
                two.bus.unfollow(user_id)
            for user_id in AUDIENCE * 2:
                await two.bus.follow(user_id)
            one.bus.publish(delivery(1))
            await two.until(lambda ear: numbers(ear) == [1])

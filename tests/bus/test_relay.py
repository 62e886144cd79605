"""What a process does about its bus, one rule at a time; on a clock that jumps, over a bus with faults."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.abc import Clock

from adapters.runtime import Hub, Messaging
from adapters.storage_memory import MemoryStorage
from messaging_core.errors import SessionRevoked
from messaging_core.ids import ChatId
from messaging_core.models import Actor
from messaging_core.ports import OutcomeUnknown, StorageUnavailable, Transaction
from messaging_core.testing.memory_bus import Faults, MemoryBroker
from tests.bus.world import LIMITS, NOW, PlainHasher, PlainSigner, Process, processes, token, written

LATE = 2.0
"""Seconds within which what no signal tells of is found: a silence, then a comparison."""


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@asynccontextmanager
async def two(broker: MemoryBroker) -> AsyncIterator[tuple[Process, Process, Actor, Actor, ChatId]]:
    """Two processes, Alice and Bob, and their chat, of which both processes have heard."""
    async with processes(broker.bus) as (here, there):
        alice, bob = await here.register("alice"), await here.register("bob")
        yield here, there, alice, bob, await here.open_chat(alice, bob)


def trouble(process: Process) -> str | None:
    relay = process.messaging.relay
    assert relay is not None
    return relay.trouble


async def test_a_message_reaches_every_socket_on_every_process_once(
    broker: MemoryBroker, autojump_clock: Clock
) -> None:
    """The author's own as well, wherever they are."""
    async with (
        two(broker) as (here, there, alice, bob, chat),
        here.socket(alice) as alices,
        there.socket(alice) as alices_other,
        there.socket(bob) as bobs,
    ):
        for process, author in ((here, alice), (there, alice), (there, bob)):
            await process.send(author, chat)
        for socket in (alices, alices_other, bobs):
            await socket.until(lambda socket: socket.messages() == [1, 2, 3])
        await trio.sleep(LATE)
        assert bobs.messages() == [1, 2, 3]
        assert there.messaging.relay is not None
        assert there.messaging.relay.counts.from_log == 0


async def test_events_of_one_chat_leave_in_the_order_of_its_log(
    broker: MemoryBroker, autojump_clock: Clock
) -> None:
    """Whichever process commits them and however late its signal is; what is early waits for what is late."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        broker.faults = Faults(delay=0.01)
        for number in range(40):
            await (here if number % 3 else there).send(alice, chat)
        await bobs.until(lambda socket: socket.messages() == list(range(1, 41)))


async def test_what_a_killed_process_could_not_ring_for_is_found(
    broker: MemoryBroker, autojump_clock: Clock
) -> None:
    """It was committed, perhaps answered; its silence has the others look."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        here.bus.kill()
        await here.send(alice, chat)
        await bobs.until(lambda socket: socket.messages() == [1], within=LATE)


async def test_what_was_committed_without_anybody_knowing_is_found(
    broker: MemoryBroker, autojump_clock: Clock
) -> None:
    """By every process, though its bus was never lost: and a session that ended so is over everywhere."""
    async with (
        two(broker) as (here, there, alice, bob, chat),
        here.socket(alice) as alices,
        there.socket(bob) as bobs,
        there.socket(alice) as alices_other,
    ):
        storage = here.messaging._storage
        transact_well = storage.transact

        async def transact(operation: Callable[[Transaction], object], **_: object) -> None:
            await transact_well(operation)
            raise OutcomeUnknown

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(storage, "transact", transact)
            with pytest.raises(OutcomeUnknown):
                await here.send(bob, chat)
            for socket in (alices, bobs):
                await socket.until(lambda socket: socket.messages() == [1], within=LATE)
            with pytest.raises(OutcomeUnknown):
                await here.log_out(alice)
        await alices_other.until(lambda socket: socket.closed == "1008 session_revoked", within=LATE)
        for process in (here, there):
            with pytest.raises(SessionRevoked):
                await process.messaging.authenticate(token(alice))


async def test_a_lost_signal_shows_by_the_next_heartbeat(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """Nothing else needs to happen in the chat, or at all."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        broker.faults = Faults(loss=1.0)
        await here.send(alice, chat)
        await trio.sleep(0.01)
        broker.faults = Faults()
        await bobs.until(lambda socket: socket.messages() == [1], within=LATE)


async def test_a_new_chat_whose_signal_is_lost_is_found(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """With all that was said in it; and what is found early is no news to who comes late."""
    async with two(broker) as (here, there, alice, bob, _), there.socket(bob) as bobs:
        broker.faults = Faults(loss=1.0)
        chat = await here.open_group(alice, bob)
        for _ in range(250):  # more than is read in one go
            await here.send(alice, chat)
        await trio.sleep(0.01)
        broker.faults = Faults()
        await bobs.until(lambda socket: socket.messages() == list(range(1, 251)), within=LATE)
        async with there.socket(bob) as late:
            await here.send(alice, chat)
            await late.until(lambda socket: socket.messages() == [251])


@pytest.mark.parametrize("referring", [1.0, 0.0])
async def test_what_is_too_large_for_a_signal_is_read_from_the_log(
    broker: MemoryBroker, referring: float, autojump_clock: Clock
) -> None:
    """New chats too, whose members are looked up; strangers' are left alone."""
    broker.faults = Faults(referring=referring)
    async with two(broker) as (here, there, alice, bob, _), there.socket(bob) as bobs:
        carol = await here.register("carol")
        for _ in range(5):
            await here.send(alice, await here.open_chat(alice, carol))
            await here.send(alice, await here.open_group(alice, bob))
        await bobs.until(lambda socket: sorted(socket.messages()) == [2, 4, 6, 8, 10], within=LATE)


async def test_what_is_told_late_is_told_as_it_is_now(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """A text that was taken back is not told after that."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        broker.faults = Faults(loss=1.0)
        first, second = await here.send(alice, chat, "a secret"), await here.send(alice, chat, "a tpyo")
        await here.delete(alice, first.id)
        await here.edit(alice, second.id, "a typo")
        await trio.sleep(0.01)
        broker.faults = Faults()
        await bobs.until(lambda socket: len(socket.told) == 4, within=LATE)
        assert bobs.told == [
            ("message.created", chat, first.id, "None"),
            ("message.created", chat, second.id, "a typo"),
            ("message.updated", chat, first.id, "None"),
            ("message.updated", chat, second.id, "a typo"),
        ]


async def test_without_a_bus_things_go_on_slower(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """Sockets here hear at once, those elsewhere within seconds; the operator is told so while it lasts."""
    async with (
        two(broker) as (here, there, alice, bob, chat),
        here.socket(alice) as alices,
        there.socket(bob) as bobs,
    ):
        broker.faults = Faults(is_down=True)
        await broker.disrupt()
        await trio.sleep(LATE)
        assert trouble(there) is not None
        for number in range(1, 4):
            await here.send(alice, chat)
            await alices.until(lambda socket, n=number: socket.messages()[-1:] == [n], within=0.01)  # type: ignore[misc]
            await bobs.until(lambda socket, n=number: socket.messages()[-1:] == [n], within=LATE)  # type: ignore[misc]
        # Beyond what others have committed it takes a look at the log.
        await there.send(bob, chat)
        await here.send(alice, chat)
        await alices.until(lambda socket: socket.messages() == [1, 2, 3, 4, 5], within=0.01)
        broker.faults = Faults()
        await here.heard()
        await there.heard()
        assert trouble(there) is None
        await bobs.until(lambda socket: socket.messages() == [1, 2, 3, 4, 5], within=LATE)


async def test_a_deaf_subscription_is_built_anew(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """Its connection says that it is well; its own heartbeats, which do not come back, say otherwise."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        there.bus.is_deaf = True
        await here.send(alice, chat)
        await bobs.until(lambda socket: socket.messages() == [1], within=LATE)
        await trio.sleep(2 * LATE)
        await there.heard()
        assert there.bus.is_deaf is False


# --- sessions -----------------------------------------------------------------------------------------------


async def refused(process: Process, actor: Actor) -> None:
    with pytest.raises(SessionRevoked):
        await process.messaging.authenticate(token(actor))


async def test_a_session_that_ends_elsewhere_ends_here(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """Its sockets close with 1008, its known tokens are refused."""
    async with two(broker) as (here, there, _, bob, _), there.socket(bob) as bobs:
        assert await there.messaging.authenticate(token(bob)) == bob
        await here.log_out(bob)
        await bobs.until(lambda socket: socket.closed == "1008 session_revoked")
        await refused(there, bob)


def nothing(broker: MemoryBroker, here: Process, there: Process) -> None:
    """What goes wrong in the test below: the signal is lost."""
    broker.faults = Faults(loss=1.0)


def outage(broker: MemoryBroker, here: Process, there: Process) -> None:
    broker.faults = Faults(is_down=True)
    here.bus.rebuild()
    there.bus.rebuild()


def death(broker: MemoryBroker, here: Process, there: Process) -> None:
    here.bus.kill()


def deafness(broker: MemoryBroker, here: Process, there: Process) -> None:
    there.bus.is_deaf = True


def slowness(broker: MemoryBroker, here: Process, there: Process) -> None:
    broker.faults = Faults(delay=30.0)


@pytest.mark.parametrize("fault", [nothing, outage, death, deafness, slowness])
@pytest.mark.parametrize("lasts", [0.01, 10.0])
async def test_its_tokens_are_refused_within_a_second_whatever_the_bus_does(
    broker: MemoryBroker,
    fault: Callable[[MemoryBroker, Process, Process], None],
    lasts: float,
    autojump_clock: Clock,
) -> None:
    """For a moment or for good."""
    async with two(broker) as (here, there, _, bob, _), there.socket(bob) as bobs:
        assert await there.messaging.authenticate(token(bob)) == bob
        fault(broker, here, there)
        await here.log_out(bob)
        with trio.move_on_after(lasts):
            await trio.sleep(1.0)
            await refused(there, bob)
            await trio.sleep_forever()
        if lasts < 1:
            broker.faults = Faults()
            await trio.sleep(1.0 - lasts)
            await refused(there, bob)
        await bobs.until(lambda socket: socket.closed == "1008 session_revoked", within=LATE)


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_session_that_ends_while_its_socket_is_let_in_closes_it(
    broker: MemoryBroker, elsewhere: bool, monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    """After it was looked at, and before there was a socket to close."""
    async with two(broker) as (here, there, _, bob, _):
        read = there.messaging.read

        async def read_and_end(query: Any) -> Any:
            found = await read(query)
            monkeypatch.setattr(there.messaging, "read", read)
            await (here if elsewhere else there).log_out(bob)
            await trio.sleep(LATE)  # until the signal has been heard, on a clock that jumps
            return found

        monkeypatch.setattr(there.messaging, "read", read_and_end)
        async with there.socket(bob) as bobs:
            await bobs.until(lambda socket: socket.closed == "1008 session_revoked", within=0.01)


async def test_a_known_token_costs_no_look_at_the_storage_while_the_bus_is_heard(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    """And each time one while it is not."""
    async with two(broker) as (here, _, alice, _, _):
        reads = 0
        read = here.messaging.read

        async def counted(query: Any) -> Any:
            nonlocal reads
            reads += 1
            return await read(query)

        monkeypatch.setattr(here.messaging, "read", counted)
        await here.messaging.authenticate(token(alice))
        before = reads
        await here.messaging.authenticate(token(alice))
        assert reads == before
        broker.faults = Faults(is_down=True)
        await broker.disrupt()
        await trio.sleep(LATE)
        before = reads
        await here.messaging.authenticate(token(alice))
        assert reads == before + 1


# --- faults of ours and of the storage ----------------------------------------------------------------------


async def test_catching_up_outlives_the_storages_faults(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    """What could not be read is read later."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        errors: list[Exception] = [StorageUnavailable("gone"), ValueError("a bug")]
        read = MemoryStorage.read

        async def faulty(storage: MemoryStorage, query: Any) -> Any:
            if errors:
                raise errors.pop()
            return await read(storage, query)

        broker.faults = Faults(loss=1.0)
        await here.send(alice, chat)
        await trio.sleep(0.01)
        broker.faults = Faults()
        monkeypatch.setattr(MemoryStorage, "read", faulty)
        await bobs.until(lambda socket: socket.messages() == [1], within=3 * LATE)
        assert not errors


async def test_a_socket_that_cannot_be_admitted_leaves_nothing_behind(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    """The storage fails while its chats are read; the next attempt succeeds, and hears."""
    async with two(broker) as (here, there, alice, bob, chat):

        async def broken(storage: MemoryStorage, query: Any) -> Any:
            await here.send(alice, chat)
            raise StorageUnavailable("gone")

        with monkeypatch.context() as patch:
            patch.setattr(MemoryStorage, "read", broken)
            with pytest.raises(StorageUnavailable):
                await there.connect(bob)
        assert len(there.messaging.hub) == 0
        async with there.socket(bob) as bobs:
            await here.send(alice, chat)
            await bobs.until(lambda socket: socket.messages() == [2])


async def test_chats_of_those_who_left_are_forgotten(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """At the next comparison; memory follows the people who are here."""
    async with two(broker) as (_, there, alice, bob, chat):
        relay = there.messaging.relay
        assert relay is not None
        async with there.socket(bob), there.socket(alice):
            assert list(relay._following.sequences.positions) == [chat]
        assert list(relay._following.settled) == []
        relay.compare_soon()
        await trio.sleep(1)
        assert list(relay._following.sequences.positions) == []


async def test_one_process_alone_takes_no_detour(autojump_clock: Clock) -> None:
    """Without a bus an event goes from its commit to the hub."""
    hub = Hub(LIMITS, written)
    messaging = Messaging(
        storage=MemoryStorage(),
        hub=hub,
        signer=PlainSigner(),
        hasher=PlainHasher(),
        limits=LIMITS,
        now=lambda: NOW,
    )
    assert messaging.relay is None
    assert messaging._deliver == hub.deliver
    assert hub.gone is None

"""The rules of the relay, on an autojump clock and over a bus with faults."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import trio
from attrs import evolve
from trio.abc import Clock

from adapters.runtime import Hub
from adapters.runtime.messaging import SWEEP_SECONDS
from adapters.storage_memory import MemoryStorage
from messaging_core.errors import SessionRevoked
from messaging_core.ids import SessionId
from messaging_core.models import IdempotencyKey, StoredResponse
from messaging_core.ports import FORGOTTEN_AT_ONCE, OutcomeUnknown, StorageUnavailable, Transaction
from messaging_core.testing.memory_bus import Faults, MemoryBroker
from tests.bus.world import (
    LATE,
    LIMITS,
    NOW,
    TYPISTS,
    plain_messaging,
    start,
    token,
    trouble,
    two,
    written,
)


async def test_a_message_reaches_every_socket_on_every_process_once(
    broker: MemoryBroker, autojump_clock: Clock
) -> None:
    """All sockets of all members receive a message once, the author's own included."""
    async with (
        two(broker) as (here, there, alice, bob, chat),
        here.socket(alice) as alices,
        there.socket(alice) as alices_other,
        there.socket(bob) as bobs,
    ):
        for process, author in ((here, alice), (there, alice), (there, bob)):
            await process.send(author, chat)
        for socket in (alices, alices_other, bobs):
            await socket.wait_until(lambda socket: socket.messages() == [1, 2, 3])
        await trio.sleep(LATE)
        assert bobs.messages() == [1, 2, 3]
        assert there.messaging.relay is not None
        assert there.messaging.relay.counts.from_log == 0


async def test_an_ephemeral_event_reaches_every_process_and_no_log(
    broker: MemoryBroker, autojump_clock: Clock
) -> None:
    """An ephemeral event of a decision reaches the others on every process, and is in no log."""
    async with (
        two(broker) as (here, there, alice, bob, chat),
        here.socket(alice, TYPISTS) as alices,
        here.socket(bob, TYPISTS) as bobs_here,
        there.socket(bob, TYPISTS) as bobs,
        there.socket(bob) as plain,
    ):
        await here.type(alice, chat)
        for socket in (bobs_here, bobs):
            await socket.wait_until(lambda socket: socket.events == [("typing", chat, alice.user_id, "True")])
        assert alices.events == []
        for process in (here, there):
            assert process.messaging.typists.of_chat(chat, process.messaging.now()) == (alice.user_id,)
        await here.send(alice, chat)
        broker.faults.loss = 1.0
        await here.type(alice, chat)
        await trio.sleep(LATE)
        broker.faults.loss = 0.0
        await trio.sleep(LATE)
        assert len(bobs_here.events) == 2, "the one of this process is not lost"
        assert len(bobs.events) == 1, "no log has it, so it is lost with its signal"
        assert plain.messages() == [1]


async def test_events_of_one_chat_leave_in_the_order_of_its_log(
    broker: MemoryBroker, autojump_clock: Clock
) -> None:
    """Events leave in log order, whichever process commits and however late a signal is; later ones wait."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        broker.faults = Faults(delay=0.01)
        for number in range(40):
            await (here if number % 3 else there).send(alice, chat)
        await bobs.wait_until(lambda socket: socket.messages() == list(range(1, 41)))


async def test_a_commit_of_a_killed_process_is_found(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """The silence of a killed process makes the others compare, and so they find its unsignalled commit."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        here.bus.kill()
        await here.send(alice, chat)
        await bobs.wait_until(lambda socket: socket.messages() == [1], within=LATE)


async def test_a_commit_with_an_unknown_outcome_is_found(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """Every process finds events and ended sessions of a commit whose outcome its process does not know."""
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
                await socket.wait_until(lambda socket: socket.messages() == [1], within=LATE)
            with pytest.raises(OutcomeUnknown):
                await here.log_out(alice)
        await alices_other.wait_until(lambda socket: socket.closed == "1008 session_revoked", within=LATE)
        for process in (here, there):
            with pytest.raises(SessionRevoked):
                await process.messaging.authenticate(token(alice))


async def test_the_next_heartbeat_reveals_a_lost_signal(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """A lost signal is found without another event in the chat."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        broker.faults = Faults(loss=1.0)
        await here.send(alice, chat)
        await trio.sleep(0.01)
        broker.faults = Faults()
        await bobs.wait_until(lambda socket: socket.messages() == [1], within=LATE)


@pytest.mark.parametrize("is_new", [False, True], ids=["a chat that is followed", "a new chat"])
async def test_the_regular_comparison_finds_what_an_unnumbered_signal_lost(
    broker: MemoryBroker, is_new: bool, monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    """A lost signal that leaves no gap in the numbers is found within `SWEEP_SECONDS`, and not earlier."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        carry = MemoryBroker.carry
        with monkeypatch.context() as patch:
            patch.setattr(
                MemoryBroker, "carry", lambda self, envelope: carry(self, evolve(envelope, signals=()))
            )
            await here.send(alice, await here.open_group(alice, bob) if is_new else chat)
            await trio.sleep(LATE)
            assert bobs.messages() == []
        await bobs.wait_until(lambda socket: socket.messages() == [1], within=SWEEP_SECONDS + LATE)


async def test_comparisons_pause_between_two(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """A bus that keeps losing signals causes at most one comparison in `COMPARISON_PAUSE_SECONDS`."""
    async with two(broker) as (here, _, _, _, _):
        relay = here.messaging.relay
        assert relay is not None
        before = relay.counts.comparisons
        for _ in range(1000):
            relay.compare_soon()
            await trio.sleep(0.001)
        assert 9 <= relay.counts.comparisons - before <= 11
        await trio.sleep(LATE)
        before = relay.counts.comparisons
        relay.compare_soon()
        await trio.sleep(0.001)
        assert relay.counts.comparisons == before + 1, "the first one after a pause is at once"


async def test_a_new_chat_whose_signal_is_lost_is_found(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """All events of the chat are found; a socket that opens later does not receive them."""
    async with two(broker) as (here, there, alice, bob, _), there.socket(bob) as bobs:
        broker.faults = Faults(loss=1.0)
        chat = await here.open_group(alice, bob)
        for _ in range(250):  # more than one query reads
            await here.send(alice, chat)
        await trio.sleep(0.01)
        broker.faults = Faults()
        await bobs.wait_until(lambda socket: socket.messages() == list(range(1, 251)), within=LATE)
        async with there.socket(bob) as late:
            await here.send(alice, chat)
            await late.wait_until(lambda socket: socket.messages() == [251])


# --- references, replay, outages ----------------------------------------------------------------------------


@pytest.mark.parametrize("reference", [1.0, 0.0])
async def test_a_referenced_event_is_read_from_the_log(
    broker: MemoryBroker, reference: float, autojump_clock: Clock
) -> None:
    """An event that arrives as a reference is read from the log, unless none of its members is here."""
    broker.faults = Faults(reference=reference)
    async with two(broker) as (here, there, alice, bob, _), there.socket(bob) as bobs:
        carol = await here.register("carol")
        for _ in range(5):
            await here.send(alice, await here.open_chat(alice, carol))
            await here.send(alice, await here.open_group(alice, bob))
        await bobs.wait_until(lambda socket: sorted(socket.messages()) == [2, 4, 6, 8, 10], within=LATE)


async def test_a_replayed_event_has_the_current_state(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """A replay shows a message as it is now, so an edited or deleted text is not sent."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        broker.faults = Faults(loss=1.0)
        first, second = await here.send(alice, chat, "a secret"), await here.send(alice, chat, "a tpyo")
        await here.delete(alice, first.id)
        await here.edit(alice, second.id, "a typo")
        await trio.sleep(0.01)
        broker.faults = Faults()
        await bobs.wait_until(lambda socket: len(socket.events) == 4, within=LATE)
        assert bobs.events == [
            ("message.created", chat, first.id, "None"),
            ("message.created", chat, second.id, "a typo"),
            ("message.updated", chat, first.id, "None"),
            ("message.updated", chat, second.id, "a typo"),
        ]


async def test_without_a_bus_events_arrive_by_polling(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """Sockets of the same process receive at once, others within seconds; `trouble` reports the outage."""
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
            await alices.wait_until(lambda socket, n=number: socket.messages()[-1:] == [n], within=0.01)  # type: ignore[misc]
            await bobs.wait_until(lambda socket, n=number: socket.messages()[-1:] == [n], within=LATE)  # type: ignore[misc]
        # To deliver after another process's commit, a process must read the log.
        await there.send(bob, chat)
        await here.send(alice, chat)
        await alices.wait_until(lambda socket: socket.messages() == [1, 2, 3, 4, 5], within=0.01)
        broker.faults = Faults()
        await here.wait_for_bus()
        await there.wait_for_bus()
        assert trouble(there) is None
        await bobs.wait_until(lambda socket: socket.messages() == [1, 2, 3, 4, 5], within=LATE)


async def test_a_deaf_subscription_is_built_anew(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """A process whose own heartbeats do not come back rebuilds its subscription, although it is connected."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        there.bus.is_deaf = True
        await here.send(alice, chat)
        await bobs.wait_until(lambda socket: socket.messages() == [1], within=LATE)
        await trio.sleep(2 * LATE)
        await there.wait_for_bus()
        assert there.bus.is_deaf is False


# --- faults of the storage, and our own ---------------------------------------------------------------------


async def test_catching_up_outlives_the_storages_faults(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    """After an error of the storage, or a bug, the relay reads again, and the bus keeps its connection."""
    async with two(broker) as (here, there, alice, bob, chat), there.socket(bob) as bobs:
        monkeypatch.setattr(there.bus, "rebuild", lambda: pytest.fail("the bus was rebuilt"))
        connection = there.bus._nursery
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
        await bobs.wait_until(lambda socket: socket.messages() == [1], within=3 * LATE)
        assert not errors
        assert there.bus._nursery is connection


async def test_a_socket_that_cannot_be_admitted_leaves_nothing_behind(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    """If the storage fails during an admission, nothing stays registered, and the next attempt succeeds."""
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
            await bobs.wait_until(lambda socket: socket.messages() == [2])


async def test_chats_without_open_sockets_are_dropped(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """A comparison drops the positions of chats whose members have no open socket here."""
    async with two(broker) as (_, there, alice, bob, chat):
        relay = there.messaging.relay
        assert relay is not None
        async with there.socket(bob), there.socket(alice):
            assert list(relay._following.sequences.positions) == [chat]
        assert list(relay._following.settled) == []
        relay.compare_soon()
        await trio.sleep(1)
        assert list(relay._following.sequences.positions) == []


async def test_outlived_responses_and_sessions_are_deleted_at_start(autojump_clock: Clock) -> None:
    """A process that starts deletes what has outlived its use at once, however often it is restarted."""
    storage = MemoryStorage()
    async with trio.open_nursery() as nursery:
        here = start(nursery, storage, None)
        await here.register("alice")
        nursery.cancel_scope.cancel()
    sessions, responses = storage.world._tables.sessions, storage.world._tables.responses
    (session,) = sessions.values()
    old = NOW - timedelta(days=365)
    sessions[SessionId(99)] = evolve(session, id=SessionId(99), expires_at=old)
    for number in range(2 * FORGOTTEN_AT_ONCE + 1):
        key = IdempotencyKey(session.user_id, "POST", "/messages", f"key {number}")
        responses[key] = StoredResponse(key, b"", 201, None, old)
    async with trio.open_nursery() as nursery:
        start(nursery, storage, None)
        await trio.sleep(1)
        assert list(sessions) == [session.id]
        assert responses == {}
        nursery.cancel_scope.cancel()


async def test_a_single_process_delivers_directly(autojump_clock: Clock) -> None:
    """Without a bus an event goes from its commit directly to the hub."""
    hub = Hub(LIMITS, written)
    messaging = plain_messaging(MemoryStorage(), hub)
    assert messaging.relay is None
    assert messaging._deliver == hub.deliver

"""The relay of sessions: a token of an ended session is refused in every process, whatever the bus does."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.abc import Clock

from adapters.storage_memory import MemoryStorage
from messaging_core.errors import SessionRevoked
from messaging_core.models import Actor
from messaging_core.ports import OutcomeUnknown, Transaction
from messaging_core.testing.memory_bus import Faults, MemoryBroker
from tests.bus.world import (
    LATE,
    Process,
    start,
    token,
    two,
)


async def refused(process: Process, actor: Actor) -> None:
    with pytest.raises(SessionRevoked):
        await process.messaging.authenticate(token(actor))


async def test_a_session_that_ends_elsewhere_ends_here(broker: MemoryBroker, autojump_clock: Clock) -> None:
    """Its sockets close with 1008, and cached verdicts on its tokens end."""
    async with two(broker) as (here, there, _, bob, _), there.socket(bob) as bobs:
        assert await there.messaging.authenticate(token(bob)) == bob
        await here.log_out(bob)
        await bobs.wait_until(lambda socket: socket.closed == "1008 session_revoked")
        await refused(there, bob)


def lost_signal(broker: MemoryBroker, here: Process, there: Process) -> None:
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


@pytest.mark.parametrize("fault", [lost_signal, outage, death, deafness, slowness])
@pytest.mark.parametrize("lasts", [0.01, 10.0])
async def test_tokens_of_an_ended_session_are_refused_within_a_second_whatever_the_bus_does(
    broker: MemoryBroker,
    fault: Callable[[MemoryBroker, Process, Process], None],
    lasts: float,
    autojump_clock: Clock,
) -> None:
    """Every process refuses the tokens of an ended session after a second, however long the fault lasts."""
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
        await bobs.wait_until(lambda socket: socket.closed == "1008 session_revoked", within=LATE)


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_session_that_ends_during_its_sockets_admission_closes_the_socket(
    broker: MemoryBroker, elsewhere: bool, monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    """A session that ends after its check and before its socket is registered still closes the socket."""
    async with two(broker) as (here, there, _, bob, _):
        read = there.messaging.read

        async def read_and_end(query: Any) -> Any:
            found = await read(query)
            monkeypatch.setattr(there.messaging, "read", read)
            await (here if elsewhere else there).log_out(bob)
            await trio.sleep(LATE)  # until the signal has arrived
            return found

        monkeypatch.setattr(there.messaging, "read", read_and_end)
        async with there.socket(bob) as bobs:
            await bobs.wait_until(lambda socket: socket.closed == "1008 session_revoked", within=0.01)


async def test_a_cached_token_costs_no_read_while_the_bus_is_heard(
    broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, autojump_clock: Clock
) -> None:
    """A verified token costs no read of the storage while the bus works, and one each time otherwise."""
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


async def test_an_unknown_outcome_in_a_single_process_ends_cached_verdicts(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a bus too, a log-out whose outcome was unknown and that was committed ends the token."""
    async with trio.open_nursery() as nursery:
        here = start(nursery, storage := MemoryStorage(), None)
        alice = await here.register("alice")
        assert await here.messaging.authenticate(token(alice)) == alice
        transact_well = storage.transact

        async def transact(operation: Callable[[Transaction], object], **_: object) -> None:
            await transact_well(operation)
            raise OutcomeUnknown

        with monkeypatch.context() as patch:
            patch.setattr(storage, "transact", transact)
            with pytest.raises(OutcomeUnknown):
                await here.log_out(alice)
        await refused(here, alice)
        nursery.cancel_scope.cancel()

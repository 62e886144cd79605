"""The relay of memberships: who receives which events after signals were lost."""

import pytest
import trio
from trio.abc import Clock

from messaging_core.errors import ChatNotFound
from messaging_core.testing.memory_bus import Faults, MemoryBroker
from tests.bus.world import (
    LATE,
    two,
)


@pytest.mark.parametrize("fault", [Faults(), Faults(reference=1.0), Faults(loss=1.0)])
async def test_an_old_chat_is_read_from_the_joining(
    broker: MemoryBroker, fault: Faults, autojump_clock: Clock
) -> None:
    """Who is added to a chat with a long log receives it from there, and the log is read from there too.

    This holds whether the signal arrives whole, as a reference, or not at all.
    """
    async with two(broker) as (here, there, alice, bob, _):
        chat = await here.open_group(alice, await here.register("carol"))
        for _ in range(500):
            await here.send(alice, chat)
        async with there.socket(bob) as bobs:
            assert there.messaging.relay is not None
            before = there.messaging.relay.counts.read
            broker.faults = fault
            await here.add(chat, bob)
            await here.send(alice, chat)
            await trio.sleep(0.01)
            broker.faults = Faults()
            await bobs.wait_until(lambda socket: socket.messages() == [501], within=LATE)
            assert there.delivered_to(bob) == [(chat, 502), (chat, 503)]
            assert there.messaging.relay.counts.read - before <= 2


@pytest.mark.parametrize("fault", [Faults(), Faults(reference=1.0), Faults(loss=1.0)])
async def test_a_removal_is_the_last_thing_that_is_delivered(
    broker: MemoryBroker, fault: Faults, autojump_clock: Clock
) -> None:
    """A removed person receives what was before, their removal, and nothing later, whatever is lost."""
    async with two(broker) as (here, there, alice, bob, _):
        chat = await here.open_group(alice, bob)
        async with there.socket(bob) as bobs, there.socket(alice) as alices:
            broker.faults = fault
            for _ in range(2):
                await here.send(alice, chat)
            await here.remove(chat, bob)
            await here.send(alice, chat)
            await trio.sleep(0.01)
            broker.faults = Faults()
            await alices.wait_until(lambda socket: socket.messages() == [1, 2, 3], within=LATE)
            assert bobs.messages() == [1, 2]
            assert there.delivered_to(bob)[-3:] == [(chat, 2), (chat, 3), (chat, 4)]


async def test_nobody_receives_what_was_sent_before_they_joined(
    broker: MemoryBroker, autojump_clock: Clock
) -> None:
    """Who joins in the same second as a message, which is replayed for another, does not receive it."""
    async with two(broker) as (here, there, alice, bob, _):
        carol = await here.register("carol")
        chat = await here.open_group(alice, bob)
        async with there.socket(bob) as bobs, there.socket(carol) as carols:
            broker.faults = Faults(loss=1.0)
            await here.send(alice, chat, "before")
            await here.add(chat, carol, reads_all=True)
            await here.send(alice, chat, "after")
            await trio.sleep(0.01)
            broker.faults = Faults()
            await bobs.wait_until(lambda socket: socket.messages() == [1, 2], within=LATE)
            assert carols.messages() == [2]


async def test_joining_again_reads_nothing_of_the_time_between(
    broker: MemoryBroker, autojump_clock: Clock
) -> None:
    """A former member who joins again receives the events of both memberships only."""
    async with two(broker) as (here, there, alice, bob, _):
        chat = await here.open_group(alice, bob)
        async with there.socket(bob) as bobs:
            await here.send(alice, chat)
            await here.remove(chat, bob)
            for _ in range(300):
                await here.send(alice, chat)
            await here.add(chat, bob)
            await here.send(alice, chat)
            await bobs.wait_until(lambda socket: socket.messages() == [1, 302], within=LATE)
            assert [number for _, number in there.delivered_to(bob)[-4:]] == [2, 3, 304, 305]
            assert there.messaging.relay is not None
            assert there.messaging.relay.counts.read <= 2


async def test_a_deleted_chat_is_found_although_its_signal_is_lost(
    broker: MemoryBroker, autojump_clock: Clock
) -> None:
    """The deletion is the last thing that its members receive."""
    async with two(broker) as (here, there, alice, bob, _):
        chat = await here.open_group(alice, bob)
        async with there.socket(bob) as bobs:
            broker.faults = Faults(loss=1.0)
            await here.send(alice, chat)
            await here.delete_chat(chat)
            await trio.sleep(0.01)
            broker.faults = Faults()
            await bobs.wait_until(lambda socket: socket.messages() == [1], within=LATE)
            assert there.delivered_to(bob)[-1] == (chat, 3)
            with pytest.raises(ChatNotFound):
                await here.send(alice, chat)

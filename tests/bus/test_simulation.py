"""Simulates minutes of faults between processes, by seed, on an autojump clock.

Every committed event reaches every socket that stays open, once, in the order of its chat.
"""

from random import Random

import pytest
import trio
from attrs import define, field

from messaging_core.ids import ChatId
from messaging_core.models import Actor
from messaging_core.testing.memory_bus import Faults, MemoryBroker
from tests.bus.world import Process, RecordingSocket, SlowStorage, start

PROCESSES = 3
PEOPLE = 6
STEPS = 250
EVENTS = 50
"""At least so many are received; a seed whose first steps deliver fewer takes more steps."""
SEEDS = 15
SETTLING_SECONDS = 6.0
"""Within this time after the last fault every event arrives: a silence, a comparison, a read of the log."""


@define
class Simulation:
    """The processes, users and sockets, and the messages that each socket must receive."""

    random: Random
    broker: MemoryBroker
    storage: SlowStorage
    living: list[tuple[Process, trio.Nursery]] = field(factory=list)
    people: list[Actor] = field(factory=list)
    members: dict[ChatId, frozenset[Actor]] = field(factory=dict)
    sockets: dict[RecordingSocket, tuple[Process, dict[ChatId, list[int]]]] = field(factory=dict)
    closed: list[RecordingSocket] = field(factory=list)
    sent_at: dict[int, float] = field(factory=dict)
    opened_at: dict[RecordingSocket, float] = field(factory=dict)

    async def begin(self, nursery: trio.Nursery) -> None:
        for _ in range(PROCESSES):
            await nursery.start(self.process)
        for number in range(PEOPLE):
            self.people.append(await self.some_process().register(f"person{number}"))

    async def process(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self.living.append((start(nursery, self.storage, self.broker.bus()), nursery))
            task_status.started()

    def some_process(self) -> Process:
        return self.random.choice(self.living)[0]

    # --- the steps ---

    async def step(self, nursery: trio.Nursery) -> None:
        steps, weights = zip(
            *{
                self.message: 20,
                self.burst: 3,
                self.chat: 2,
                self.socket: 6,
                self.leave: 6,
                self.kill: 1,
                self.disrupt: 1,
                self.deafen: 1,
                self.outage: 1,
                self.weather: 3,
                self.compare: 8,
            }.items(),
            strict=True,
        )
        (step,) = self.random.choices(steps, weights)
        await step(nursery)
        await trio.sleep(self.random.choice([0.0, 0.0, 0.001, 0.02, 0.3]))

    async def message(self, nursery: trio.Nursery, process: Process | None = None) -> None:
        if self.members:
            chat_id = self.random.choice(sorted(self.members))
            await self.send(process or self.some_process(), chat_id)

    async def send(self, process: Process, chat_id: ChatId) -> None:
        members = self.members[chat_id]
        author = self.random.choice(sorted(members, key=lambda actor: actor.user_id))
        message = await process.send(author, chat_id)
        self.sent_at[message.id] = trio.current_time()
        for socket, (_, expected) in self.sockets.items():
            if socket.actor in members:
                expected.setdefault(chat_id, []).append(message.id)

    async def burst(self, nursery: trio.Nursery) -> None:
        """Send into one chat from several processes."""
        if self.members:
            chat_id = self.random.choice(sorted(self.members))
            for _ in range(self.random.randrange(2, 30)):
                await self.send(self.some_process(), chat_id)

    async def chat(self, nursery: trio.Nursery) -> None:
        """Create a chat, often with a first message at once."""
        members = self.random.sample(self.people, self.random.randrange(2, PEOPLE))
        process = self.some_process()
        chat_id = await process.open_group(*members)
        self.members[chat_id] = frozenset(members)
        if self.random.random() < 0.5:
            await self.send(self.some_process(), chat_id)

    async def socket(self, nursery: trio.Nursery) -> None:
        process, tasks = self.random.choice(self.living)
        tasks.start_soon(self._open, process, self.random.choice(self.people))

    async def _open(self, process: Process, actor: Actor) -> None:
        began = trio.current_time()
        socket = await process.connect(actor)
        self.opened_at[socket] = began
        self.sockets[socket] = (process, {})

    async def leave(self, nursery: trio.Nursery) -> None:
        if self.sockets:
            socket = self.random.choice(list(self.sockets))
            process, _ = self.sockets.pop(socket)
            process.disconnect(socket)
            self.closed.append(socket)

    async def kill(self, nursery: trio.Nursery) -> None:
        """Kill a process between a commit and its signal, and start another."""
        if len(self.living) == 1:
            return
        dying, tasks = self.random.choice(self.living)
        self.living.remove((dying, tasks))
        for socket in [socket for socket, (process, _) in self.sockets.items() if process is dying]:
            del self.sockets[socket]
            self.closed.append(socket)
        dying.bus.kill()
        await self.message(nursery, dying)
        tasks.cancel_scope.cancel()
        nursery.start_soon(self._replace, nursery, self.random.choice([0.0, 5.0]))

    async def _replace(self, nursery: trio.Nursery, after: float) -> None:
        await trio.sleep(after)
        await nursery.start(self.process)

    async def disrupt(self, nursery: trio.Nursery) -> None:
        await self.broker.disrupt()

    async def deafen(self, nursery: trio.Nursery) -> None:
        self.some_process().bus.is_deaf = True

    async def outage(self, nursery: trio.Nursery) -> None:
        self.broker.faults.is_down = not self.broker.faults.is_down

    async def weather(self, nursery: trio.Nursery) -> None:
        chance = self.random.choice
        self.broker.faults = Faults(
            loss=chance([0, 0.05, 0.5]),
            duplication=chance([0, 0.2]),
            delay=chance([0, 0.01, 0.2, 0.6]),
            reference=chance([0, 0.1, 1]),
        )

    async def compare(self, nursery: trio.Nursery) -> None:
        """Compare with the storage, as every process does each half minute."""
        for process, _ in self.living:
            assert process.messaging.relay is not None
            process.messaging.relay.compare_soon()

    # --- the rules ---

    def event_count(self) -> int:
        """How many events the sockets have received."""
        return sum(len(socket.events) for socket in (*self.sockets, *self.closed))

    def check(self) -> None:
        for process, _ in self.living:
            assert process.messaging.relay is not None
            assert process.messaging.relay.trouble is None
        for socket, (_, expected) in self.sockets.items():
            for chat_id in self.members:
                missing = set(expected.get(chat_id, [])) - set(socket.messages(chat_id))
                assert not missing, f"chat {chat_id} of {socket.actor}: {sorted(missing)} never arrived"
        for socket in (*self.sockets, *self.closed):
            for chat_id in self.members:
                received = socket.messages(chat_id)
                assert received == sorted(set(received)), f"duplicate or out of order: {received}"
            stale = [
                m for m in socket.messages() if self.sent_at[m] < self.opened_at[socket] - SETTLING_SECONDS
            ]
            assert not stale, f"{socket.actor} received events from before its socket opened: {stale}"


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_every_event_arrives_whatever_fails(seed: int, autojump_clock: trio.abc.Clock) -> None:
    """Every event arrives once and in order despite lost, duplicate, late and reordered signals, outages,
    deafness and kills, while sockets open and close.
    """
    random = Random(seed)
    simulation = Simulation(random, MemoryBroker(random), SlowStorage(random))
    async with trio.open_nursery() as nursery:
        await simulation.begin(nursery)
        steps = 0
        while steps < STEPS or simulation.event_count() < EVENTS:
            await simulation.step(nursery)
            steps += 1
            assert steps < 20 * STEPS, "events are not delivered"
        simulation.broker.faults = Faults()
        await trio.sleep(SETTLING_SECONDS)
        simulation.check()
        nursery.cancel_scope.cancel()

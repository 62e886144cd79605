"""A bus between the simulated processes of one test, with the faults of real buses.

The test chooses the faults and the seed; with trio's autojump clock, a minute of faults takes no time.
"""

from collections.abc import Callable
from itertools import count
from random import Random

import trio
from attrs import define, evolve, field

from messaging_core.effects import Deliver, DeliveryEffect
from messaging_core.ids import UserId
from messaging_core.liveness import BEAT_SECONDS
from messaging_core.signals import Envelope, Signal, refer_to


@define
class Faults:
    """The faults of the broker; `loss`, `duplication` and `reference` are probabilities."""

    loss: float = 0.0
    duplication: float = 0.0
    delay: float = 0.0
    """The maximum delay in seconds; each envelope has its own, so that some overtake others."""
    reference: float = 0.0
    """How many events become references, half of them without their audience."""
    is_down: bool = False
    """Whether the broker refuses and ends all connections."""


@define
class MemoryBroker:
    """Connects the buses of a test."""

    random: Random = field(factory=lambda: Random(0))
    faults: Faults = field(factory=Faults)
    _buses: "list[MemoryBus]" = field(factory=list)
    _names: "count[int]" = field(factory=lambda: count(1))

    def bus(self) -> "MemoryBus":
        """The bus of another process."""
        bus = MemoryBus(self, f"process-{next(self._names)}")
        self._buses.append(bus)
        return bus

    async def disrupt(self) -> None:
        """End every connection."""
        for bus in self._buses:
            bus.rebuild()
        await trio.lowlevel.checkpoint()

    def carry(self, envelope: Envelope) -> None:
        signals = tuple(self._carried(signal) for signal in envelope.signals)
        envelope = evolve(envelope, signals=signals)
        for bus in self._buses:
            if not self.faults.is_down and self.random.random() >= self.faults.loss:
                duplicated = self.random.random() < self.faults.duplication
                for _ in range(2 if duplicated else 1):
                    bus.post(envelope, self.random.uniform(0, self.faults.delay))

    def _carried(self, signal: Signal) -> Signal:
        if not isinstance(signal, Deliver) or self.random.random() >= self.faults.reference:
            return signal
        return refer_to(signal, names_audience=self.random.choice([False, True]))


class MemoryBus:
    """A `messaging_core.ports.Bus` for tests; `MemoryBroker.bus` creates it."""

    def __init__(self, broker: MemoryBroker, publisher: str) -> None:
        self._broker = broker
        self._publisher = publisher
        self._numbers = count(1)
        self._waiting: list[Signal] = []
        self._pending = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._heard: Callable[[Envelope], None] = lambda _: None
        self.is_deaf = False
        """Whether it is connected and receives nothing, until it reconnects."""
        self.is_dead = False
        """Whether its process was killed: unsent signals are lost."""

    @property
    def publisher(self) -> str:
        return self._publisher

    def publish(self, effect: DeliveryEffect) -> None:
        if not self.is_dead:
            self._waiting.append(effect)
            self._pending.set()

    async def follow(self, user_id: UserId) -> None:
        await trio.lowlevel.checkpoint()

    def unfollow(self, user_id: UserId) -> None:
        pass

    def rebuild(self) -> None:
        if self._nursery is None:
            next(self._numbers)
        else:
            self._nursery.cancel_scope.cancel()

    def kill(self) -> None:
        """End the process as a power cut does."""
        self.is_dead = True
        self._waiting.clear()
        self.rebuild()

    async def run(self, heard: Callable[[Envelope], None], missed: Callable[[str], None]) -> None:
        self._heard = heard
        try:
            while True:
                if self._broker.faults.is_down or self.is_dead:
                    await trio.sleep(BEAT_SECONDS)
                    continue
                async with trio.open_nursery() as nursery:
                    self.is_deaf = False
                    self._nursery = nursery
                    missed("the bus was connected")
                    await self._send_for_ever()
                self._nursery = None
                next(self._numbers)  # the last envelopes, and signals until the next connection, may be lost
                await trio.lowlevel.checkpoint()
                self._waiting.clear()
        finally:
            self._nursery = None
            self._send(is_last=True)

    def post(self, envelope: Envelope, delay: float) -> None:
        """Receive an envelope after the delay, if the connection still exists then."""
        if self._nursery is not None and not self._nursery.cancel_scope.cancel_called:
            self._nursery.start_soon(self._receive, envelope, delay)

    async def _receive(self, envelope: Envelope, delay: float) -> None:
        await trio.sleep(delay)
        if not self.is_deaf:
            own = envelope.publisher == self._publisher
            self._heard(evolve(envelope, signals=()) if own else envelope)

    async def _send_for_ever(self) -> None:
        while not self._broker.faults.is_down:
            self._send()
            with trio.move_on_after(BEAT_SECONDS):
                await self._pending.wait()

    def _send(self, *, is_last: bool = False) -> None:
        self._pending = trio.Event()
        signals, self._waiting = tuple(self._waiting), []
        if not self.is_dead:
            self._broker.carry(
                Envelope(self._publisher, next(self._numbers), trio.current_time(), signals, is_last)
            )

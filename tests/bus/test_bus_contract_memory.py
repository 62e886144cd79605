"""The bus of the simulation keeps the contract of every bus."""

import pytest
import trio

from messaging_core.ports import Bus
from messaging_core.testing.bus_contract import BusContract, Exchange
from messaging_core.testing.memory_bus import MemoryBroker


class MemoryExchange:
    def __init__(self) -> None:
        self._broker = MemoryBroker()

    def bus(self) -> Bus:
        return self._broker.bus()

    async def disrupt(self) -> None:
        await trio.lowlevel.checkpoint()
        self._broker.disrupt()


class TestMemoryBus(BusContract):
    @pytest.fixture
    def exchange(self) -> Exchange:
        return MemoryExchange()

"""The bus of the simulation keeps the contract of every bus."""

import pytest
import trio

from messaging_core.testing.bus_contract import BusContract, Exchange
from messaging_core.testing.memory_bus import MemoryBroker


class _Exchange(MemoryBroker):
    async def disrupt(self) -> None:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        super().disrupt()


class TestMemoryBus(BusContract):
    @pytest.fixture
    def exchange(self) -> Exchange:
        return _Exchange()

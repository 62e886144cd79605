"""The bus of the simulation passes the suite of every bus."""

import pytest

from messaging_core.testing.bus_contract import BusContract, Exchange
from messaging_core.testing.memory_bus import MemoryBroker


class TestMemoryBus(BusContract):
    @pytest.fixture
    def exchange(self) -> Exchange:
        return MemoryBroker()

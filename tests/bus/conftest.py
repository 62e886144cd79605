"""Fixtures of the tests of several processes."""

import pytest

from messaging_core.testing.memory_bus import MemoryBroker


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()

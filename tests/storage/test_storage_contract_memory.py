"""The memory storage keeps the contract, and with it the `World` that other storages are compared with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from adapters.storage_memory import MemoryStorage
from messaging_core.ports import Storage
from messaging_core.testing.storage_contract import OpenStorage, StorageContract


@asynccontextmanager
async def open_memory_storage() -> AsyncIterator[Storage]:
    yield MemoryStorage()


class TestMemoryStorage(StorageContract):
    programs = 150

    @pytest.fixture
    def open_storage(self) -> OpenStorage:
        return open_memory_storage

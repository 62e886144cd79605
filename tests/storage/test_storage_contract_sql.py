"""SQLite keeps the contract of every storage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from adapters.storage_memory import MemoryStorage
from adapters.storage_sql import open_sqlite
from messaging_core.ports import Storage
from messaging_core.testing.storage_contract import OpenStorage, StorageContract


@asynccontextmanager
async def open_memory_storage() -> AsyncIterator[Storage]:
    yield MemoryStorage()


class TestSqliteStorage(StorageContract):
    programs = 30

    @pytest.fixture
    def open_storage(self, tmp_path: Path) -> OpenStorage:
        numbers = count()
        return lambda: open_sqlite(tmp_path / f"{next(numbers)}.db")

    @pytest.fixture
    def open_model(self) -> OpenStorage:
        return open_memory_storage

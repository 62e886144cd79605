"""SQLite keeps the contract of every storage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.sqlite.storage import SqliteStorage
from messaging_core.ports import Storage
from messaging_core.testing.storage_contract import OpenStorage, StorageContract


class TestSqliteStorage(StorageContract):
    programs = 30

    @pytest.fixture
    def open_storage(self, tmp_path: Path) -> OpenStorage:
        numbers = count()
        return lambda: open_sqlite(tmp_path / f"{next(numbers)}.db")


@asynccontextmanager
async def open_to_read_in_thread(path: Path) -> AsyncIterator[Storage]:
    async with open_sqlite(path) as storage:
        assert isinstance(storage, SqliteStorage)
        storage._reads.budget.seconds = -1
        yield storage


class TestSqliteStorageReadInThread(TestSqliteStorage):
    """A storage of which every read is too long for the event loop, if it needs a statement at all."""

    programs = 10

    @pytest.fixture
    def open_storage(self, tmp_path: Path) -> OpenStorage:
        numbers = count()
        return lambda: open_to_read_in_thread(tmp_path / f"{next(numbers)}.db")

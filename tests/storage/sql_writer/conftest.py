"""Opens a new storage for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.sqlite.storage import SqliteStorage
from tests.storage.sql_writer.writing import prepare


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    async with open_sqlite(tmp_path / "test.db") as storage:
        assert isinstance(storage, SqliteStorage)
        await storage.transact(prepare)
        yield storage

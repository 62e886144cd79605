"""PostgreSQL keeps the contract of every storage."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from adapters.storage_sql.postgresql.config import PostgresqlConfig
from adapters.storage_sql.postgresql.storage import open_postgresql
from messaging_core.ports import Storage
from messaging_core.testing.storage_contract import OpenStorage, StorageContract
from tests.postgresql import empty

PATIENT = PostgresqlConfig(database_time=120)
"""The time of a call on a busy machine, on which thousands of rows are compared."""


class TestPostgresqlStorage(StorageContract):
    programs = 20

    @pytest.fixture
    def open_storage(self, postgresql_tables: str) -> OpenStorage:
        @asynccontextmanager
        async def open_empty() -> AsyncIterator[Storage]:
            empty(postgresql_tables)
            async with open_postgresql(postgresql_tables, PATIENT) as storage:
                yield storage

        return open_empty

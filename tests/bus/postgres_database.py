"""A PostgreSQL database for these tests, which they can disconnect."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest
import trio
from attrs import frozen

SERVER = os.environ.get("MESSAGING_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/")


@frozen
class PostgresDatabase:
    name: str

    @property
    def address(self) -> str:
        return urlsplit(SERVER)._replace(path=f"/{self.name}").geturl()

    async def start(self) -> None:
        """Allow connections again."""
        await trio.to_thread.run_sync(self._allow, "true")

    async def stop(self) -> None:
        """End every connection, and refuse new ones."""
        await trio.to_thread.run_sync(self._allow, "false")
        await self.terminate()

    async def terminate(self) -> None:
        """End every connection, as a restart does."""
        await trio.to_thread.run_sync(self._terminate)

    def _allow(self, connections: str) -> None:
        with psycopg.connect(SERVER, autocommit=True) as server:
            server.execute(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS {connections}')

    def _terminate(self) -> None:
        with psycopg.connect(SERVER, autocommit=True) as server:
            ended = server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self.name]
            ).fetchall()
        assert ended


@contextmanager
def postgres_database() -> Iterator[PostgresDatabase]:
    """A new database, dropped afterwards; skips without a PostgreSQL server."""
    database = PostgresDatabase(f"messaging_bus_test_{os.getpid()}")
    try:
        server = psycopg.connect(SERVER, autocommit=True)
    except psycopg.OperationalError as error:
        pytest.skip(f"no PostgreSQL server: {error}")
    with server:
        server.execute(f'CREATE DATABASE "{database.name}"')
        try:
            yield database
        finally:
            server.execute(f'DROP DATABASE "{database.name}" WITH (FORCE)')

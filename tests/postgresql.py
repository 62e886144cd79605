"""Databases for the tests, on the PostgreSQL server that `MESSAGING_TEST_POSTGRESQL` names.

Without a server, the tests that need one are skipped with a message; in CI that is a failure.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from adapters.storage_sql.postgresql.schema import upgrade_postgresql

SERVER = os.environ.get("MESSAGING_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/")


def connect(address: str = SERVER) -> "psycopg.Connection[Any]":
    """A connection of the test's own, in which every statement commits."""
    try:
        return psycopg.connect(address, autocommit=True, connect_timeout=30)
    except psycopg.OperationalError as error:
        pytest.skip(
            f"no PostgreSQL server, with a role that may create databases: {error}\n"
            "Start one (pg_ctlcluster 15 main start), or name another: "
            "MESSAGING_TEST_POSTGRESQL=postgresql://role:password@host:port/"
        )


def address_of(name: str) -> str:
    return urlsplit(SERVER)._replace(path=f"/{name}").geturl()


@contextmanager
def new_database(name: str, *, options: str = "") -> Iterator[str]:
    """The address of a new, empty database, which is dropped at the end, with its remaining connections."""
    with connect() as server:
        server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        server.execute(f'CREATE DATABASE "{name}" {options}')
        try:
            yield address_of(name)
        finally:
            server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def new_database_with_tables(name: str = "messaging_test") -> Iterator[str]:
    """The address of a new database with the newest schema; its name has this process's id."""
    with new_database(f"{name}_{os.getpid()}") as address:
        upgrade_postgresql(address)
        yield address


def break_all(address: str) -> int:
    """Make the server end every other connection to the database; returns their number."""
    with connect(address) as connection:
        return len(
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND backend_type = 'client backend'"
            ).fetchall()
        )


def empty(address: str) -> None:
    """Delete all rows, and restart the sequences."""
    with connect(address) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        ).fetchall()
        sequences = connection.execute("SELECT sequencename FROM pg_sequences").fetchall()
        with connection.transaction():
            # Faster than TRUNCATE, which creates new files.
            connection.execute("SET LOCAL session_replication_role = replica")
            for (table,) in tables:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            for (sequence,) in sequences:
                connection.execute(sql.SQL("ALTER SEQUENCE {} RESTART").format(sql.Identifier(sequence)))

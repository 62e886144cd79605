"""A database of the tests' own, on the PostgreSQL server that `MESSAGING_TEST_POSTGRESQL` names.

Where none answers the tests that need one are skipped, and say so; in CI that is a failure.
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
    """A connection beside the storage's; every statement is committed at once."""
    try:
        return psycopg.connect(address, autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as error:
        pytest.skip(
            f"no PostgreSQL server, with a role that may create databases: {error}\n"
            "Start one (pg_ctlcluster 15 main start), or name another: "
            "MESSAGING_TEST_POSTGRESQL=postgresql://role:password@host:port/"
        )


def address_of(name: str) -> str:
    return urlsplit(SERVER)._replace(path=f"/{name}").geturl()


@contextmanager
def made(name: str, *, options: str = "") -> Iterator[str]:
    """The address of a new, empty database, which is dropped afterwards with whoever uses it still."""
    with connect() as server:
        server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        server.execute(f'CREATE DATABASE "{name}" {options}')
        try:
            yield address_of(name)
        finally:
            server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def made_with_tables(name: str = "messaging_test") -> Iterator[str]:
    """The same with the newest schema; the name is this process's own."""
    with made(f"{name}_{os.getpid()}") as address:
        upgrade_postgresql(address)
        yield address


def empty(address: str) -> None:
    """Make a database as it was with its tables just made."""
    with connect(address) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
        ).fetchall()
        sequences = connection.execute("SELECT sequencename FROM pg_sequences").fetchall()
        with connection.transaction():
            # Quicker than TRUNCATE, which makes new files.
            connection.execute("SET LOCAL session_replication_role = replica")
            for (table,) in tables:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
            for (sequence,) in sequences:
                connection.execute(sql.SQL("ALTER SEQUENCE {} RESTART").format(sql.Identifier(sequence)))

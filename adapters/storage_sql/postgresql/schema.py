"""The schema of a PostgreSQL database: `messaging migrate` upgrades it, and servers only check it.

Processes of several versions may share a database, so no server upgrades it.
"""

from typing import Any

import psycopg
from sqlalchemy import Connection, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from adapters.storage_sql import schema
from adapters.storage_sql.errors import DatabaseUnusable
from adapters.storage_sql.postgresql.config import PostgresqlConfig
from adapters.storage_sql.postgresql.server import PostgresqlServer, check_server, one_line

UPGRADE_LOCK = 0x6D65_7373_6167_696E
"""The key of the advisory lock that serialises upgrades ("messagin")."""


def upgrade_postgresql(address: str) -> str | None:
    """Upgrade the database to the newest schema, completely or not at all; gives its former revision, if any.

    Safe to repeat, and to run concurrently: the second upgrade waits, and finds nothing to do. Raises
    `DatabaseUnusable`.
    """
    server = PostgresqlServer(address, PostgresqlConfig())
    engine = create_engine(
        "postgresql+psycopg://", creator=server.connect_without_timeouts, poolclass=NullPool
    )
    event.listen(engine, "begin", _wait_for_others)
    try:
        with server.errors_of_opening(), server.connect() as connection:
            check_server(connection, name=server.name)
        return schema.upgrade_with(engine, name=server.name)
    except DBAPIError as error:
        cause = error.orig or error
        raise DatabaseUnusable(
            f"The database {server.name} cannot be upgraded: {one_line(cause)}."
        ) from error


def check_schema(connection: "psycopg.Connection[Any]", *, name: str) -> None:
    """Raise `DatabaseUnusable` unless the database has this version's schema; names the command."""
    (has_table,) = connection.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone() or (
        False,
    )
    found = (
        [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")] if has_table else []
    )
    command = f"messaging migrate --database '{name}'"
    if "***" in name:
        command += " (with the password)"
    schema.check_schema(found[0] if found else None, name=name, command=command)


def _wait_for_others(connection: Connection) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({UPGRADE_LOCK})")

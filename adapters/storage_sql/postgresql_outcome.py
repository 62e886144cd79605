"""What became of a COMMIT whose answer was lost."""

import logging
from threading import Event

import psycopg
from psycopg import errors

from adapters.storage_sql.postgresql_server import Connection, PostgresqlServer
from messaging_core.ports import StorageUnavailable

ASK_EVERY = 0.25
"""Seconds between two questions."""

log = logging.getLogger(__name__)


def find_out(server: PostgresqlServer, number: str, process: int, *, ending: Event) -> bool | None:
    """Whether the transaction of this number has been committed, asked until there is an answer.

    `process` is the server's at the other end of the lost connection. None once `ending` is set. After a
    failover to a standby that has not had the transaction, its number may be another's: only synchronous
    replication keeps what was answered there.
    """
    while True:
        try:
            with server.connect() as connection:
                while (found := _outcome(connection, number, process)) is None:
                    if ending.wait(ASK_EVERY):
                        return None
                return found
        except (psycopg.Error, StorageUnavailable) as error:
            log.warning("The outcome of a COMMIT cannot be asked for yet: %s", error)
            if ending.wait(ASK_EVERY):
                return None


def _outcome(connection: Connection, number: str, process: int) -> bool | None:
    try:
        row = connection.execute("SELECT pg_xact_status(%s::xid8)", (number,)).fetchone()
    except errors.InvalidParameterValue:
        # A number "in the future": the server crashed before it had written down that it gave it.
        return False
    status = row and row[0]
    if status == "in progress":
        # Has the COMMIT not arrived, then it never will: its process need not find out by itself.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s "
            "AND backend_xid = %s::xid8::xid AND wait_event = 'ClientRead'",
            (process, number),
        )
        return None
    return None if status is None else bool(status == "committed")

"""Finds the outcome of a COMMIT whose response was lost.

PostgreSQL gives the status of a transaction by its number (xid), as long as it is the same server without a
crash in between. A server that crashed, or a standby in its place, may not have recorded that it assigned the
number, and assign it to another transaction, whose status then says nothing.
"""

import logging
from enum import Enum
from threading import Event

import psycopg
from attrs import frozen
from psycopg import errors

from adapters.storage_sql.postgresql.server import PostgresqlServer, PsycopgConnection
from messaging_core.ports import StorageUnavailable

RETRY_EVERY = 0.25
"""Seconds between two attempts."""

log = logging.getLogger(__name__)

_SERVER_RUN = """SELECT pg_postmaster_start_time()::text || '/' || coalesce(stats_reset::text, '')
FROM pg_stat_bgwriter"""
"""Changes with each start and each crash: PostgreSQL resets its statistics when it recovers from a crash."""


class CommitOutcome(Enum):
    """How a transaction ended."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    UNKNOWN = "unknown"


@frozen
class Backend:
    """The server's process at the other end of a connection."""

    pid: int
    server_run: str
    """Distinguishes the server from itself after a crash, and from a standby."""

    @classmethod
    def of(cls, connection: PsycopgConnection) -> "Backend":
        """The process of this connection; raises `psycopg.Error`."""
        return cls(connection.info.backend_pid, _server_run(connection))


def find_outcome(
    server: PostgresqlServer, xid: str, backend: Backend, *, ending: Event
) -> CommitOutcome | None:
    """The outcome of the transaction `xid`; retries until the server responds.

    `backend` is the process of the lost connection: if the server has crashed since, a transaction that is
    not known to be rolled back is unknown. Returns None once `ending` is set.
    """
    while True:
        try:
            with server.connect() as connection:
                while (found := _look_up(connection, xid, backend)) is None:
                    if ending.wait(RETRY_EVERY):
                        return None
                return found
        except (psycopg.Error, StorageUnavailable) as error:
            log.warning("The outcome of a COMMIT cannot be looked up yet: %s", error)
            if ending.wait(RETRY_EVERY):
                return None


def _server_run(connection: PsycopgConnection) -> str:
    row = connection.execute(_SERVER_RUN).fetchone()
    return str(row and row[0])


def _look_up(connection: PsycopgConnection, xid: str, backend: Backend) -> CommitOutcome | None:
    same = _server_run(connection) == backend.server_run
    try:
        row = connection.execute("SELECT pg_xact_status(%s::xid8)", (xid,)).fetchone()
    except errors.InvalidParameterValue:
        # A number "in the future": the server crashed before it recorded that it assigned the number.
        return CommitOutcome.ROLLED_BACK
    status = row and row[0]
    if status == "aborted":  # this transaction, or a later one with its number, so this one left no record
        return CommitOutcome.ROLLED_BACK
    if not same:
        return CommitOutcome.UNKNOWN
    if status == "in progress":
        # If the COMMIT has not arrived, it never will: end its backend, which would notice only later.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s "
            "AND backend_xid = %s::xid8::xid AND wait_event = 'ClientRead'",
            (backend.pid, xid),
        )
        return None
    return CommitOutcome.COMMITTED if status == "committed" else None

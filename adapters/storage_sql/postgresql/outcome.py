"""What became of a COMMIT whose answer was lost.

PostgreSQL tells by the transaction's number, as long as it is the same server without a crash in between. One
that crashed, or a standby in its place, may never have written down that it gave the number, and give it to
another transaction: whether *that* was committed says nothing.
"""

import logging
from enum import Enum
from threading import Event

import psycopg
from attrs import frozen
from psycopg import errors

from adapters.storage_sql.postgresql.server import Connection, PostgresqlServer
from messaging_core.ports import StorageUnavailable

ASK_EVERY = 0.25
"""Seconds between two questions."""

log = logging.getLogger(__name__)

_LIFE = """SELECT pg_postmaster_start_time()::text || '/' || coalesce(stats_reset::text, '')
FROM pg_stat_bgwriter"""
"""Another after each start and each crash: PostgreSQL drops its statistics when it recovers from one."""


class Fate(Enum):
    """How a transaction ended."""

    COMMITTED = "committed"
    UNDONE = "not"
    UNKNOWN = "unknown"


@frozen
class Peer:
    """Who was at the other end of a connection."""

    process: int
    life: str
    """What distinguishes the server from itself after a crash, and from a standby."""

    @classmethod
    def of(cls, connection: Connection) -> "Peer":
        """Raises `psycopg.Error`."""
        return cls(connection.info.backend_pid, _life(connection))


def find_out(server: PostgresqlServer, number: str, peer: Peer, *, ending: Event) -> Fate | None:
    """What became of the transaction of this number, asked until there is an answer.

    `peer` was at the other end of the lost connection: where that was before a crash, what is not known to be
    undone is unknown. None once `ending` is set.
    """
    while True:
        try:
            with server.connect() as connection:
                while (found := _fate(connection, number, peer)) is None:
                    if ending.wait(ASK_EVERY):
                        return None
                return found
        except (psycopg.Error, StorageUnavailable) as error:
            log.warning("The outcome of a COMMIT cannot be asked for yet: %s", error)
            if ending.wait(ASK_EVERY):
                return None


def _life(connection: Connection) -> str:
    row = connection.execute(_LIFE).fetchone()
    return str(row and row[0])


def _fate(connection: Connection, number: str, peer: Peer) -> Fate | None:
    same = _life(connection) == peer.life
    try:
        row = connection.execute("SELECT pg_xact_status(%s::xid8)", (number,)).fetchone()
    except errors.InvalidParameterValue:
        # A number "in the future": the server crashed before it had written down that it gave it.
        return Fate.UNDONE
    status = row and row[0]
    if status == "aborted":  # it, or another after it, so that it had never been written down
        return Fate.UNDONE
    if not same:
        return Fate.UNKNOWN
    if status == "in progress":
        # Has the COMMIT not arrived, then it never will: its process need not find out by itself.
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s "
            "AND backend_xid = %s::xid8::xid AND wait_event = 'ClientRead'",
            (peer.process, number),
        )
        return None
    return Fate.COMMITTED if status == "committed" else None

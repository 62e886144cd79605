"""One thread's connection to PostgreSQL, and the transactions on it, one after another.

Each is a pipeline: statements whose results nobody looks at are sent along with the next whose are, and the
last ones with COMMIT. The transaction of a message so waits for the server four times rather than nine, and
as often less for the interpreter. An error in one of them shows at the next look, or at COMMIT.
"""

import os
import socket
from contextlib import AbstractContextManager, suppress
from threading import Lock

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from adapters.storage_sql.postgresql.members import MembersCache, StagedMembers
from adapters.storage_sql.postgresql.outcome import Peer
from adapters.storage_sql.postgresql.server import Connection, PostgresqlServer, is_lost
from adapters.storage_sql.postgresql.transaction import (
    LockStatements,
    PostgresqlReader,
    PostgresqlTransaction,
)
from adapters.storage_sql.statements import Statements

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

NOBODY = Peer(0, "")


class Link:
    """Opened when it is needed, and again when it was lost; used on one thread, but for `cut`."""

    def __init__(
        self,
        server: PostgresqlServer,
        statements: tuple[Statements, LockStatements],
        members: MembersCache,
    ) -> None:
        self._server = server
        self._statements = statements
        self._members = StagedMembers(members)
        self._connection: Connection | None = None
        self._peer = NOBODY
        self._pipeline: AbstractContextManager[object] | None = None
        self._guard = Lock()
        """Held while the connection comes or goes, so that nobody cuts off another's."""

    def begin(self) -> PostgresqlTransaction:
        """Raises `psycopg.Error`, and `StorageUnavailable` where no connection can be had."""
        connection = self._begin(_BEGIN)
        return PostgresqlTransaction(connection, *self._statements, members=self._members)

    def begin_read(self) -> PostgresqlReader:
        """The same for a view of one moment."""
        connection = self._begin(_BEGIN_READ)
        return PostgresqlReader(connection, *self._statements, members=self._members)

    def commit(self) -> None:
        """Raises `psycopg.Error`: where the connection `is_lost` then, nobody knows whether it happened."""
        commit = self._open().execute("COMMIT")
        self._end_pipeline()
        if commit.statusmessage != "COMMIT":
            # PostgreSQL's way to say that a statement had failed before, which the operation kept to itself.
            raise errors.InFailedSqlTransaction(f"COMMIT was answered with {commit.statusmessage}")
        self._members.commit()

    def end_read(self) -> None:
        """End what changes nothing; a connection that is lost meanwhile is opened again when it is needed."""
        try:
            self.commit()
        except psycopg.Error as error:
            self.roll_back(error)

    def roll_back(self, error: BaseException) -> bool:
        """Be ready for the next transaction, after an error; whether the connection was lost."""
        self._members.roll_back()
        connection = self._connection
        if connection is None:
            return False
        lost = isinstance(error, psycopg.Error) and is_lost(connection, error)
        try:
            self._end_pipeline()
        except psycopg.Error as another:  # of a statement that nobody has looked at
            lost = lost or is_lost(connection, another)
        if not lost and connection.info.transaction_status != TransactionStatus.IDLE:
            try:
                connection.execute("ROLLBACK")
            except psycopg.Error:
                lost = True
        if lost:
            self.forget()
        return lost

    def is_lost(self, error: psycopg.Error) -> bool:
        return self._connection is None or is_lost(self._connection, error)

    def forget(self) -> Peer:
        """Let go of the connection; who was at its other end."""
        self._members.roll_back()
        with self._guard:
            connection, self._connection, self._pipeline = self._connection, None, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()
        return self._peer

    def cut(self) -> None:
        """Have what waits for the server fail at once, for a server that has stopped answering."""
        with self._guard:
            connection = self._connection
            if connection is None or connection.closed:
                return
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as peer:
                peer.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.forget()

    def _begin(self, statement: str) -> Connection:
        connection = self._open()
        self._pipeline = connection.pipeline()
        self._pipeline.__enter__()
        connection.execute(statement)
        return connection

    def _end_pipeline(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.__exit__(None, None, None)

    def _open(self) -> Connection:
        connection = self._connection
        if connection is None:
            connection = self._server.connect()
            self._peer = _peer(connection)
            with self._guard:
                self._connection = connection
        return connection


def _peer(connection: Connection) -> Peer:
    """Who is at the other end of a new connection; it is closed where that cannot be found out."""
    try:
        return Peer.of(connection)
    except BaseException:
        connection.close()
        raise

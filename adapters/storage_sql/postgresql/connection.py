"""One thread's connection to PostgreSQL, and the transactions on it, one after another.

Each transaction is a pipeline: statements whose results are not read are sent with the next statement whose
result is read, and the last ones with COMMIT. So the transaction of a message waits for the server four times
instead of nine, and for the interpreter's lock as much less often. An error in such a statement is raised by
the next read, or by COMMIT.
"""

import os
import socket
from contextlib import AbstractContextManager, suppress
from threading import Lock

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from adapters.storage_sql.postgresql.commit_outcome import Backend
from adapters.storage_sql.postgresql.incarnation import Incarnation
from adapters.storage_sql.postgresql.members import MembersCache, StagedMembers
from adapters.storage_sql.postgresql.server import PostgresqlServer, PsycopgConnection, is_lost
from adapters.storage_sql.postgresql.transaction import (
    LockStatements,
    PostgresqlReader,
    PostgresqlTransaction,
)
from adapters.storage_sql.statements import Statements

_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

NO_BACKEND = Backend(0, "")


class PostgresqlConnection:
    """Opens when needed, and reopens after it was lost; used on one thread, except for `abort`."""

    def __init__(
        self,
        server: PostgresqlServer,
        statements: tuple[Statements, LockStatements],
        members: MembersCache,
        incarnation: Incarnation,
    ) -> None:
        self._server = server
        self._incarnation = incarnation
        self._statements = statements
        self._members = StagedMembers(members)
        self._connection: PsycopgConnection | None = None
        self._backend = NO_BACKEND
        self._pipeline: AbstractContextManager[object] | None = None
        self._open_lock = Lock()
        """Held while the connection changes, so that `abort` cannot shut down a reused file descriptor."""

    def begin(self) -> PostgresqlTransaction:
        """Begin a transaction; raises `psycopg.Error`, and `StorageUnavailable` if it cannot connect."""
        connection = self._begin(_BEGIN)
        return PostgresqlTransaction(connection, *self._statements, members=self._members)

    def begin_read(self) -> PostgresqlReader:
        """Begin a read of one snapshot; raises the same."""
        connection = self._begin(_BEGIN_READ)
        return PostgresqlReader(connection, *self._statements, members=self._members)

    def compare_incarnation(self) -> None:
        """Raise `StorageUnavailable` if the log has another incarnation; outside of transactions."""
        self._incarnation.check(self._open())

    def commit(self) -> None:
        """Commit; raises `psycopg.Error`, and if the connection `is_lost` then, the outcome is unknown."""
        commit = self._open().execute("COMMIT")
        self._end_pipeline()
        if commit.statusmessage != "COMMIT":
            # PostgreSQL responds so if a statement failed and the operation suppressed the error.
            raise errors.InFailedSqlTransaction(f"PostgreSQL responded to COMMIT with {commit.statusmessage}")
        self._members.commit()

    def end_read(self) -> None:
        """End a transaction without changes; a lost connection reopens when it is needed."""
        try:
            self.commit()
        except psycopg.Error as error:
            self.roll_back(error)

    def roll_back(self, error: BaseException) -> bool:
        """Roll back after an error; returns whether the connection was lost."""
        self._members.roll_back()
        connection = self._connection
        if connection is None:
            return False
        lost = isinstance(error, psycopg.Error) and is_lost(connection, error)
        try:
            self._end_pipeline()
        except psycopg.Error as another:  # of a statement whose result was not read
            lost = lost or is_lost(connection, another)
        if not lost and connection.info.transaction_status != TransactionStatus.IDLE:
            try:
                connection.execute("ROLLBACK")
            except psycopg.Error:
                lost = True
        if lost:
            self.discard()
        return lost

    def is_lost(self, error: psycopg.Error) -> bool:
        return self._connection is None or is_lost(self._connection, error)

    def discard(self) -> Backend:
        """Close the connection; returns the server's process at its other end."""
        self._members.roll_back()
        with self._open_lock:
            connection, self._connection, self._pipeline = self._connection, None, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()
        return self._backend

    def abort(self) -> None:
        """Make a wait for the server fail at once, because the server no longer responds."""
        with self._open_lock:
            connection = self._connection
            if connection is None or connection.closed:
                return
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as peer:
                peer.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.discard()

    def _begin(self, statement: str) -> PsycopgConnection:
        self._incarnation.refuse_if_replaced()
        connection = self._open()
        self._pipeline = connection.pipeline()
        self._pipeline.__enter__()
        connection.execute(statement)
        return connection

    def _end_pipeline(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.__exit__(None, None, None)

    def _open(self) -> PsycopgConnection:
        connection = self._connection
        if connection is None:
            connection = self._server.connect()
            try:
                self._incarnation.check(connection)
                self._backend = Backend.of(connection)
            except BaseException:
                connection.close()
                raise
            with self._open_lock:
                self._connection = connection
        return connection

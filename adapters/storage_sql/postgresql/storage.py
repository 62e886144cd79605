"""The storage in PostgreSQL: transactions and reads on threads, shared with any number of processes."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from functools import partial
from threading import Event
from time import monotonic
from typing import Any, TypeVar

import psycopg
from attrs import frozen
from outcome import Error, Outcome, Value

from adapters.storage_sql.event_loop import (
    Gate,
    LoopEnded,
    at_most,
    in_thread,
    shielded,
    sleep,
    start_task,
    start_thread,
)
from adapters.storage_sql.postgresql.commit_order import CommitOrder, CommitTicket
from adapters.storage_sql.postgresql.commit_outcome import Backend, CommitOutcome, find_outcome
from adapters.storage_sql.postgresql.config import PostgresqlConfig
from adapters.storage_sql.postgresql.connection import PostgresqlConnection
from adapters.storage_sql.postgresql.incarnation import Incarnation
from adapters.storage_sql.postgresql.members import MembersCache, MembersChanged
from adapters.storage_sql.postgresql.schema import check_schema
from adapters.storage_sql.postgresql.server import (
    PostgresqlServer,
    check_server,
    is_conflict,
    is_unavailable,
    one_line,
)
from adapters.storage_sql.postgresql.transaction import postgresql_statements
from adapters.storage_sql.thread_pool import Call, ThreadPool
from adapters.storage_sql.worker_thread import LoopPauses
from messaging_core.ports import OutcomeUnknown, Reader, Storage, StorageUnavailable, Transaction

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_RUNS = 10
"""Runs of an operation at most; among conflicting transactions, one succeeds each time."""
DEADLINE_CHECK_EVERY = 0.5
"""Seconds between two checks for calls that exceed `database_time`."""
COMPARE_EVERY = 10.0
"""Seconds between two comparisons of the incarnation, which take a millisecond."""


@asynccontextmanager
async def open_postgresql(address: str, config: PostgresqlConfig | None = None) -> AsyncIterator[Storage]:
    """Open the storage in a PostgreSQL database, whose schema must be this version's: `upgrade_postgresql`.

    On leaving, it finishes the accepted transactions. Raises `DatabaseUnusable`.
    """
    server = PostgresqlServer(address, config or PostgresqlConfig())
    incarnation = await in_thread(_check, server)
    storage = PostgresqlStorage(server, incarnation)
    try:
        yield storage
    finally:
        await storage.close()


def _check(server: PostgresqlServer) -> Incarnation:
    incarnation = Incarnation()
    with server.errors_of_opening(), server.connect() as connection:
        check_server(connection, name=server.name)
        check_schema(connection, name=server.name)
        incarnation.bind(connection, database=server.name)
    return incarnation


class PostgresqlStorage:
    """A `messaging_core.ports.Storage` over connections to one database."""

    def __init__(self, server: PostgresqlServer, incarnation: Incarnation) -> None:
        self._server = server
        self._incarnation = incarnation
        self._replaced = Gate()
        self._time = server.config.database_time
        self._order = CommitOrder()
        members = MembersCache()
        statements = postgresql_statements()

        def connections(count: int) -> list[PostgresqlConnection]:
            return [PostgresqlConnection(server, statements, members, incarnation) for _ in range(count)]

        pauses = LoopPauses()
        self._writers = ThreadPool("writer", connections(server.config.database_writers), pauses)
        self._readers = ThreadPool("reader", connections(server.config.database_readers), pauses)
        incarnation.notify = self._notify_replaced
        self._ending = Event()
        self._end_checks = start_task(self._check_deadlines)
        self._end_comparison = start_task(self._compare_incarnations)

    @property
    def incarnation(self) -> str:
        """See `messaging_core.ports.Storage`."""
        return self._incarnation.name

    @property
    def trouble(self) -> str | None:
        """Whether the database was replaced; a read finds out whether the server is reachable."""
        return self._incarnation.trouble

    async def replaced(self) -> str:
        """See `messaging_core.ports.Storage`: a new connection notices, or the next comparison."""
        while self._incarnation.trouble is None:
            await self._replaced.park()
        return self._incarnation.trouble

    async def transact(
        self, operation: Callable[[Transaction], T], *, committed: Callable[[T], None] | None = None
    ) -> T:
        """See `messaging_core.ports.Storage`."""
        if committed is not None:
            # In the caller's context, so that its log lines show the caller's `request_id`.
            committed = _in_this_context(committed)
        result: T = await self._writers.call(partial(self._transact, operation, committed))
        return result

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run `query` on one snapshot, in a thread; raises `StorageUnavailable`."""
        result: T = await self._readers.call(partial(self._read, query), may_abandon=True)
        return result

    async def close(self) -> None:
        """Finish the accepted transactions; safe to repeat, cannot be cancelled.

        If the outcome of a COMMIT is not found within twice `database_time`, it stays unknown.
        """
        self._end_comparison()
        with shielded():
            with at_most(2 * self._time):
                await self._readers.close()
                await self._writers.close()
            self._ending.set()
            await self._readers.close()
            await self._writers.close()
            self._end_checks()

    async def _check_deadlines(self) -> None:
        while True:
            await sleep(DEADLINE_CHECK_EVERY)
            self._writers.enforce_timeout(self._time)
            self._readers.enforce_timeout(self._time)

    async def _compare_incarnations(self) -> None:
        # A dump that is restored into the same database ends no connection.
        while True:
            await sleep(COMPARE_EVERY)
            with suppress(StorageUnavailable, psycopg.Error):
                await self._readers.call(self._compare, may_abandon=True)

    def _notify_replaced(self) -> None:
        with suppress(LoopEnded):
            self._writers.loop.run_soon(self._replaced.unpark_all)

    # --- on the threads ------------------------------------------------------------------------------------

    def _transact(
        self,
        operation: Callable[[Transaction], T],
        committed: Callable[[T], None] | None,
        connection: PostgresqlConnection,
        call: Call[PostgresqlConnection],
    ) -> None:
        done = self._with_retries(connection, call, lambda: self._attempt(operation, connection))
        self._finish_commit(call, committed, done)

    def _read(
        self,
        query: Callable[[Reader], T],
        connection: PostgresqlConnection,
        call: Call[PostgresqlConnection],
    ) -> None:
        def attempt() -> T:
            return query(connection.begin_read())

        # The caller need not wait for the end of a transaction without changes.
        self._readers.resolve_from_thread(call, Value(self._with_retries(connection, call, attempt)))
        connection.end_read()

    def _compare(self, connection: PostgresqlConnection, _call: Call[PostgresqlConnection]) -> Outcome[None]:
        try:
            connection.compare_incarnation()
        except psycopg.Error as error:
            connection.roll_back(error)
            raise
        return Value(None)

    def _with_retries(
        self, connection: PostgresqlConnection, call: Call[PostgresqlConnection], attempt: Callable[[], T]
    ) -> T:
        """The result of `attempt`; repeats it after a conflict or a lost connection, while there is time."""
        for runs in range(1, MAX_RUNS + 1):
            try:
                return attempt()
            except (psycopg.Error, MembersChanged) as error:
                lost = connection.roll_back(error)
                repeat = lost or isinstance(error, MembersChanged) or is_conflict(error)
                if not repeat or runs == MAX_RUNS or monotonic() - call.started_at > self._time:
                    raise _error_for_caller(error) from error
            except BaseException as error:
                connection.roll_back(error)
                raise
        raise AssertionError("unreachable")

    def _attempt(
        self, operation: Callable[[Transaction], T], connection: PostgresqlConnection
    ) -> "_SentCommit":
        transaction = connection.begin()
        result = operation(transaction)
        xid = transaction.find_xid()
        ticket = self._order.take(transaction.lock_keys)
        try:
            connection.commit()
        except psycopg.Error as error:
            if not connection.is_lost(error):
                self._skip(ticket)
                raise
            if xid is None:
                return _SentCommit(result, ticket)  # the transaction changed nothing
            return _SentCommit(result, ticket, _LostCommit(xid, connection.discard(), error))
        except BaseException:
            self._skip(ticket)
            raise
        return _SentCommit(result, ticket)

    def _finish_commit(
        self, call: Call[PostgresqlConnection], committed: Callable[[Any], None] | None, done: "_SentCommit"
    ) -> None:
        if done.lost is None:
            self._notify(call, committed, done.ticket, Value(done.result))
            return
        log.warning("The connection to PostgreSQL was lost during a COMMIT: looking up its outcome")
        find = partial(self._find_outcome, call, committed, done, done.lost)
        try:
            start_thread("outcome", find)
        except RuntimeError:
            find()

    def _find_outcome(
        self,
        call: Call[PostgresqlConnection],
        committed: Callable[[Any], None] | None,
        done: "_SentCommit",
        lost: "_LostCommit",
    ) -> None:
        outcome: Outcome[Any]
        found = find_outcome(self._server, lost.xid, lost.backend, ending=self._ending)
        match found:
            case CommitOutcome.COMMITTED:
                outcome = Value(done.result)
            case CommitOutcome.ROLLED_BACK:
                outcome = Error(_error_for_caller(lost.error))
            case CommitOutcome.UNKNOWN:
                reason = "PostgreSQL was restarted during a COMMIT: it is not known what was committed"
                outcome = Error(OutcomeUnknown(reason))
            case None:
                reason = "PostgreSQL did not come back: it is not known what was committed"
                outcome = Error(RuntimeError(reason))
        log.warning("The outcome of the COMMIT: %s", (found or CommitOutcome.UNKNOWN).value)
        self._notify(call, committed, done.ticket, outcome)

    def _notify(
        self,
        call: Call[PostgresqlConnection],
        committed: Callable[[Any], None] | None,
        ticket: CommitTicket,
        outcome: Outcome[Any],
    ) -> None:
        def notify() -> None:
            if committed is not None and isinstance(outcome, Value):
                try:
                    committed(outcome.value)
                except Exception:
                    log.exception("the callback of a committed transaction failed")
            self._writers.resolve(call, outcome)

        with suppress(LoopEnded):
            self._writers.loop.run_soon(self._order.complete, ticket, notify)

    def _skip(self, ticket: CommitTicket) -> None:
        with suppress(LoopEnded):
            self._writers.loop.run_soon(self._order.complete, ticket, lambda: None)


@frozen
class _LostCommit:
    """A COMMIT whose response was lost with the connection."""

    xid: str
    backend: Backend
    error: psycopg.Error


@frozen
class _SentCommit:
    """A transaction that has sent its COMMIT."""

    result: Any
    ticket: CommitTicket
    lost: _LostCommit | None = None


def _in_this_context(callback: Callable[[T], None]) -> Callable[[T], None]:
    context = copy_context()
    return lambda value: context.run(callback, value)


def _error_for_caller(error: Exception) -> Exception:
    if isinstance(error, MembersChanged):
        return StorageUnavailable("PostgreSQL: the members of a chat changed during each attempt")
    if isinstance(error, psycopg.Error) and is_unavailable(error):
        return StorageUnavailable(f"PostgreSQL: {one_line(error)}")
    return error

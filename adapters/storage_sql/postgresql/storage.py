"""The storage in PostgreSQL: transactions and reads on threads, shared with any number of processes."""

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any, TypeVar

import psycopg
import trio
from attrs import frozen
from outcome import Error, Outcome, Value

from adapters.storage_sql.postgresql.commit_order import CommitOrder, Place
from adapters.storage_sql.postgresql.config import PostgresqlConfig
from adapters.storage_sql.postgresql.lanes import Call, GivingWay, Lane
from adapters.storage_sql.postgresql.link import Link
from adapters.storage_sql.postgresql.members import MembersCache
from adapters.storage_sql.postgresql.outcome import Fate, Peer, find_out
from adapters.storage_sql.postgresql.schema import check_schema
from adapters.storage_sql.postgresql.server import (
    PostgresqlServer,
    check,
    is_conflict,
    is_unavailable,
    told,
)
from adapters.storage_sql.postgresql.transaction import (
    MembersMoved,
    postgresql_statements,
)
from messaging_core.ports import OutcomeUnknown, Reader, Storage, StorageUnavailable, Transaction

log = logging.getLogger(__name__)

T = TypeVar("T")

RUNS = 10
"""How often an operation is run at most; where many meet, each time one of them goes on."""
LOOK_EVERY = 0.5
"""Seconds between two looks for what takes too long."""


@asynccontextmanager
async def open_postgresql(address: str, config: PostgresqlConfig | None = None) -> AsyncIterator[Storage]:
    """The storage in a PostgreSQL database, whose schema must be this version's: see `schema.upgrade`.

    On leaving, what was asked for is finished. Raises `DatabaseUnusable`.
    """
    server = PostgresqlServer(address, config or PostgresqlConfig())
    await trio.to_thread.run_sync(_check, server)
    storage = PostgresqlStorage(server)
    try:
        yield storage
    finally:
        await storage.close()


def _check(server: PostgresqlServer) -> None:
    with server.explained(), server.connect() as connection:
        check(connection, name=server.name)
        check_schema(connection, name=server.name)


class PostgresqlStorage:
    """A `messaging_core.ports.Storage` over connections to one database."""

    trouble: str | None = None
    """Reading finds out whether the server is there."""

    def __init__(self, server: PostgresqlServer) -> None:
        self._server = server
        self._time = server.config.database_time
        self._order = CommitOrder()
        members = MembersCache()
        statements = postgresql_statements()

        def links(count: int) -> list[Link]:
            return [Link(server, statements, members) for _ in range(count)]

        self._writers = Lane("writer", links(server.config.database_writers))
        self._readers = Lane("reader", links(server.config.database_readers))
        self._giving_way = GivingWay(self._writers, self._readers)
        trio.lowlevel.add_instrument(self._giving_way)
        self._looking = trio.CancelScope()
        self._ending = threading.Event()
        trio.lowlevel.spawn_system_task(self._look)

    async def transact(
        self, operation: Callable[[Transaction], T], *, committed: Callable[[T], None] | None = None
    ) -> T:
        """See `messaging_core.ports.Storage`."""
        result: T = await self._writers.call(partial(self._transact, operation, committed))
        return result

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run `query` on one snapshot, in a thread; raises `StorageUnavailable`."""
        result: T = await self._readers.call(partial(self._read, query), may_abandon=True)
        return result

    async def close(self) -> None:
        """Finish what was asked for; safe to repeat, cannot be cancelled.

        Where the outcome of a COMMIT cannot be found out within `database_time`, it stays unknown.
        """
        with trio.CancelScope(shield=True):
            with trio.move_on_after(2 * self._time):
                await self._readers.close()
                await self._writers.close()
            self._ending.set()
            await self._readers.close()
            await self._writers.close()
            self._looking.cancel()
            with suppress(KeyError):
                trio.lowlevel.remove_instrument(self._giving_way)

    async def _look(self) -> None:
        with self._looking:
            while True:
                await trio.sleep(LOOK_EVERY)
                self._writers.look(time=self._time)
                self._readers.look(time=self._time)

    # --- on the threads ------------------------------------------------------------------------------------

    def _transact(
        self,
        operation: Callable[[Transaction], T],
        committed: Callable[[T], None] | None,
        link: "Link",
        call: Call[Link],
    ) -> None:
        done = self._again(link, call, lambda: self._attempt(operation, link))
        self._settle(call, committed, done)

    def _read(self, query: Callable[[Reader], T], link: "Link", call: Call[Link]) -> None:
        def attempt() -> T:
            return query(link.begin_read())

        # The caller need not wait for the end of what changes nothing.
        self._readers.tell_soon(call, Value(self._again(link, call, attempt)))
        link.end_read()

    def _again(self, link: "Link", call: Call[Link], attempt: Callable[[], T]) -> T:
        """What `attempt` gives, made again after a conflict and on a lost connection, while there is time."""
        for runs in range(1, RUNS + 1):
            try:
                return attempt()
            except (psycopg.Error, MembersMoved) as error:
                lost = link.roll_back(error)
                repeat = lost or isinstance(error, MembersMoved) or is_conflict(error)
                if not repeat or runs == RUNS or monotonic() - call.began_at > self._time:
                    raise _told(error) from error
            except BaseException as error:
                link.roll_back(error)
                raise
        raise AssertionError("unreachable")

    def _attempt(self, operation: Callable[[Transaction], T], link: "Link") -> "_Done":
        transaction = link.begin()
        result = operation(transaction)
        number = transaction.find_number()
        place = self._order.take(transaction.met)
        try:
            link.commit()
        except psycopg.Error as error:
            if not link.is_lost(error):
                self._leave(place)
                raise
            if number is None:
                return _Done(result, place)  # there was nothing to commit
            return _Done(result, place, _Unknown(number, link.forget(), error))
        except BaseException:
            self._leave(place)
            raise
        return _Done(result, place)

    def _settle(self, call: Call[Link], committed: Callable[[Any], None] | None, done: "_Done") -> None:
        if done.unknown is None:
            self._tell(call, committed, done.place, Value(done.result))
            return
        log.warning("The connection to PostgreSQL was lost during a COMMIT: finding out whether it happened")
        finding = threading.Thread(
            target=self._find_out,
            args=(call, committed, done, done.unknown),
            name="storage outcome",
            daemon=True,
        )
        try:
            finding.start()
        except RuntimeError:  # there can be no more threads
            finding.run()

    def _find_out(
        self,
        call: Call[Link],
        committed: Callable[[Any], None] | None,
        done: "_Done",
        unknown: "_Unknown",
    ) -> None:
        outcome: Outcome[Any]
        fate = find_out(self._server, unknown.number, unknown.peer, ending=self._ending)
        match fate:
            case Fate.COMMITTED:
                outcome = Value(done.result)
            case Fate.UNDONE:
                outcome = Error(_told(unknown.error))
            case Fate.UNKNOWN:
                why = "PostgreSQL was restarted during a COMMIT: it is not known what was committed"
                outcome = Error(OutcomeUnknown(why))
            case None:
                why = "PostgreSQL did not come back: it is not known what was committed"
                outcome = Error(RuntimeError(why))
        log.warning("The outcome of the COMMIT: %s", (fate or Fate.UNKNOWN).value)
        self._tell(call, committed, done.place, outcome)

    def _tell(
        self,
        call: Call[Link],
        committed: Callable[[Any], None] | None,
        place: Place,
        outcome: Outcome[Any],
    ) -> None:
        def tell() -> None:
            if committed is not None and isinstance(outcome, Value):
                try:
                    committed(outcome.value)
                except Exception:
                    log.exception("what was committed could not be told")
            self._writers.tell(call, outcome)

        with suppress(trio.RunFinishedError):
            self._writers.loop.run_sync_soon(self._order.settle, place, tell)

    def _leave(self, place: Place) -> None:
        with suppress(trio.RunFinishedError):
            self._writers.loop.run_sync_soon(self._order.settle, place, lambda: None)


@frozen
class _Unknown:
    """A COMMIT whose answer was lost."""

    number: str
    peer: Peer
    error: psycopg.Error


@frozen
class _Done:
    """A transaction that has sent its COMMIT."""

    result: Any
    place: Place
    unknown: _Unknown | None = None


def _told(error: Exception) -> Exception:
    if isinstance(error, MembersMoved):
        return StorageUnavailable("PostgreSQL: the members of a chat changed again and again")
    if isinstance(error, psycopg.Error) and is_unavailable(error):
        return StorageUnavailable(f"PostgreSQL: {told(error)}")
    return error

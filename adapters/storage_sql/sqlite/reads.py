"""Runs queries on an SQLite file: on the event loop, or in a thread where they take long.

A small read takes less time than handing it to a thread. Which reads are small depends on the data, the
caches and the disk, so each begins on the loop, with a budget. A read that exceeds it is interrupted and runs
again in the thread, on a connection and a view of its own. What it loads there is cached too, unless a commit
has changed it meanwhile.
"""

import sqlite3
import sys
from collections.abc import Callable, Iterable
from functools import partial
from json import dumps
from math import inf
from time import monotonic
from typing import TypeVar

from outcome import Value

from adapters.storage_sql.driver import Row
from adapters.storage_sql.event_loop import end_turn, raise_if_cancelled
from adapters.storage_sql.sqlite.cache import CachedReader, CommittedCache, Load
from adapters.storage_sql.sqlite.errors import error_for_caller, is_unavailable
from adapters.storage_sql.sqlite.loop_turns import LoopTurns
from adapters.storage_sql.statements import Statements
from adapters.storage_sql.thread_pool import Call, ThreadPool
from adapters.storage_sql.worker_thread import LoopPauses, ShortSwitches
from messaging_core.ports import Reader, StorageUnavailable

T = TypeVar("T")

READ_SECONDS_A_TURN = 0.005
"""Seconds of reads after which a turn of the event loop begins no more reads; the next turn goes on."""
READ_SECONDS = 0.01
"""Seconds after which a read moves to the thread, a small one too, on a slow disk or a busy machine."""
STEPS_A_CHECK = 5000
"""Steps of SQLite's machine, some 0.2 ms, after which it checks the budget in the middle of a statement."""
CHECKS = 10
"""Such checks within one read, after which it moves to the thread: the loop has yet to build objects of some
thousand rows."""
PAYLOAD_CHARACTERS = 200_000
"""Characters of messages' payloads that one query decodes on the loop, in some 4 ms."""
MAX_WAITING = 1000
"""Reads that wait for the thread; beyond it, callers are refused at once."""


class SqliteReads:
    """Reads the committed state; created and used on the event loop."""

    def __init__(
        self,
        on_loop: sqlite3.Connection,
        in_thread: sqlite3.Connection,
        statements: Statements,
        committed: CommittedCache,
        *,
        loop_turns: LoopTurns,
        pauses: LoopPauses,
        switches: ShortSwitches,
    ) -> None:
        self.budget = _Budget()
        self._view = _LoopView(on_loop, self.budget)
        self._reader = CachedReader(
            self._view, statements, committed=committed, many=many, will_decode=self.budget.check_payloads
        )
        self._statements = statements
        self._committed = committed
        self._loop_turns = loop_turns
        self._has_been_idle = loop_turns.idle_detector()
        self._turn = 0
        """The turn of the event loop that ran the last read."""
        self._read_seconds = 0.0
        """Seconds of reads in that turn."""
        self._threads = ThreadPool("reader", [_ThreadConnection(in_thread)], pauses, max_waiting=MAX_WAITING)
        self._switches = switches
        self._closed = False

    async def read(self, query: Callable[[Reader], T]) -> T:
        """See `messaging_core.ports.Storage`.

        Yields first if the loop has not been idle since the last read. A turn of the loop that has read for
        `READ_SECONDS_A_TURN` begins no more reads.
        """
        if self._has_been_idle():
            await raise_if_cancelled()
        else:
            await end_turn()
            while self._read_seconds >= READ_SECONDS_A_TURN and self._turn == self._loop_turns.turns:
                await end_turn()
        if self._closed:
            raise StorageUnavailable("The storage is closed")
        started = monotonic()
        self.budget.begin(started)
        try:
            return query(self._reader)
        except _Exceeded:
            pass
        except sqlite3.Error as error:
            if not self.budget.is_exceeded:
                if is_unavailable(error):
                    raise error_for_caller(error) from error
                raise
        finally:
            self._view.end()
            if self._turn != self._loop_turns.turns:
                self._turn, self._read_seconds = self._loop_turns.turns, 0.0
            self._read_seconds += monotonic() - started
        return await self._read_in_thread(query)

    async def close(self) -> None:
        """Refuse new reads, finish those that wait, and end the thread; safe to repeat."""
        self._closed = True
        await self._threads.close()

    async def _read_in_thread(self, query: Callable[[Reader], T]) -> T:
        load = self._committed.begin_load()
        self._switches.begin()
        try:
            result: T = await self._threads.call(partial(self._run, query, load), may_abandon=True)
            self._committed.keep(load)
            return result
        finally:
            self._committed.end_load(load)
            self._switches.end()

    # --- on the thread -------------------------------------------------------------------------------------

    def _run(
        self,
        query: Callable[[Reader], T],
        load: Load,
        thread: "_ThreadConnection",
        _: Call["_ThreadConnection"],
    ) -> Value[T]:
        reader = CachedReader(thread.connection, self._statements, committed=load.loaded, many=many)
        try:
            thread.connection.execute("BEGIN")
            return Value(query(reader))
        except sqlite3.Error as error:
            if is_unavailable(error):
                raise error_for_caller(error) from error
            raise
        finally:
            if thread.connection.in_transaction:  # a failing disk may have ended it
                thread.connection.execute("ROLLBACK")


class _Exceeded(Exception):
    """A read exceeds its budget."""


class _Budget:
    """Bounds the time for which a read holds the event loop."""

    def __init__(self) -> None:
        self.seconds = READ_SECONDS
        self.checks = CHECKS
        self.is_exceeded = False
        self._until = inf
        self._checks_left = 0

    def begin(self, now: float) -> None:
        self.is_exceeded = False
        self._until = now + self.seconds
        self._checks_left = self.checks

    def end(self) -> None:
        """Bound nothing until the next read."""
        self._until = inf
        self._checks_left = sys.maxsize

    def check(self) -> None:
        """Called before a statement; raises `_Exceeded`."""
        if monotonic() > self._until:
            raise _Exceeded

    def check_payloads(self, characters: int) -> None:
        """Called before payloads are decoded; raises `_Exceeded`."""
        if characters > PAYLOAD_CHARACTERS:
            raise _Exceeded

    def check_progress(self) -> bool:
        """Called within a statement; whether SQLite interrupts it."""
        self._checks_left -= 1
        self.is_exceeded = self._checks_left < 0 or monotonic() > self._until
        return self.is_exceeded


class _LoopView:
    """The loop's connection; its view begins with the first statement, because cached reads need none."""

    def __init__(self, connection: sqlite3.Connection, budget: _Budget) -> None:
        connection.set_progress_handler(budget.check_progress, STEPS_A_CHECK)
        self._connection = connection
        self._budget = budget
        self._check = budget.check

    def execute(self, sql: str, parameters: Row, /) -> sqlite3.Cursor:
        self._check()
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")
        return self._connection.execute(sql, parameters)

    def cursor(self) -> sqlite3.Cursor:
        return self._connection.cursor()

    def end(self) -> None:
        if self._connection.in_transaction:  # a failing disk may have ended it
            self._budget.end()
            self._connection.execute("ROLLBACK")


class _ThreadConnection:
    """The thread's connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def abort(self) -> None:
        self.connection.interrupt()

    def close(self) -> None:
        self.connection.close()


def many(numbers: Iterable[int]) -> str:
    """Convert many numbers into one parameter of a statement."""
    return dumps(list(numbers))

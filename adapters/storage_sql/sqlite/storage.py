"""The storage in an SQLite file, which the event loop reads and writes; a thread waits for a slow disk."""

import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from time import monotonic
from typing import TypeVar

import trio

from adapters.storage_sql.rows import Kind, Row
from adapters.storage_sql.sqlite.cache import Committed, KeptReader, KeptTransaction, Staged
from adapters.storage_sql.sqlite.file import connect_reader, connect_writer, owned, prepare
from adapters.storage_sql.sqlite.file_watch import LOOK_EVERY, FileWatch
from adapters.storage_sql.sqlite.rests import Rests
from adapters.storage_sql.sqlite.writer import Writer, is_unavailable
from adapters.storage_sql.statements import Statements, read_statements
from messaging_core.ports import Reader, Storage, StorageUnavailable, Transaction

T = TypeVar("T")

RESERVED: Mapping[str, int] = {"message": 255}
"""Identifiers that a commit reserves beyond those that it needs, by kind."""

READING = 0.005
"""Seconds of reads after which a turn of the event loop begins no more of them; the others have the next."""

TEXT = Path(__file__).with_name("statements.sql")
"""Made by `make statements`, and not to be edited."""


@asynccontextmanager
async def open_sqlite(path: Path) -> AsyncIterator[Storage]:
    """The storage in an SQLite file, which is made where there is none and upgraded where it is old.

    On leaving, what was asked for is finished and the file is whole; its `.lock` stays beside it.
    Raises `DatabaseUnusable`.
    """
    name = await trio.to_thread.run_sync(path.absolute)
    path = await trio.to_thread.run_sync(path.resolve)
    with owned(path) as descriptor:
        await trio.to_thread.run_sync(prepare, path)
        with closing(connect_writer(path)) as writing, closing(connect_reader(path)) as reading:
            storage = SqliteStorage(writing, reading, FileWatch(name, path, descriptor))
            try:
                yield storage
            finally:
                await storage.close()


class SqliteStorage:
    """A `messaging_core.ports.Storage` over two connections to one file in WAL mode."""

    def __init__(self, writing: sqlite3.Connection, reading: sqlite3.Connection, watch: FileWatch) -> None:
        statements = sqlite_statements()
        committed = Committed()
        self._writing = writing
        self._reading = reading
        self._view = _View(reading)
        self._reader = KeptReader(self._view, statements, committed=committed, many=_many)
        self._session = SqliteSession(writing, statements, committed, watch.check)
        self._watch = watch
        self._watch.look()  # something has been read, so that the file's companions are there
        self._rests = Rests()
        self._rested = self._rests.since_asked()
        self._turn = 0
        """In which turn of the loop the last read was, and for how many seconds that turn has read."""
        self._read_for = 0.0
        self._writer = Writer(self._session, self._rests)
        self._closed = False
        self._watching = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._keep_watch)

    @property
    def trouble(self) -> str | None:
        """What has happened to the file; see `messaging_core.ports.Storage`."""
        return self._watch.trouble

    async def transact(
        self, operation: Callable[[Transaction], T], *, committed: Callable[[T], None] | None = None
    ) -> T:
        """See `messaging_core.ports.Storage`: several operations may share a commit."""
        return await self._writer.transact(operation, committed=committed)

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run `query` here, on the event loop: a small read takes less than handing it to a thread would.

        Others have a turn before, on a loop that has not rested since the last read, and a turn that has read
        for `READING` begins no more reads. Raises `StorageUnavailable`.
        """
        if self._rested():
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
            while self._read_for >= READING and self._turn == self._rests.turns:
                await trio.lowlevel.checkpoint()
        if self._closed:
            raise StorageUnavailable("The storage is closed")
        began = monotonic()
        try:
            try:
                return query(self._reader)
            finally:
                self._view.end()
                if self._turn != self._rests.turns:
                    self._turn, self._read_for = self._rests.turns, 0.0
                self._read_for += monotonic() - began
        except sqlite3.Error as error:
            if is_unavailable(error):
                raise StorageUnavailable(f"SQLite: {error}") from error
            raise

    async def close(self) -> None:
        """Finish what was asked for and move the log into the file; safe to repeat, cannot be cancelled."""
        await self._writer.close()
        if not self._closed:
            self._closed = True
            self._watching.cancel()
            self._rests.end()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._leave_tidy)

    async def _keep_watch(self) -> None:
        with self._watching:
            while True:
                await trio.sleep(LOOK_EVERY)
                self._watch.look()

    def _leave_tidy(self) -> None:
        # A full disk, say: what was committed is safe all the same, and the log is read at the next start.
        with suppress(sqlite3.Error):
            self._session.end()
        with suppress(sqlite3.Error):
            self._writing.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


class _View:
    """The reading connection: its view begins with the first statement, for much is read without any."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Row, /) -> sqlite3.Cursor:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN")
        return self._connection.execute(sql, parameters)

    def cursor(self) -> sqlite3.Cursor:
        return self._connection.cursor()

    def end(self) -> None:
        if self._connection.in_transaction:  # a failing disk has ended it already
            self._connection.execute("ROLLBACK")


class SqliteSession:
    """What the writer works with: its connection, and what a commit holds beside rows."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        statements: Statements,
        committed: Committed,
        check_file: Callable[[], None] = lambda: None,
    ) -> None:
        self.connection = connection
        self._staged = Staged(committed)
        self._numbers = _Numbers(connection, statements)
        self._check_file = check_file
        self.transaction = KeptTransaction(
            connection, statements, staged=self._staged, many=_many, numbers=self._numbers
        )

    def end(self) -> None:
        """There are no transactions any more."""
        self.connection.execute("BEGIN IMMEDIATE")
        self._numbers.give_back()
        self.connection.execute("COMMIT")

    def before_commit(self) -> None:
        self._check_file()
        self._numbers.store()
        self._staged.begin_commit()

    def after_commit(self) -> None:
        self._numbers.stored()
        self._staged.end_commit()

    def after_rollback(self) -> None:
        self._numbers.rolled_back()
        self._staged.roll_back()


class _Numbers:
    """The identifiers of each kind, counted here and written once a commit.

    One that a rolled-back transaction has taken is not given again: counting never goes back. One process
    owns the file, so nobody else counts. Those of messages are reserved some at a time, because the row would
    be a page of every commit; what is left of them is given back at the end, and lost in a crash.
    """

    def __init__(self, connection: sqlite3.Connection, statements: Statements) -> None:
        self._execute = connection.execute
        self._store = statements.store_sequence
        self._last: dict[str, int] = dict(connection.execute(statements.sequences).fetchall())
        self._stored = dict(self._last)
        """Up to where nothing has to be stored, by kind."""
        self._storing: dict[str, int] = {}

    def next(self, kind: Kind) -> int:
        number = self._last.get(kind, 0) + 1
        self._last[kind] = number
        return number

    def store(self) -> None:
        self._storing = {
            kind: last + RESERVED.get(kind, 0)
            for kind, last in self._last.items()
            if last > self._stored.get(kind, 0)
        }
        for row in self._storing.items():
            self._execute(self._store, row)

    def stored(self) -> None:
        self._stored.update(self._storing)

    def rolled_back(self) -> None:
        # Nothing that is kept has those: whoever changes nothing next needs no room on a disk that is full.
        for kind, last in self._last.items():
            self._stored[kind] = max(last, self._stored.get(kind, 0))

    def give_back(self) -> None:
        """Store how far it has come; to be committed."""
        for row in self._last.items():
            self._execute(self._store, row)


def sqlite_statements() -> Statements:
    """As `sqlite_dialect` has compiled them."""
    return read_statements(TEXT.read_text(encoding="utf-8"))


def _many(numbers: Iterable[int]) -> str:
    return json.dumps(list(numbers))

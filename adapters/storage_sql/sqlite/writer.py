"""The one place that writes: the event loop runs operations, and commits those that wait together.

An operation takes some 50 us, a commit several times that, however much it holds. So whoever waits is run
here, on the loop, in one transaction, and shares its commit. One that is refused has changed nothing yet. If
one fails that has, or the commit itself, nothing of the transaction is kept, and each operation is run again
in a transaction of its own.

On a busy loop a transaction waits a few turns for others to share it. Where the last one was of a single
operation, and the loop has rested since, nobody can be expected: it is carried out at once.

A commit waits for the disk. While that is quick the loop waits with it: to hand it to a thread and back, and
to fight that thread for the interpreter, would take longer. A disk that has shown itself slow is waited for
by the thread, until it has shown itself quick again, and so is what takes long in any case.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import Any, Protocol, TypeVar, cast

import trio
from attrs import define
from outcome import Error, Outcome, Value, capture

from adapters.storage_sql.sqlite.rests import Rests
from messaging_core.ports import StorageUnavailable, Transaction

log = logging.getLogger(__name__)

T = TypeVar("T")
V = TypeVar("V")

BATCH = 256
"""Operations in one commit."""
OPERATING = 0.005
"""Seconds after which the event loop begins no more operations of a batch; the rest is the next one."""
MAX_WAITING = 10_000
"""Operations that wait; beyond it, callers are told at once."""
FLUSH_HERE = 0.004
"""Seconds of one commit for which the loop may stand still; after a longer one the thread commits."""
AWAY = 20
"""How many more quick commits than slow ones the thread does until the loop waits for the disk again."""
HICCUP = 50
"""Quick commits before a slow one that make it a hiccup of the disk, and not a sign that it is slow."""
LARGE_COMMIT = 4 * BATCH
"""Rows in a commit beyond which the thread commits in any case: a group of a thousand people has more, a
full batch of messages fewer. It writes megabytes, which tells nothing of how quick the disk is otherwise."""
GATHERING = 6
"""Turns of the loop for which a batch waits at most, while each brings somebody new to share it."""
CHECKPOINT_AFTER = 10_000
"""Rows, with `ROWS_A_COMMIT`, after which the write-ahead log is brought into the database: 30 to 40 MB.

A page that was changed often is brought in once: twice as many rows make a pause half as long again.
"""
ROWS_A_COMMIT = 4
"""What a commit writes beside pages of single rows, such as the last page of a table, counted in rows."""
LOG_LIMIT = 96 * 1024 * 1024
"""Bytes of log after which it is brought in earlier, for rows that are large: a pause of a tenth of a second.

Greater than the file's `journal_size_limit`: behind a checkpoint the file is cut to that, and tells anew.
"""
LOOK_AFTER = CHECKPOINT_AFTER // 20
"""Rows between two looks: behind a long backup, which keeps the file as it is, they would be many."""
PATIENCE = 5.0
"""Seconds for which the thread waits while somebody else writes: a backup, or a shell."""
GIVE_WAY_AFTER = 0.001
"""Seconds that the thread has been away for when a busy event loop first gives way to it."""
GIVE_WAY_FOR = 0.0002
"""Seconds for which the loop stands still at most, at a time: the thread needs a tenth of it."""


class Session(Protocol):
    """A connection, and what its commits and rollbacks mean to the program."""

    @property
    def connection(self) -> sqlite3.Connection:
        """Waits for nobody: its `busy_timeout` is 0."""

    @property
    def transaction(self) -> Transaction: ...

    def before_commit(self) -> None: ...

    def after_commit(self) -> None: ...

    def after_rollback(self) -> None: ...


@define(eq=False)
class _Job:
    operation: Callable[[Transaction], Any]
    committed: Callable[[Any], None] | None
    task: trio.lowlevel.Task | None = None
    """Who waits for the outcome, once they do."""
    outcome: Outcome[Any] | None = None
    """There already, before anybody waits."""

    def call(self, function: Callable[[V], T], argument: V) -> T:
        """Call it in the context of whoever asked: their log lines tell their `request_id`."""
        if self.task is None:  # it is they who run it
            return function(argument)
        return self.task.context.run(function, argument)

    def tell_committed(self, value: object) -> None:
        if self.committed is not None:
            try:
                self.committed(value)
            except Exception:
                log.exception("what was committed could not be told")

    def tell(self, outcome: Outcome[Any]) -> None:
        if self.task is None:
            self.outcome = outcome
        else:
            trio.lowlevel.reschedule(self.task, outcome)


class Writer:
    """Runs operations in order of arrival; made and used on the event loop."""

    def __init__(
        self, session: Session, rests: Rests, *, batch: int = BATCH, max_waiting: int = MAX_WAITING
    ) -> None:
        self._session = session
        self._rested = rests.since_asked()
        self._batch = batch
        self._max_waiting = max_waiting
        self._waiting: dict[_Job, None] = {}
        self._apart: deque[_Job] = deque()
        """Claimed, to be run again alone."""
        self._claimed: deque[_Job] = deque()
        self._outcomes: list[Outcome[Any]] = []
        self._busy = False
        self._single = True
        """Whether the last transaction was of one operation."""
        self._away = 0
        """How many quick commits in the thread are missing until the loop commits again."""
        self._quick = HICCUP
        """Quick commits since the last slow one, on the loop."""
        self._took = 0.0
        self._large = False
        """Whether the commit that is under way, or the last one, is large."""
        self._logged = 0
        """Since the last checkpoint, as `CHECKPOINT_AFTER` counts."""
        self._looked = 0
        """How much was logged when the file's size was looked at."""
        self._changes = session.connection.total_changes
        _, _, path = session.connection.execute("PRAGMA database_list").fetchone()
        self._log = Path(f"{path}-wal")
        self._rest = trio.lowlevel.ParkingLot()
        self._closed: str | None = None
        self._failed_for_good = False
        self._ended = False
        self._thread = _Thread(died=partial(self._step, self._died))
        self._due = False
        """Whether the next transaction is to begin."""
        self._beginning = trio.CancelScope()
        self._asked = trio.lowlevel.ParkingLot()
        trio.lowlevel.spawn_system_task(self._begin_each)

    # Ctrl-C in between would leave a job behind whose caller waits for something else by then.
    @trio.lowlevel.enable_ki_protection
    async def transact(
        self, operation: Callable[[Transaction], T], *, committed: Callable[[T], None] | None = None
    ) -> T:
        """See `messaging_core.ports.Storage.transact`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed is not None:
            raise StorageUnavailable(self._closed)
        if len(self._waiting) >= self._max_waiting:
            raise StorageUnavailable(f"{len(self._waiting)} transactions wait already")
        job = _Job(operation, committed)
        self._waiting[job] = None
        rested = self._rested()
        if not self._busy:
            if rested and self._single:
                self._begin_here()
            else:
                self._go_on()
        if job.outcome is not None:
            return cast("T", job.outcome.unwrap())
        job.task = trio.lowlevel.current_task()

        def cancel(_: object) -> trio.lowlevel.Abort:
            # A job that is claimed will be run, and its caller told.
            if job not in self._waiting:
                return trio.lowlevel.Abort.FAILED
            del self._waiting[job]
            return trio.lowlevel.Abort.SUCCEEDED

        result: T = await trio.lowlevel.wait_task_rescheduled(cancel)
        return result

    async def close(self) -> None:
        """Refuse what is new, finish what waits, and end the thread; cannot be cancelled."""
        self._closed = self._closed or "The storage is closed"
        with trio.CancelScope(shield=True):
            while self._busy:
                await self._rest.park()
            if not self._ended:
                self._ended = True
                self._beginning.cancel()
                self._roll_back()
            await self._thread.end()

    # --- one transaction after another ---------------------------------------------------------------------

    def _go_on(self) -> None:
        """Begin the next transaction soon: whoever is awake now, and asks, has a part in it."""
        if self._failed_for_good:
            # There may be no thread any more: what is sent to it would never come back.
            self._busy = False
            self._rest.unpark_all()
            return
        self._busy = bool(self._apart or self._waiting)
        if self._logged >= CHECKPOINT_AFTER or self._is_log_large():
            self._busy = True
            self._logged = self._looked = 0
            self._send(self._checkpoint, lambda _: self._go_on())
        elif self._busy:
            self._due = True
            self._asked.unpark()
        else:
            self._rest.unpark_all()

    def _is_log_large(self) -> bool:
        if self._logged - self._looked < LOOK_AFTER:
            return False
        self._looked = self._logged
        try:
            return self._log.stat().st_size > LOG_LIMIT
        except OSError:  # somebody has taken it away: the next commit will tell
            return False

    def _begin_here(self) -> None:
        """Begin a transaction now, in the task of whoever asks."""
        self._busy = True
        self._step(self._begin)

    async def _begin_each(self) -> None:
        """Begin a transaction whenever one is asked for and nothing is under way."""
        with self._beginning:
            while True:
                if self._due:
                    await trio.lowlevel.checkpoint()  # those who have just been told go first
                else:
                    await self._asked.park()
                self._due = False
                await self._gather()
                self._step(self._begin)

    async def _gather(self) -> None:
        # In step with a thread they gather by themselves, while it works.
        seen, turns = 0, 0 if self._away or self._apart else GATHERING
        while turns and len(self._waiting) > seen:
            seen, turns = len(self._waiting), turns - 1
            await trio.lowlevel.checkpoint()

    def _step(self, step: Callable[..., None], *args: object) -> None:
        try:
            step(*args)
        except BaseException as error:
            # A defect of this module. Nobody may wait for what does not go on.
            log.critical("the storage has failed: restart the process", exc_info=True)
            self._give_up(error)

    def _died(self, error: BaseException) -> None:
        raise error

    def _send(self, errand: Callable[[], object], then: Callable[[Outcome[Any]], None]) -> None:
        self._thread.send(errand, lambda outcome: self._step(then, outcome))

    def _begin(self) -> None:
        try:
            self._session.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            # Somebody else writes: the event loop cannot wait for them.
            self._send(self._begin_patiently, self._begun)
        else:
            self._operate()

    def _begun(self, begun: Outcome[None]) -> None:
        if isinstance(begun, Error):
            # To ask again for each alone would take as long.
            self._claimed.extend((*self._apart, *self._waiting))
            self._apart.clear()
            self._waiting.clear()
            self._outcomes = [Error(_told(begun.error)) for _ in self._claimed]
            self._tell()
        else:
            self._operate()

    def _operate(self) -> None:
        until = monotonic() + OPERATING
        source, bound = (self._apart, 1) if self._apart else (self._waiting, self._batch)
        try:
            while source and len(self._claimed) < bound and monotonic() < until:
                job = self._claim()
                self._outcomes.append(self._outcome_of(job))
            self._single = len(self._claimed) == 1
            self._session.before_commit()
        except BaseException as error:  # noqa: BLE001 - goes to whoever asked for it
            self._roll_back()
            self._failed(error)
        else:
            self._flush()

    def _flush(self) -> None:
        self._large = self._new_changes() > LARGE_COMMIT
        if self._away or self._large:
            self._send(self._commit, self._flushed)
        else:
            self._flushed(capture(self._commit))

    def _claim(self) -> _Job:
        if self._apart:
            job = self._apart.popleft()
        else:
            job = next(iter(self._waiting))
            del self._waiting[job]
        self._claimed.append(job)
        return job

    def _outcome_of(self, job: _Job) -> Outcome[Any]:
        connection = self._session.connection
        changes = connection.total_changes
        outcome: Outcome[Any] = capture(job.call, job.operation, self._session.transaction)
        if isinstance(outcome, Error) and (
            connection.total_changes != changes
            or not connection.in_transaction
            or is_unavailable(outcome.error)
        ):
            raise outcome.error
        return outcome

    def _flushed(self, flushed: Outcome[None]) -> None:
        # The thread tries the disk, so that the loop stands for one slow commit and not for one in so many.
        # What took long there may have waited for the interpreter: not all of it was the disk.
        if self._large:
            pass
        elif not self._away:
            if self._took <= FLUSH_HERE:
                self._quick += 1
            else:
                self._away = AWAY if self._quick < HICCUP else 0
                self._quick = 0
        elif self._took <= FLUSH_HERE:
            self._away -= 1
        else:
            self._away = min(self._away + 1, AWAY)
        if isinstance(flushed, Error):
            self._failed(flushed.error)
        else:
            self._session.after_commit()
            self._logged += self._new_changes() + ROWS_A_COMMIT
            self._changes = self._session.connection.total_changes
            self._tell()

    def _new_changes(self) -> int:
        """Rows that were changed since the last commit, those that were rolled back included."""
        # SQLite tells the lowest 32 bits: after 2,147,483,647 comes -2,147,483,648.
        return (self._session.connection.total_changes - self._changes) % 2**32

    def _failed(self, error: BaseException) -> None:
        """Nothing of the transaction was kept."""
        self._session.after_rollback()
        self._outcomes = [Error(_told(error))]
        if len(self._claimed) > 1:
            self._apart.extend(self._claimed)
            self._claimed.clear()
            self._outcomes = []
        self._tell()

    def _tell(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        for job, outcome in zip(self._claimed, outcomes, strict=True):
            if isinstance(outcome, Value):
                job.call(job.tell_committed, outcome.value)
        for outcome in outcomes:
            self._claimed.popleft().tell(outcome)
        self._go_on()

    def _give_up(self, error: BaseException) -> None:
        self._failed_for_good = True
        self._closed = "The storage has failed"
        unknown = RuntimeError("The storage has failed: it is not known what was committed")
        unknown.__cause__ = error
        claimed, waiting = (*self._claimed, *self._apart), tuple(self._waiting)
        for jobs in (self._claimed, self._apart, self._waiting):
            jobs.clear()
        for job in claimed:
            job.tell(Error(unknown))
        for job in waiting:
            job.tell(Error(StorageUnavailable(self._closed)))
        self._go_on()

    def _commit(self) -> None:
        started = monotonic()
        try:
            self._session.connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._took = monotonic() - started

    # --- on the thread -------------------------------------------------------------------------------------

    def _begin_patiently(self) -> None:
        execute = self._session.connection.execute
        execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")
        try:
            execute("BEGIN IMMEDIATE")
        finally:
            execute("PRAGMA busy_timeout = 0")

    def _checkpoint(self) -> None:
        # Not by COMMIT itself, which would then take ten times as long, for whoever happens to be in it.
        self._session.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    # --- on either -----------------------------------------------------------------------------------------

    def _roll_back(self) -> None:
        # A full disk or a failing one has rolled back already.
        if self._session.connection.in_transaction:
            self._session.connection.execute("ROLLBACK")


Errand = Callable[[], object]


class _Thread(trio.abc.Instrument):
    """Does one errand at a time away from the event loop, which tells the outcome."""

    def __init__(self, *, died: Callable[[BaseException], None]) -> None:
        self._died = died
        self.loop = trio.lowlevel.current_trio_token()
        self._errands: SimpleQueue[tuple[Errand, Callable[[Outcome[Any]], None]] | None] = SimpleQueue()
        # Held, but for moments: the thread frees it when it needs the interpreter no more.
        self._freed = threading.Lock()
        self._freed.acquire()
        self._sent = 0.0
        self._give_way_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="storage writer", daemon=True)
        self._thread.start()
        trio.lowlevel.add_instrument(self)

    def send(self, errand: Errand, then: Callable[[Outcome[Any]], None]) -> None:
        """Have `errand` done; `then` is called with its outcome on the loop."""
        self._freed.acquire(blocking=False)
        self._errands.put((errand, then))
        self._give_way()
        self._sent = monotonic()
        self._give_way_at = self._sent + GIVE_WAY_AFTER

    async def end(self) -> None:
        """Once nothing is sent any more; safe to repeat."""
        self._errands.put(None)
        await trio.to_thread.run_sync(self._thread.join)
        with suppress(KeyError):
            trio.lowlevel.remove_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        """Give way to a thread that needs the interpreter's lock, on a loop too busy to wait for anything.

        Such a loop gives the lock up for moments only, too short for a thread to take it: for seconds on end.
        """
        if timeout == 0 and self._give_way_at is not None and (now := monotonic()) >= self._give_way_at:
            self._give_way()
            # Ever more seldom: what takes long is the disk.
            self._give_way_at = now + (now - self._sent) / 2

    def _give_way(self) -> None:
        self._freed.acquire(timeout=GIVE_WAY_FOR)

    def _done(self, then: Callable[[Outcome[Any]], None], outcome: Outcome[Any]) -> None:
        self._give_way_at = None
        then(outcome)

    # --- on the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (sent := self._errands.get()) is not None:
                errand, then = sent
                self._free()
                outcome = capture(errand)
                self.loop.run_sync_soon(self._done, then, outcome)
                self._free()
        except trio.RunFinishedError:
            log.warning("the event loop ended before transactions could be answered")
        except BaseException as error:  # noqa: BLE001 - a defect of this module: nobody may wait for ever
            with suppress(trio.RunFinishedError):
                self.loop.run_sync_soon(self._died, error)

    def _free(self) -> None:
        if self._freed.locked():
            self._freed.release()


_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


def is_unavailable(error: BaseException) -> bool:
    """Whether SQLite failed for reasons of the machine; a wrong statement or a violated rule is a defect."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.Error) and code is not None and code & 0xFF in _UNAVAILABLE


def _told(error: BaseException) -> BaseException:
    if not is_unavailable(error):
        return error
    unavailable = StorageUnavailable(f"SQLite: {error}")
    unavailable.__cause__ = error
    return unavailable

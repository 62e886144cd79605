"""The one thread that writes: takes whoever waits, runs them in one transaction, commits once.

A commit costs a flush to the disk, however much it holds, so those that wait while one is under way share
the next. Each operation has a savepoint of its own: one that fails is rolled back alone. When the commit
itself fails, nothing of it is kept, and each operation is run again in a transaction of its own.
"""

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from time import monotonic
from typing import Any, Protocol, TypeVar

import trio
from attrs import field, frozen
from outcome import Error, Outcome, Value, capture

from messaging_core.ports import StorageUnavailable, Transaction

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH = 256
"""Operations in one commit; at about 0.1 ms each, what the first of them waits for at most."""
MAX_WAITING = 10_000
"""Operations that wait for the thread; beyond it, callers are told at once."""
LEND_AFTER = 0.005
"""Seconds after which an operation that has no outcome counts as starved by a busy event loop."""
LEND_FOR = 0.025
"""Seconds for which the event loop stands still at most, at a time, to let the thread work."""
LEND_AGAIN_AFTER = 0.001
"""Seconds between two times of standing still for the same operation."""
LEND_FLUSHING = 0.0002
"""The same while the disk works: long enough for the thread to go on, if the disk is done."""


class Session(Protocol):
    """A connection, and what its commits and rollbacks mean to the program."""

    @property
    def connection(self) -> sqlite3.Connection: ...

    @property
    def transaction(self) -> Transaction: ...

    def before_commit(self) -> None: ...

    def after_commit(self) -> None: ...

    def after_rollback(self) -> None:
        """Called for a savepoint too."""


@frozen(eq=False)
class _Job:
    operation: Callable[[Transaction], Any]
    committed: Callable[[Any], None] | None
    task: trio.lowlevel.Task
    since: float = field(factory=monotonic)


class Writer:
    """Runs operations in order of arrival; made and used on the event loop."""

    def __init__(self, session: Session, *, batch: int = BATCH, max_waiting: int = MAX_WAITING) -> None:
        self._session = session
        self._batch = batch
        self._max_waiting = max_waiting
        self._loop = trio.lowlevel.current_trio_token()
        # Guards what follows, and is notified when the thread has something to do, or needs no turn.
        self._state = threading.Condition()
        self._waiting: dict[_Job, None] = {}
        self._claimed: Sequence[_Job] = ()
        self._flushing = False
        self._closed: str | None = None
        self._lending = trio.CancelScope()
        self._asked = trio.lowlevel.ParkingLot()
        trio.lowlevel.spawn_system_task(self._lend_turns)
        self._thread = threading.Thread(target=self._run, name="storage writer", daemon=True)
        self._thread.start()

    # --- on the event loop ---------------------------------------------------------------------------------

    async def transact(
        self, operation: Callable[[Transaction], T], *, committed: Callable[[T], None] | None = None
    ) -> T:
        """See `messaging_core.ports.Storage.transact`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        job = _Job(operation, committed, trio.lowlevel.current_task())
        with self._state:
            if self._closed is not None:
                raise StorageUnavailable(self._closed)
            if len(self._waiting) >= self._max_waiting:
                raise StorageUnavailable(f"{len(self._waiting)} transactions wait already")
            self._waiting[job] = None
            self._state.notify()
        self._asked.unpark()

        def cancel(_: object) -> trio.lowlevel.Abort:
            # Whoever takes the job out of the queue decides: the thread to run it, or its caller not to.
            with self._state:
                withdrawn = job in self._waiting
                self._waiting.pop(job, None)
            return trio.lowlevel.Abort.SUCCEEDED if withdrawn else trio.lowlevel.Abort.FAILED

        result: T = await trio.lowlevel.wait_task_rescheduled(cancel)
        return result

    async def close(self) -> None:
        """Refuse what is new, finish what waits, and end the thread; cannot be cancelled."""
        self._refuse("The storage is closed")
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._thread.join)
        self._lending.cancel()

    async def _lend_turns(self) -> None:
        """Let the thread work when the loop is so busy that the interpreter's lock keeps it from working.

        After each call into SQLite the thread needs the lock again, and a loop without a pause gives it up
        every 5 ms only: a dozen calls take a dozen such waits. Standing still for as long as the thread runs
        operations, but not while it waits for the disk, costs the loop less than it saves the callers.
        """
        with self._lending:
            while True:
                with self._state:
                    oldest = next(iter(self._claimed or self._waiting), None)
                if oldest is None:
                    await self._asked.park()
                    await trio.sleep(LEND_AFTER)
                elif (wait := LEND_AFTER - (monotonic() - oldest.since)) > 0:
                    await trio.sleep(wait)
                else:
                    # A thread that has had this long is inside SQLite: standing still does not help it.
                    await trio.sleep(LEND_AGAIN_AFTER if self._lend_turn() else 4 * LEND_FOR)

    def _lend_turn(self) -> bool:
        """Stand still until the thread needs the lock no more; whether that was in time."""
        with self._state:
            if self._flushing:
                self._state.wait(LEND_FLUSHING)
            return self._state.wait_for(self._needs_no_turn, LEND_FOR)

    def _needs_no_turn(self) -> bool:
        return self._flushing or not (self._claimed or self._waiting)

    def _deliver(self, jobs: Sequence[_Job], outcomes: Sequence[Outcome[Any]]) -> None:
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.committed is not None and isinstance(outcome, Value):
                try:
                    job.committed(outcome.value)
                except Exception:
                    log.exception("what was committed could not be told")
        for job, outcome in zip(jobs, outcomes, strict=True):
            trio.lowlevel.reschedule(job.task, outcome)

    # --- on the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while jobs := self._claim():
                self._hand_over(jobs, self._outcomes(jobs))
        except BaseException as error:
            # A defect of this module. Nobody may wait for a thread that is no more.
            log.critical("the storage's thread has died: restart the process", exc_info=True)
            self._refuse("The storage's thread has died")
            with self._state:
                waiting, self._waiting = tuple(self._waiting), {}
            unknown = RuntimeError("The storage's thread has died: it is not known what was committed")
            unknown.__cause__ = error
            nothing = StorageUnavailable("The storage's thread has died")
            self._hand_over(
                (*self._claimed, *waiting),
                [Error(unknown) for _ in self._claimed] + [Error(nothing) for _ in waiting],
            )

    def _claim(self) -> Sequence[_Job]:
        with self._state:
            self._state.wait_for(lambda: self._waiting or self._closed is not None)
            self._claimed = tuple(islice(self._waiting, self._batch))
            for job in self._claimed:
                del self._waiting[job]
            return self._claimed

    def _outcomes(self, jobs: Sequence[_Job]) -> list[Outcome[Any]]:
        try:
            self._session.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            # Somebody else writes, for longer than we wait: to ask again for each alone would take as long.
            return [Error(_told(error)) for _ in jobs]
        try:
            outcomes = self._commit(jobs)
        except BaseException as error:  # noqa: BLE001 - goes to whoever asked for it
            if len(jobs) > 1:
                return [self._outcomes((job,))[0] for job in jobs]
            return [Error(_told(error))]
        self._session.after_commit()
        return outcomes

    def _commit(self, jobs: Sequence[_Job]) -> list[Outcome[Any]]:
        """Run and commit all of `jobs`; whatever is raised, nothing of it is kept."""
        session = self._session
        try:
            outcomes = [self._in_savepoint(job) for job in jobs]
            session.before_commit()
            self._flush()
        except BaseException:
            session.after_rollback()
            # A full disk or a failing one has rolled back already.
            if session.connection.in_transaction:
                session.connection.execute("ROLLBACK")
            raise
        return outcomes

    def _flush(self) -> None:
        with self._state:
            self._flushing = True
            self._state.notify()
        try:
            self._session.connection.execute("COMMIT")
        finally:
            with self._state:
                self._flushing = False
                self._state.notify()

    def _in_savepoint(self, job: _Job) -> Outcome[Any]:
        connection = self._session.connection
        connection.execute("SAVEPOINT operation")
        outcome: Outcome[Any] = capture(job.operation, self._session.transaction)
        if isinstance(outcome, Error):
            if is_unavailable(outcome.error) or not connection.in_transaction:
                raise outcome.error
            connection.execute("ROLLBACK TO operation")
            self._session.after_rollback()
        connection.execute("RELEASE operation")
        return outcome

    def _hand_over(self, jobs: Sequence[_Job], outcomes: Sequence[Outcome[Any]]) -> None:
        try:
            self._loop.run_sync_soon(self._deliver, jobs, outcomes)
        except trio.RunFinishedError:
            log.warning("the event loop ended before %d transactions could be answered", len(jobs))
        with self._state:
            self._claimed = ()
            self._state.notify()

    def _refuse(self, reason: str) -> None:
        with self._state:
            self._closed = self._closed or reason
            self._state.notify()


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

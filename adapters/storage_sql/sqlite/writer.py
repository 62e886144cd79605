"""Runs all transactions on the file: on the event loop, one after another, batched and committed by a policy.

`commit_policy` decides when a transaction begins, which operations share it, whether the loop or the thread
commits it, and when a checkpoint is due. The writer does so.

An operation that is too large for the loop leaves its batch, and runs alone in the thread, where it may load
and store the people of a large chat. The thread commits, too.

An operation that is refused has changed nothing yet, so the others of its batch go on. If an operation fails
after a change, or the commit fails, the whole transaction is rolled back, and each of its operations runs
again in a transaction of its own.
"""

import logging
import os
import sqlite3
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol, TypeVar, cast

from attrs import define
from outcome import Error, Outcome, Value, capture

from adapters.storage_sql.event_loop import (
    Caller,
    Gate,
    current_caller,
    end_turn,
    park,
    protected_from_ctrl_c,
    raise_if_cancelled,
    shielded,
    start_task,
    wake,
)
from adapters.storage_sql.sqlite.commit_policy import CommitPolicy
from adapters.storage_sql.sqlite.errors import error_for_caller, is_unavailable
from adapters.storage_sql.sqlite.loop_limit import LoopLimit, TooLargeForLoop
from adapters.storage_sql.sqlite.loop_turns import LoopTurns
from adapters.storage_sql.worker_thread import LoopPauses, ShortSwitches, WorkerThread
from messaging_core.ports import StorageUnavailable, Transaction

log = logging.getLogger(__name__)

T = TypeVar("T")
V = TypeVar("V")

MAX_WAITING = 10_000
"""Operations in the queue; beyond it, callers are refused at once."""
LOCK_TIMEOUT = 5.0
"""Seconds for which the thread waits while another program writes: a backup, or a shell."""


class WriteSession(Protocol):
    """A connection, and what its commits and rollbacks mean to the program."""

    @property
    def connection(self) -> sqlite3.Connection:
        """Never waits for a lock: its `busy_timeout` is 0."""

    @property
    def transaction(self) -> Transaction: ...

    @property
    def limit(self) -> LoopLimit:
        """What `transaction` may do on the thread that runs it."""

    def before_commit(self) -> None: ...

    def after_commit(self) -> None: ...

    def after_rollback(self) -> None: ...


@define(eq=False)
class _Job:
    operation: Callable[[Transaction], Any]
    committed: Callable[[Any], None] | None
    caller: Caller | None = None
    """The caller, once it waits for the outcome."""
    outcome: Outcome[Any] | None = None
    """The outcome, if there is one before the caller waits."""
    is_large: bool = False
    """Whether the operation was found too large for the event loop."""

    def run(self, function: Callable[[V], T], argument: V) -> T:
        """Call `function` in the caller's context, so that its log lines show the caller's `request_id`."""
        if self.caller is None:  # the caller's own task runs it
            return function(argument)
        return self.caller.context.run(function, argument)

    def notify_committed(self, value: object) -> None:
        if self.committed is not None:
            try:
                self.committed(value)
            except Exception:
                log.exception("the callback of a committed transaction failed")

    def resolve(self, outcome: Outcome[Any]) -> None:
        if self.caller is None:
            self.outcome = outcome
        else:
            wake(self.caller, outcome)


class Writer:
    """Runs operations in order of arrival; created and used on the event loop."""

    def __init__(
        self, session: WriteSession, loop_turns: LoopTurns, pauses: LoopPauses, switches: ShortSwitches
    ) -> None:
        self._session = session
        self._switches = switches
        self._has_been_idle = loop_turns.idle_detector()
        self._policy = CommitPolicy(session.connection.total_changes)
        self._max_waiting = MAX_WAITING
        self._waiting: dict[_Job, None] = {}
        self._retries: deque[_Job] = deque()
        """Jobs of a failed batch, and large ones, each to run again in a transaction of its own."""
        self._batch: deque[_Job] = deque()
        """The jobs of the current transaction; they can no longer be cancelled."""
        self._outcomes: list[Outcome[Any]] = []
        """The outcomes of the batch's operations, in its order."""
        self._busy = False
        self._idle = Gate()
        self._commit_seconds = 0.0
        _, _, path = session.connection.execute("PRAGMA database_list").fetchone()
        self._log_path = f"{path}-wal"
        self._closed: str | None = None
        """Why new transactions are refused."""
        self._has_failed = False
        self._has_ended = False
        self._thread = WorkerThread("writer", pauses, failed=self._thread_failed)
        self._is_due = False
        """Whether the next transaction is to begin."""
        self._runner_waits = Gate()
        self._end_runner = start_task(self._run_transactions)

    # Ctrl-C in between would leave a job whose caller waits for something else by then.
    @protected_from_ctrl_c
    async def transact(
        self, operation: Callable[[Transaction], T], *, committed: Callable[[T], None] | None = None
    ) -> T:
        """See `messaging_core.ports.Storage.transact`."""
        await raise_if_cancelled()
        if self._closed is not None:
            raise StorageUnavailable(self._closed)
        if len(self._waiting) >= self._max_waiting:
            raise StorageUnavailable(f"{len(self._waiting)} transactions are waiting already")
        job = _Job(operation, committed)
        self._waiting[job] = None
        was_idle = self._has_been_idle()
        if not self._busy:
            if self._policy.begins_at_once(loop_was_idle=was_idle):
                self._busy = True
                self._guarded(self._begin)
            else:
                self._schedule_next()
        if job.outcome is not None:
            return cast("T", job.outcome.unwrap())
        job.caller = current_caller()

        def leave() -> bool:
            # A job that has left the queue runs, and its caller gets the outcome.
            if job not in self._waiting:
                return False
            del self._waiting[job]
            return True

        result: T = await park(leave)
        return result

    async def close(self) -> None:
        """Refuse new transactions, finish those that wait, and end the thread; cannot be cancelled."""
        self._closed = self._closed or "The storage is closed"
        with shielded():
            while self._busy:
                await self._idle.park()
            if not self._has_ended:
                self._has_ended = True
                self._end_runner()
                self._roll_back()
            await self._thread.end()

    # --- one transaction after another ---------------------------------------------------------------------

    def _schedule_next(self) -> None:
        """Begin a checkpoint or the next transaction, if one is due."""
        if self._has_failed:
            # The thread may have ended, and would never finish what it is sent.
            self._busy = False
            self._idle.unpark_all()
            return
        self._busy = bool(self._retries or self._waiting)
        if self._policy.checkpoint_is_due(self._log_size):
            self._busy = True
            self._policy.checkpoint_begins()
            self._run_in_thread(self._checkpoint, lambda _: self._schedule_next())
        elif self._busy:
            self._is_due = True
            self._runner_waits.unpark()
        else:
            self._idle.unpark_all()

    def _log_size(self) -> int:
        try:
            return os.stat(self._log_path).st_size  # noqa: PTH116 - a Path takes twice as long
        except OSError:  # deleted by another program: the next commit reports it
            return 0

    async def _run_transactions(self) -> None:
        """Begin a transaction whenever one is due."""
        while True:
            if self._is_due:
                await end_turn()  # callers that just got their outcomes run first
            else:
                await self._runner_waits.park()
            self._is_due = False
            await self._gather()
            self._guarded(self._begin)

    async def _gather(self) -> None:
        """Wait for operations to share the transaction, while each turn of the loop brings one."""
        seen, turns = 0, 0 if self._retries else self._policy.gathering_turns()
        while turns and len(self._waiting) > seen:
            seen, turns = len(self._waiting), turns - 1
            await end_turn()

    def _guarded(self, step: Callable[..., None], *args: object) -> None:
        try:
            step(*args)
        except BaseException as error:
            # A defect of this module. No caller may wait for a step that does not come.
            log.critical("the storage has failed: restart the process", exc_info=True)
            self._fail_for_good(error)

    def _thread_failed(self, error: BaseException) -> None:
        def fail() -> None:
            raise error

        self._guarded(fail)

    def _run_in_thread(self, work: Callable[[], object], then: Callable[[Outcome[Any]], None]) -> None:
        self._thread.call(work, lambda outcome: self._guarded(then, outcome))

    def _begin(self) -> None:
        try:
            self._session.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            # Another program writes, and the event loop cannot wait for it.
            self._run_in_thread(self._begin_patiently, self._after_patient_begin)
        else:
            self._run_batch()

    def _after_patient_begin(self, begun: Outcome[None]) -> None:
        if isinstance(begun, Error):
            # A retry for each job alone would take as long again.
            self._batch.extend((*self._retries, *self._waiting))
            self._retries.clear()
            self._waiting.clear()
            self._outcomes = [Error(error_for_caller(begun.error)) for _ in self._batch]
            self._resolve_batch()
        else:
            self._run_batch()

    def _run_batch(self) -> None:
        policy, batch = self._policy, self._batch
        started = monotonic()
        try:
            if self._retries:
                batch.append(self._retries.popleft())
                if batch[0].is_large:
                    self._run_large(batch[0])
                    return
                self._run(batch[0])
            else:
                while self._waiting and policy.batch_has_room(len(batch), monotonic() - started):
                    job = next(iter(self._waiting))
                    del self._waiting[job]
                    batch.append(job)
                    self._run(job)
        except BaseException as error:  # noqa: BLE001 - goes to the caller
            self._fail_batch(error)
        else:
            self._end_batch()

    def _run(self, job: _Job) -> None:
        """Run the last job of the batch; one that turns out to be large leaves the batch."""
        outcome = self._outcome_of(job)
        if job.is_large:
            self._retries.append(self._batch.pop())
        else:
            self._outcomes.append(outcome)

    def _run_large(self, job: _Job) -> None:
        self._session.limit.is_on_loop = False
        self._switches.begin()
        self._run_in_thread(lambda: self._outcome_of(job), self._after_large)

    def _after_large(self, outcome: Outcome[Outcome[Any]]) -> None:
        self._switches.end()
        self._session.limit.is_on_loop = True
        if isinstance(outcome, Value):
            self._outcomes.append(outcome.value)
            self._end_batch()
        elif isinstance(outcome, Error):
            self._fail_batch(outcome.error)

    def _end_batch(self) -> None:
        """Commit the transaction of a batch whose operations have all run."""
        policy = self._policy
        policy.batch_ended(len(self._batch))
        try:
            self._session.before_commit()
        except BaseException as error:  # noqa: BLE001 - goes to the caller
            self._fail_batch(error)
            return
        if policy.commit_begins(self._session.connection.total_changes):
            self._run_in_thread(self._commit, self._after_commit)
        else:
            self._after_commit(capture(self._commit))

    def _fail_batch(self, error: BaseException) -> None:
        self._roll_back()
        self._after_failure(error)

    def _outcome_of(self, job: _Job) -> Outcome[Any]:
        connection = self._session.connection
        changes = connection.total_changes
        outcome: Outcome[Any] = capture(job.run, job.operation, self._session.transaction)
        if isinstance(outcome, Error):
            job.is_large = isinstance(outcome.error, TooLargeForLoop)
            if (
                connection.total_changes != changes
                or not connection.in_transaction
                or is_unavailable(outcome.error)
            ):
                raise outcome.error
        return outcome

    def _after_commit(self, commit: Outcome[None]) -> None:
        self._policy.commit_ended(self._commit_seconds)
        if isinstance(commit, Error):
            self._after_failure(commit.error)
        else:
            self._session.after_commit()
            self._policy.rows_committed(self._session.connection.total_changes)
            self._resolve_batch()

    def _after_failure(self, error: BaseException) -> None:
        """Retry the jobs of a transaction that was rolled back, or fail its only job."""
        self._session.after_rollback()
        self._outcomes = [Error(error_for_caller(error))]
        if len(self._batch) > 1 or isinstance(error, TooLargeForLoop):
            self._retries.extend(self._batch)
            self._batch.clear()
            self._outcomes = []
        self._resolve_batch()

    def _resolve_batch(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        for job, outcome in zip(self._batch, outcomes, strict=True):
            if isinstance(outcome, Value):
                job.run(job.notify_committed, outcome.value)
        for outcome in outcomes:
            self._batch.popleft().resolve(outcome)
        self._schedule_next()

    def _fail_for_good(self, error: BaseException) -> None:
        self._has_failed = True
        self._closed = "The storage has failed"
        unknown = RuntimeError("The storage has failed: it is not known what was committed")
        unknown.__cause__ = error
        begun, waiting = (*self._batch, *self._retries), tuple(self._waiting)
        for jobs in (self._batch, self._retries, self._waiting):
            jobs.clear()
        for job in begun:
            job.resolve(Error(unknown))
        for job in waiting:
            job.resolve(Error(StorageUnavailable(self._closed)))
        self._schedule_next()

    # --- on the thread -------------------------------------------------------------------------------------

    def _begin_patiently(self) -> None:
        execute = self._session.connection.execute
        execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT * 1000:.0f}")
        try:
            execute("BEGIN IMMEDIATE")
        finally:
            execute("PRAGMA busy_timeout = 0")

    def _checkpoint(self) -> None:
        self._session.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    # --- on the loop or the thread -------------------------------------------------------------------------

    def _commit(self) -> None:
        started = monotonic()
        try:
            self._session.connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._commit_seconds = monotonic() - started

    def _roll_back(self) -> None:
        # On a full or failing disk SQLite may have rolled back already.
        if self._session.connection.in_transaction:
            self._session.connection.execute("ROLLBACK")

"""A bounded number of threads, each with its own connection, for calls that would block the event loop.

A call leaves the queue atomically: if its caller is cancelled before, the call never runs; once a thread has
the call, the caller gets its outcome, whatever happens.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from attrs import define, field
from outcome import Error, Outcome, capture

from adapters.storage_sql.event_loop import (
    Caller,
    EventLoop,
    Gate,
    LoopEnded,
    current_caller,
    park,
    protected_from_ctrl_c,
    raise_if_cancelled,
    wake,
)
from adapters.storage_sql.worker_thread import LoopPauses, WorkerThread
from messaging_core.ports import StorageUnavailable

log = logging.getLogger(__name__)

MAX_WAITING = 10_000
"""Calls in a pool's queue; beyond it, callers are refused at once."""


class PooledConnection(Protocol):
    """A thread's connection, which the thread itself opens."""

    def abort(self) -> None:
        """Make a wait for the server fail at once; called on another thread."""

    def close(self) -> None: ...


ConnectionT = TypeVar("ConnectionT", bound=PooledConnection)
Work = Callable[[ConnectionT, "Call[ConnectionT]"], Outcome[Any] | None]
"""Returns the outcome, or None if it calls `ThreadPool.resolve` later."""


@define(eq=False)
class Call(Generic[ConnectionT]):
    """A call in the queue or in a thread."""

    work: Work[ConnectionT]
    caller: Caller | None
    """None once the caller no longer waits."""
    is_resolved: bool = False
    queued_at: float = field(factory=monotonic)
    started_at: float = 0.0


class ThreadPool(Generic[ConnectionT]):
    """Runs calls in order of arrival, one on each connection; created and used on the event loop."""

    def __init__(
        self,
        name: str,
        connections: list[ConnectionT],
        pauses: LoopPauses,
        *,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self.loop = EventLoop()
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._waiting: dict[Call[ConnectionT], None] = {}
        self._threads = [
            _PoolThread(f"{name} {number}", connection, self, pauses)
            for number, connection in enumerate(connections, 1)
        ]
        # The thread that was busy last comes first: its connection is open, and others may never open one.
        self._idle = self._threads[::-1]
        self._closed: str | None = None
        """Why calls are refused."""
        self._active_calls = 0
        self._no_calls = Gate()

    # Ctrl-C in between would leave a call whose caller waits for something else by then.
    @protected_from_ctrl_c
    async def call(self, work: Work[ConnectionT], *, may_abandon: bool = False) -> Any:
        """Run `work` in a thread; with `may_abandon`, a cancelled caller does not wait for its end."""
        await raise_if_cancelled()
        if self._closed is not None:
            raise StorageUnavailable(self._closed)
        call = Call(work, current_caller())
        with self._lock:
            if len(self._waiting) >= self._max_waiting:
                raise StorageUnavailable(f"{len(self._waiting)} calls are waiting already")
            if self._idle:
                self._idle.pop().begin(call)
            else:
                self._waiting[call] = None
        self._active_calls += 1

        def leave() -> bool:
            with self._lock:
                has_started = call not in self._waiting
                self._waiting.pop(call, None)
            if has_started and not may_abandon:
                return False
            call.caller = None
            if not has_started:
                self._call_ended()
            return True

        return await park(leave)

    def resolve(self, call: Call[ConnectionT], outcome: Outcome[Any]) -> None:
        """Give a call its outcome; on the loop. A second one is ignored."""
        if call.is_resolved:
            return
        call.is_resolved = True
        if call.caller is not None:
            caller, call.caller = call.caller, None
            wake(caller, outcome)
        self._call_ended()

    def resolve_from_thread(self, call: Call[ConnectionT], outcome: Outcome[Any]) -> None:
        """Call `resolve` from a thread."""
        with suppress(LoopEnded):
            self.loop.run_soon(self.resolve, call, outcome)

    def enforce_timeout(self, seconds: float) -> None:
        """End calls that have waited so long for a thread, and abort connections whose call takes so long."""
        now = monotonic()
        with self._lock:
            late = [call for call in self._waiting if now - call.queued_at > seconds]
            for call in late:
                del self._waiting[call]
        for call in late:
            self.resolve(call, Error(StorageUnavailable(f"No connection was free for {seconds:g} s")))
        for thread in self._threads:
            running = thread.call
            if running is not None and now - running.started_at > seconds:
                thread.connection.abort()

    async def close(self) -> None:
        """Refuse new calls, wait for the active ones, and end the threads; safe to repeat."""
        self._closed = self._closed or "The storage is closed"
        while self._active_calls:
            await self._no_calls.park()
        for thread in self._threads:
            thread.worker.send(thread.connection.close)
            await thread.worker.end()

    def thread_failed(self, thread: "_PoolThread[ConnectionT]", error: BaseException) -> None:
        """A thread has ended by a defect: refuse all calls, because those that it would run wait for ever."""
        log.critical("the storage has failed: restart the process", exc_info=error)
        self._closed = "The storage has failed"
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
        for call in waiting:
            self.resolve(call, Error(StorageUnavailable(self._closed)))
        if thread.call is not None:
            unknown = RuntimeError("The storage has failed: it is not known what was committed")
            unknown.__cause__ = error
            self.resolve(thread.call, Error(unknown))

    def _call_ended(self) -> None:
        self._active_calls -= 1
        if not self._active_calls:
            self._no_calls.unpark_all()

    # --- on the threads ------------------------------------------------------------------------------------

    def next_for(self, thread: "_PoolThread[ConnectionT]") -> Call[ConnectionT] | None:
        """Take the call that waits longest; None if there is none, and the thread is idle from now on."""
        with self._lock:
            thread.call = None
            for call in self._waiting:
                del self._waiting[call]
                return call
            self._idle.append(thread)
        return None


class _PoolThread(Generic[ConnectionT]):
    def __init__(
        self, name: str, connection: ConnectionT, pool: ThreadPool[ConnectionT], pauses: LoopPauses
    ) -> None:
        self.connection = connection
        self.call: Call[ConnectionT] | None = None
        """The call that it runs."""
        self._pool = pool
        self.worker = WorkerThread(name, pauses, failed=partial(pool.thread_failed, self))

    def begin(self, call: Call[ConnectionT]) -> None:
        """Run a call on this idle thread, and then those that wait."""
        self.worker.send(partial(self._serve, call))

    def _serve(self, call: Call[ConnectionT] | None) -> None:
        while call is not None:
            call.started_at = monotonic()
            self.call = call
            outcome = capture(call.work, self.connection, call)
            if isinstance(outcome, Error):
                self._pool.resolve_from_thread(call, outcome)
            elif outcome.value is not None:
                self._pool.resolve_from_thread(call, outcome.value)
            call = self._pool.next_for(self)

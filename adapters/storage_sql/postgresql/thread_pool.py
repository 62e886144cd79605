"""A bounded number of threads, each with its own connection, for calls that would block the event loop.

A call leaves the queue atomically: if its caller is cancelled before, the call never runs; once a thread has
the call, the caller gets its outcome, whatever happens.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any, Generic, Protocol, TypeVar

import trio
from attrs import define, field
from outcome import Error, Outcome, capture

from messaging_core.ports import StorageUnavailable

log = logging.getLogger(__name__)

MAX_WAITING = 10_000
"""Calls in a pool's queue; beyond it, callers are refused at once."""
PAUSE_EVERY = 0.002
"""Seconds between two pauses of a busy event loop."""
PAUSE_SECONDS = 0.00005
"""Seconds of a pause; waking the loop's thread takes the system about as long again."""


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
    """A caller, and its work."""

    work: Work[ConnectionT]
    task: trio.lowlevel.Task | None
    """None once the caller no longer waits."""
    queued_at: float = field(factory=monotonic)
    started_at: float = 0.0


class ThreadPool(Generic[ConnectionT]):
    """Runs calls in order of arrival, one on each connection; created and used on the event loop."""

    def __init__(self, name: str, connections: list[ConnectionT], *, max_waiting: int = MAX_WAITING) -> None:
        self.loop = trio.lowlevel.current_trio_token()
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._waiting: dict[Call[ConnectionT], None] = {}
        self._threads = [
            _PoolThread(f"{name} {number}", connection, self)
            for number, connection in enumerate(connections, 1)
        ]
        # The thread that was busy last comes first: its connection is open, and others may never open one.
        self._idle = self._threads[::-1]
        self._closed = False
        self.active_calls = 0
        self._no_calls = trio.lowlevel.ParkingLot()

    # Ctrl-C in between would leave a call whose caller waits for something else by then.
    @trio.lowlevel.enable_ki_protection
    async def call(self, work: Work[ConnectionT], *, may_abandon: bool = False) -> Any:
        """Run `work` in a thread; with `may_abandon`, a cancelled caller does not wait for its end."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed:
            raise StorageUnavailable("The storage is closed")
        call = Call(work, trio.lowlevel.current_task())
        with self._lock:
            if len(self._waiting) >= self._max_waiting:
                raise StorageUnavailable(f"{len(self._waiting)} transactions are waiting already")
            if self._idle:
                self._idle.pop().send(call)
            else:
                self._waiting[call] = None
        self.active_calls += 1

        def cancel(_: object) -> trio.lowlevel.Abort:
            with self._lock:
                has_started = call not in self._waiting
                self._waiting.pop(call, None)
            if has_started and not may_abandon:
                return trio.lowlevel.Abort.FAILED
            call.task = None
            if not has_started:
                self._call_ended()
            return trio.lowlevel.Abort.SUCCEEDED

        return await trio.lowlevel.wait_task_rescheduled(cancel)

    def resolve(self, call: Call[ConnectionT], outcome: Outcome[Any]) -> None:
        """Give a call its outcome; on the loop, once for each call."""
        if call.task is not None:
            task, call.task = call.task, None
            trio.lowlevel.reschedule(task, outcome)
        self._call_ended()

    def resolve_from_thread(self, call: Call[ConnectionT], outcome: Outcome[Any]) -> None:
        """Call `resolve` from a thread."""
        with suppress(trio.RunFinishedError):
            self.loop.run_sync_soon(self.resolve, call, outcome)

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
        self._closed = True
        while self.active_calls:
            await self._no_calls.park()
        for thread in self._threads:
            thread.send(None)
        for thread in self._threads:
            await trio.to_thread.run_sync(thread.join)

    def _call_ended(self) -> None:
        self.active_calls -= 1
        if not self.active_calls:
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


class LoopPauses(trio.abc.Instrument):
    """Pauses a busy event loop for a moment every `PAUSE_EVERY` while there are active calls.

    Such a loop releases the interpreter's lock for moments only, which are too short for a thread to take it:
    for seconds on end. A thread needs the lock once after each wait for the server.
    """

    def __init__(self, *pools: ThreadPool[Any]) -> None:
        self._pools = pools
        self._pause_at = 0.0

    def before_io_wait(self, timeout: float) -> None:
        if timeout == 0 and any(pool.active_calls for pool in self._pools) and monotonic() >= self._pause_at:
            sleep(PAUSE_SECONDS)
            self._pause_at = monotonic() + PAUSE_EVERY


class _PoolThread(Generic[ConnectionT]):
    def __init__(self, name: str, connection: ConnectionT, pool: ThreadPool[ConnectionT]) -> None:
        self.connection = connection
        self.call: Call[ConnectionT] | None = None
        self._pool = pool
        self._queue: SimpleQueue[Call[ConnectionT] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"storage {name}", daemon=True)
        self._thread.start()

    def send(self, call: Call[ConnectionT] | None) -> None:
        """Run a call on this idle thread, or end the thread."""
        self._queue.put(call)

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        while (call := self._queue.get()) is not None:
            following: Call[ConnectionT] | None = call
            while following is not None:
                self._do(following)
                following = self._pool.next_for(self)
        self.connection.close()

    def _do(self, call: Call[ConnectionT]) -> None:
        call.started_at = monotonic()
        self.call = call
        outcome = capture(call.work, self.connection, call)
        if isinstance(outcome, Error):
            self._pool.resolve_from_thread(call, outcome)
        elif outcome.value is not None:
            self._pool.resolve_from_thread(call, outcome.value)

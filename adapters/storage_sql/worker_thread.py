"""A thread for what would block the event loop, and the pauses that let it run beside a busy loop."""

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from time import monotonic, sleep
from typing import Any

from outcome import Outcome, capture

from adapters.storage_sql.event_loop import EventLoop, LoopEnded, TurnObserver, in_thread, start_thread

log = logging.getLogger(__name__)

PAUSE_EVERY = 0.002
"""Seconds between two pauses of a busy event loop."""
PAUSE_SECONDS = 0.00005
"""Seconds of a pause; waking the loop's thread takes the system about as long again."""

SWITCH_INTERVAL = 0.0001
"""Seconds for which a thread keeps the interpreter's lock while the loop wants it. The loop releases the
lock at each system call; with Python's default it would wait 0.005 each time."""
USUAL_SWITCH_INTERVAL = sys.getswitchinterval()
"""The interval as the program begins: later another thread, or another storage, may have shortened it."""

Work = Callable[[], object]


class WorkerThread:
    """Does one piece of work after another off the event loop, in order; created and used on the loop.

    `failed` is called on the loop if the thread ends by an error, after which it does nothing more.
    """

    def __init__(self, name: str, pauses: "LoopPauses", *, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._loop = EventLoop()
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._sent = 0
        self._done = 0
        self._pauses = pauses
        self._thread = start_thread(name, self._run)
        pauses.add(self)

    @property
    def is_busy(self) -> bool:
        """Whether the thread has work."""
        return self._sent != self._done

    def send(self, work: Work) -> None:
        """Run `work`, which must not raise: it reports to the loop by itself."""
        self._sent += 1
        self._pauses.may_be_needed = True
        self._work.put(work)

    def call(self, work: Work, then: Callable[[Outcome[Any]], None]) -> None:
        """Run `work`, and then call `then` with its outcome on the loop."""
        self.send(lambda: self._loop.run_soon(then, capture(work)))
        self._pauses.pause()

    async def end(self) -> None:
        """End the thread after the last `send`; safe to repeat."""
        self._work.put(None)
        await in_thread(self._thread.join)
        self._pauses.remove(self)

    # --- on the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (work := self._work.get()) is not None:
                work()
                self._done += 1
        except LoopEnded:
            log.warning("the event loop ended before the storage could respond to its callers")
        except BaseException as error:  # noqa: BLE001 - a defect of this module: no caller may wait for ever
            with suppress(LoopEnded):
                self._loop.run_soon(self._failed, error)


class LoopPauses(TurnObserver):
    """Pauses a busy event loop for a moment every `PAUSE_EVERY` while a thread has work.

    Such a loop releases the interpreter's lock for moments only, which are too short for a thread to take it:
    for seconds on end. A thread needs the lock once after each wait for the disk or a server.
    """

    def __init__(self) -> None:
        super().__init__()
        self._threads: dict[WorkerThread, None] = {}
        self._pause_at = 0.0
        self.may_be_needed = False
        """Whether a thread was sent work since all were found without any: usually none has any."""

    def add(self, thread: WorkerThread) -> None:
        """Pause for this thread too."""
        self._threads[thread] = None

    def remove(self, thread: WorkerThread) -> None:
        """Pause for this thread no longer; after the last one, observe no more turns. Safe to repeat."""
        self._threads.pop(thread, None)
        if not self._threads:
            self.end_observation()

    def pause(self) -> None:
        """Let a thread that was just sent work begin it."""
        sleep(PAUSE_SECONDS)
        self._pause_at = monotonic() + PAUSE_EVERY

    def before_io_wait(self, timeout: float) -> None:
        if timeout == 0 and self.may_be_needed and monotonic() >= self._pause_at:
            if any(thread.is_busy for thread in self._threads):
                self.pause()
            else:
                self.may_be_needed = False


class ShortSwitches:
    """Keeps the interpreter's switch interval short while threads run interpreted code beside the loop."""

    def __init__(self) -> None:
        self._threads = 0

    def begin(self) -> None:
        """A thread begins to run interpreted code; on the loop, like `end`."""
        self._threads += 1
        sys.setswitchinterval(SWITCH_INTERVAL)

    def end(self) -> None:
        self._threads -= 1
        if not self._threads:
            sys.setswitchinterval(USUAL_SWITCH_INTERVAL)

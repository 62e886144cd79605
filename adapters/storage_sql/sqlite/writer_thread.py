"""The writer's thread, which does what would block the event loop for long."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from time import monotonic

import trio
from outcome import Outcome, capture

log = logging.getLogger(__name__)

FIRST_PAUSE_AFTER = 0.001
"""Seconds after which a busy event loop first pauses for a thread that has not finished."""
PAUSE_SECONDS = 0.0002
"""Seconds of one pause at most; the thread needs a tenth of it."""

Work = Callable[[], object]


class WriterThread(trio.abc.Instrument):
    """Does one piece of work at a time off the event loop, and passes its outcome to the loop.

    `failed` is called on the loop if the thread itself ends by a defect.
    """

    def __init__(self, *, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._loop = trio.lowlevel.current_trio_token()
        self._work: SimpleQueue[tuple[Work, Callable[[Outcome[object]], None]] | None] = SimpleQueue()
        # Locked almost always: the thread releases it when it no longer needs the interpreter's lock.
        self._pause = threading.Lock()
        self._pause.acquire()
        self._sent_at = 0.0
        self._pause_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="storage writer", daemon=True)
        self._thread.start()
        trio.lowlevel.add_instrument(self)

    def send(self, work: Work, then: Callable[[Outcome[object]], None]) -> None:
        """Run `work` in the thread, and then call `then` with its outcome on the loop."""
        self._pause.acquire(blocking=False)
        self._work.put((work, then))
        self._pause_loop()
        self._sent_at = monotonic()
        self._pause_at = self._sent_at + FIRST_PAUSE_AFTER

    async def end(self) -> None:
        """End the thread after the last `send`; safe to repeat."""
        self._work.put(None)
        await trio.to_thread.run_sync(self._thread.join)
        with suppress(KeyError):
            trio.lowlevel.remove_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        """Pause a loop that is too busy to wait for I/O, while the thread needs the interpreter's lock.

        Such a loop releases that lock for moments only, which are too short for a thread to take it: for
        seconds on end.
        """
        if timeout == 0 and self._pause_at is not None and (now := monotonic()) >= self._pause_at:
            self._pause_loop()
            # The interval grows: work that takes long waits for the disk, not for the lock.
            self._pause_at = now + (now - self._sent_at) / 2

    def _pause_loop(self) -> None:
        self._pause.acquire(timeout=PAUSE_SECONDS)

    def _finish(self, then: Callable[[Outcome[object]], None], outcome: Outcome[object]) -> None:
        self._pause_at = None
        then(outcome)

    # --- on the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (sent := self._work.get()) is not None:
                work, then = sent
                self._end_pause()
                outcome = capture(work)
                self._loop.run_sync_soon(self._finish, then, outcome)
                self._end_pause()
        except trio.RunFinishedError:
            log.warning("the event loop ended before the storage could answer its transactions")
        except BaseException as error:  # noqa: BLE001 - a defect of this module: no caller may wait for ever
            with suppress(trio.RunFinishedError):
                self._loop.run_sync_soon(self._failed, error)

    def _end_pause(self) -> None:
        if self._pause.locked():
            self._pause.release()

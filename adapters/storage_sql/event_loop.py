"""What the storages need of the event loop; no other module here names trio, so this one is what another loop
would replace.

- `current_caller`, `park` and `wake`: a task waits until an outcome is at hand.
- `EventLoop.run_soon`: any thread calls a function on the loop.
- `sleep`, `end_turn` and `Gate`: a task waits for time, for the loop's next turn, or for another task.
- `in_thread` and `start_thread`: what would block the loop.
- `start_task`: a task of the storage's own.
- `TurnObserver`: learns of each turn of the loop.
"""

import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, suppress
from typing import Any

import trio

Caller = trio.lowlevel.Task
"""A task that can be parked; its `context` is the caller's."""

current_caller = trio.lowlevel.current_task
wake = trio.lowlevel.reschedule
"""Resume a parked task with an outcome; on the loop, once for each `park`."""

protected_from_ctrl_c = trio.lowlevel.enable_ki_protection
"""Decorates a function that Ctrl-C must not interrupt between two of its waits."""

sleep = trio.sleep
sleep_forever = trio.sleep_forever
end_turn = trio.lowlevel.checkpoint
"""Let the other tasks run; raises the cancellation of a cancelled caller."""
raise_if_cancelled = trio.lowlevel.checkpoint_if_cancelled

Gate = trio.lowlevel.ParkingLot
"""Tasks wait at it by `park`, until another one opens it by `unpark` or `unpark_all`."""

in_thread = trio.to_thread.run_sync
"""Run a function in one of the loop's own threads; it cannot be cancelled."""


class LoopEnded(Exception):
    """The event loop runs no more functions."""


class EventLoop:
    """The loop that runs the task which creates this."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()

    def run_soon(self, function: Callable[..., object], *args: object) -> None:
        """Call `function` on the loop, in the order of these calls; from any thread. Raises `LoopEnded`."""
        try:
            self._token.run_sync_soon(function, *args)
        except trio.RunFinishedError:
            raise LoopEnded from None


async def park(leave: Callable[[], bool]) -> Any:
    """Wait until `wake` passes an outcome to this task.

    If the caller is cancelled meanwhile, `leave` says whether it leaves at once; otherwise it waits on.
    """

    def abort(_: object) -> trio.lowlevel.Abort:
        return trio.lowlevel.Abort.SUCCEEDED if leave() else trio.lowlevel.Abort.FAILED

    return await trio.lowlevel.wait_task_rescheduled(abort)


def start_thread(name: str, run: Callable[[], object]) -> threading.Thread:
    """Start a thread that does not keep the process alive; raises `RuntimeError` if the system has none."""
    thread = threading.Thread(target=run, name=f"storage {name}", daemon=True)
    thread.start()
    return thread


def start_task(run: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Run a task beside the callers'; returns a function that ends it."""
    scope = trio.CancelScope()

    async def run_in_scope() -> None:
        with scope:
            await run()

    trio.lowlevel.spawn_system_task(run_in_scope, name=run)
    return scope.cancel


def shielded() -> AbstractContextManager[object]:
    """The block within is not cancelled from outside."""
    return trio.CancelScope(shield=True)


def at_most(seconds: float) -> AbstractContextManager[object]:
    """The block within ends after `seconds`."""
    return trio.move_on_after(seconds)


class TurnObserver(trio.abc.Instrument):
    """Learns of each turn of the loop, from here until `end_observation`."""

    def __init__(self) -> None:
        trio.lowlevel.add_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        """The tasks of a turn have run; `timeout` is 0 if others can run already, so the loop is busy."""

    def end_observation(self) -> None:
        """Safe to repeat."""
        with suppress(KeyError):
            trio.lowlevel.remove_instrument(self)

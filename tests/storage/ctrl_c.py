"""Sends Ctrl-C at the worst moment."""

import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio


async def interrupted(call: Callable[[], Awaitable[object]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise SIGINT when `call` is about to wait for the first time; only for the main task.

    What it has begun may go on and finish; then Trio raises `KeyboardInterrupt` at the next wait.
    """
    wait = trio.lowlevel.wait_task_rescheduled

    def interrupt_and_wait(abort: Callable[[Any], trio.lowlevel.Abort]) -> Awaitable[Any]:
        monkeypatch.setattr(trio.lowlevel, "wait_task_rescheduled", wait)
        signal.raise_signal(signal.SIGINT)
        return wait(abort)

    monkeypatch.setattr(trio.lowlevel, "wait_task_rescheduled", interrupt_and_wait)
    try:
        await call()
        await trio.sleep_forever()
    except KeyboardInterrupt:
        pass

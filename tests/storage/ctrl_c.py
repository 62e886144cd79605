"""Ctrl-C at the worst moment."""

import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio


async def struck(ask: Callable[[], Awaitable[object]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Ctrl-C come when `ask` is about to wait for the first time; only for the main task.

    What it asked for may go on, and is waited for; then Ctrl-C comes with what is awaited next.
    """
    wait = trio.lowlevel.wait_task_rescheduled

    def interrupted(abort: Callable[[Any], trio.lowlevel.Abort]) -> Awaitable[Any]:
        monkeypatch.setattr(trio.lowlevel, "wait_task_rescheduled", wait)
        signal.raise_signal(signal.SIGINT)
        return wait(abort)

    monkeypatch.setattr(trio.lowlevel, "wait_task_rescheduled", interrupted)
    try:
        await ask()
        await trio.sleep_forever()
    except KeyboardInterrupt:
        pass

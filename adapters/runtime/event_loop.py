"""What the transports above need of the event loop."""

from contextlib import AbstractAsyncContextManager

import trio


def places(count: int) -> AbstractAsyncContextManager[object]:
    """A context that at most `count` tasks are in at a time; others wait in the order of their coming."""
    return trio.CapacityLimiter(count)


async def next_turn() -> None:
    """Let other tasks run."""
    await trio.lowlevel.checkpoint()

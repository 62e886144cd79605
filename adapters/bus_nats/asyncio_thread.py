"""An asyncio loop in a thread of its own, used from trio, for a library that needs asyncio."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import trio

T = TypeVar("T")


class AsyncioThread:
    """Runs coroutines on the asyncio loop, and their callbacks on trio's loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._token = trio.lowlevel.current_trio_token()

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, or its exception; cancelling the caller cancels the coroutine."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        done = trio.Event()
        future.add_done_callback(lambda _: self.call_back(done.set))
        try:
            await done.wait()
        except trio.Cancelled:
            future.cancel()
            raise
        return future.result()

    def call_back(self, function: Callable[[], object]) -> None:
        """Schedule a function on trio's loop; call this from the thread."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function)

    def serve(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(_cancel_all())

    def close(self) -> None:
        """Release the loop's resources; call it after `serve` has returned, or if it was never called."""
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


async def _cancel_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def asyncio_thread() -> AsyncIterator[AsyncioThread]:
    """The thread, as long as the context lasts; the end of the context cancels its coroutines."""
    thread = AsyncioThread()
    try:
        async with trio.open_nursery() as nursery:
            # With a limiter of its own, so that it does not occupy one of trio's shared threads.
            limiter = trio.CapacityLimiter(1)
            nursery.start_soon(partial(trio.to_thread.run_sync, thread.serve, limiter=limiter))
            try:
                yield thread
            finally:
                thread.stop()
    finally:
        thread.close()

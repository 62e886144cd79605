"""An asyncio loop in a thread of its own, for a library that needs one, asked from trio."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import trio

T = TypeVar("T")


class AsyncioThread:
    """Runs coroutines there, and functions of theirs back here."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._token = trio.lowlevel.current_trio_token()

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result, or its exception; it is cancelled there if the caller is cancelled here."""
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
        """Call a function on trio's loop, soon; from the thread."""
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(function)

    def serve(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(_cancel_all())

    def close(self) -> None:
        """Give back what the loop holds; after it has been served, or if it never was."""
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
    """The thread, for as long as the context lasts; what runs in it then is cancelled."""
    thread = AsyncioThread()
    try:
        async with trio.open_nursery() as nursery:
            # Not one of the threads that others wait for.
            limiter = trio.CapacityLimiter(1)
            nursery.start_soon(partial(trio.to_thread.run_sync, thread.serve, limiter=limiter))
            try:
                yield thread
            finally:
                thread.stop()
    finally:
        thread.close()

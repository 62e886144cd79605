"""The thread that both SQL storages use, and the pool of such threads with a connection each."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

import pytest
import trio
from outcome import Error, Outcome, Value
from trio.testing import wait_all_tasks_blocked

from adapters.storage_sql.event_loop import EventLoop, LoopEnded
from adapters.storage_sql.thread_pool import Call, ThreadPool
from adapters.storage_sql.worker_thread import LoopPauses, WorkerThread
from messaging_core.ports import StorageUnavailable

PATIENCE = 20
"""Seconds after which a wait has failed."""


class FakeConnection:
    """A connection that only says whether it was closed."""

    closed_in: str | None = None

    def abort(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self.closed_in = threading.current_thread().name


Pool = ThreadPool[FakeConnection]


@asynccontextmanager
async def pool_of(*connections: FakeConnection, max_waiting: int = 100) -> AsyncIterator[Pool]:
    pool = ThreadPool("test", list(connections), LoopPauses(), max_waiting=max_waiting)
    with trio.fail_after(PATIENCE):
        yield pool
        await pool.close()


def answer(value: object) -> Value[object]:
    return Value(value)


async def test_work_is_done_in_order_and_reported_on_the_loop() -> None:
    """The outcomes, values and errors, arrive in the order of the calls, also of those before the end."""
    outcomes: list[tuple[str, Outcome[object]]] = []
    worker = WorkerThread("test", LoopPauses(), failed=lambda error: None)
    error = ValueError("no")

    def fail() -> None:
        raise error

    for work in (lambda: threading.current_thread().name, fail, lambda: 3):
        worker.call(work, lambda outcome: outcomes.append((threading.current_thread().name, outcome)))
    await worker.end()
    await trio.lowlevel.checkpoint()
    assert [outcome for _, outcome in outcomes] == [Value("storage test"), Error(error), Value(3)]
    assert {name for name, _ in outcomes} == {threading.current_thread().name}
    await worker.end()


async def test_a_thread_that_ends_by_an_error_reports_it() -> None:
    """Work that is sent without a callback must not raise: its sender learns that the thread has ended."""
    failed: list[BaseException] = []
    worker = WorkerThread("test", LoopPauses(), failed=failed.append)
    error = ValueError("a defect")

    def fail() -> None:
        raise error

    worker.send(fail)
    await worker.end()
    await trio.lowlevel.checkpoint()
    assert failed == [error]


def test_a_loop_that_has_ended_takes_no_outcome(caplog: pytest.LogCaptureFixture) -> None:
    """A thread that outlives its loop ends with a warning, and no error."""
    release = threading.Event()
    threads: list[WorkerThread] = []

    async def begin() -> EventLoop:
        worker = WorkerThread("test", LoopPauses(), failed=lambda error: None)
        threads.append(worker)
        worker.call(release.wait, lambda outcome: None)
        return EventLoop()

    loop = trio.run(begin)
    with pytest.raises(LoopEnded):
        loop.run_soon(print)
    release.set()
    threads[0]._thread.join(PATIENCE)
    assert "the event loop ended" in caplog.text


async def test_a_busy_loop_pauses_while_a_thread_has_work() -> None:
    """On a loop that is never idle, a thread that needs the interpreter's lock often makes progress."""
    pauses = LoopPauses()
    worker = WorkerThread("test", pauses, failed=lambda error: None)
    done = trio.Event()

    def work() -> None:
        for _ in range(30):
            threading.Event().wait(0.0001)  # as a wait for a server: the lock is needed after each

    worker.call(work, lambda outcome: done.set())
    with trio.fail_after(PATIENCE):
        while not done.is_set():
            until = perf_counter() + 0.001
            while perf_counter() < until:
                pass
            await trio.lowlevel.checkpoint()
        await worker.end()
    assert not worker.is_busy


async def test_each_connection_is_closed_in_its_thread() -> None:
    """The thread that uses a connection also closes it, after the last call."""
    one, other = FakeConnection(), FakeConnection()
    async with pool_of(one, other) as pool:
        assert await pool.call(lambda connection, call: answer(5)) == 5
        assert [one.closed_in, other.closed_in] == [None, None]
    assert [one.closed_in, other.closed_in] == ["storage test 1", "storage test 2"]
    with pytest.raises(StorageUnavailable, match="is closed"):
        await pool.call(lambda connection, call: answer(5))


async def test_a_full_queue_refuses() -> None:
    """Beyond `max_waiting`, a caller is refused at once; those in the queue get their outcomes in order."""
    release = threading.Event()
    order: list[int] = []

    async def call(pool: Pool, number: int) -> None:
        def work(connection: FakeConnection, call: Call[FakeConnection]) -> Outcome[object]:
            release.wait(PATIENCE)
            order.append(number)
            return answer(None)

        await pool.call(work)

    async with pool_of(FakeConnection(), max_waiting=2) as pool, trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(call, pool, number)
            await wait_all_tasks_blocked()
        with pytest.raises(StorageUnavailable, match="2 calls are waiting"):
            await call(pool, 3)
        release.set()
    assert order == [0, 1, 2]


async def test_a_pool_whose_thread_ends_refuses_all_calls(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a thread ends by a defect, the outcome of its call is unknown, and waiting calls are refused."""
    release = threading.Event()
    messages: list[str] = []

    async def call(pool: Pool) -> None:
        try:
            await pool.call(lambda connection, call: None if release.wait(PATIENCE) else answer(1))
        except (RuntimeError, StorageUnavailable) as error:
            messages.append(str(error))

    async with pool_of(FakeConnection()) as pool, trio.open_nursery() as nursery:

        def defect(thread: object) -> None:
            raise ValueError("a defect")

        monkeypatch.setattr(pool, "next_for", defect)
        for _ in range(2):
            nursery.start_soon(call, pool)
            await wait_all_tasks_blocked()
        release.set()
    assert sorted(messages) == [
        "The storage has failed",
        "The storage has failed: it is not known what was committed",
    ]
    assert "restart the process" in caplog.text

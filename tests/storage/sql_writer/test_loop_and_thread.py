"""When the event loop runs reads, transactions and commits at once, in a later turn, or in the thread."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from adapters.storage_sql.sqlite import reads as reads_module
from adapters.storage_sql.sqlite.commit_policy import HICCUP_AFTER, QUICK_COMMITS_NEEDED, SLOW_COMMIT
from adapters.storage_sql.sqlite.reads import READ_SECONDS_A_TURN
from adapters.storage_sql.sqlite.storage import SqliteStorage
from messaging_core.ids import MessageId
from messaging_core.ports import Reader, Transaction
from tests.storage.sql_writer.writing import CHAT, Held, held, history, raw, send, settled


async def test_readers_do_not_wait(storage: SqliteStorage) -> None:
    """During a transaction, a read sees the state before it, at once."""
    await storage.transact(send)
    async with trio.open_nursery() as nursery:
        with held(storage, nursery) as began:
            await began.wait()
            assert await storage.read(history) == [1]
    assert await storage.read(history) == [1, 2]


async def test_a_read_sees_one_snapshot(storage: SqliteStorage) -> None:
    """Two queries in one read on the loop agree, whatever is committed in between."""
    storage._reads.budget.seconds = 60
    queried, committed = threading.Event(), threading.Event()
    writer = storage._writer
    commit = writer._commit

    def commit_in_between() -> None:
        assert queried.wait(60)
        commit()
        committed.set()

    def query_twice(reader: Reader) -> tuple[list[MessageId], list[MessageId]]:
        before = history(reader)
        queried.set()
        # The event loop blocks here while the thread commits.
        assert committed.wait(60)
        return before, history(reader)

    vars(writer)["_commit"] = commit_in_between
    writer._policy.quick_commits_needed = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.transact, send)
        await settled()
        assert await storage.read(query_twice) == ([], [])
    assert await storage.read(history) == [1]


async def test_a_turn_with_long_reads_begins_no_others(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many large reads are called at once, other tasks run after every two of them."""
    now = 0.0
    monkeypatch.setattr(reads_module, "monotonic", lambda: now)
    turns = Counter[int]()

    def read_long(_: Reader) -> None:
        nonlocal now
        now += 0.6 * READ_SECONDS_A_TURN
        turns[storage._loop_turns.turns] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(storage.read, read_long)
    assert sum(turns.values()) == 20
    assert set(turns.values()) == {2}


async def test_short_reads_share_a_turn(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads that take no time do not delay others to the next turn."""
    monkeypatch.setattr(reads_module, "monotonic", lambda: 0.0)
    turns = Counter[int]()

    def read_short(_: Reader) -> None:
        turns[storage._loop_turns.turns] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(storage.read, read_short)
    assert max(turns.values()) >= 19  # after an idle turn, the first one need not yield


@pytest.mark.parametrize("quick_commits_needed", [0, 1000], ids=["on the loop", "in the thread"])
async def test_a_busy_loop_does_not_starve_transactions(
    storage: SqliteStorage, quick_commits_needed: int
) -> None:
    """On an event loop that is never idle, transactions go on, wherever they commit."""
    done = False
    storage._writer._policy.quick_commits_needed = quick_commits_needed

    async def keep_busy() -> None:
        while not done:
            until = perf_counter() + 0.001
            while perf_counter() < until:
                pass
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_busy)
        # Takes 0.3 s; a minute if the loop does not pause for the thread.
        with trio.fail_after(15):
            for _ in range(30):
                await storage.transact(send)
        done = True


async def test_the_loop_does_not_wait_for_a_slow_disk(storage: SqliteStorage) -> None:
    """After two slow commits the thread commits, until it has found the disk quick again."""
    on_loop: list[bool] = []
    writer = storage._writer
    commit = writer._commit
    seconds = 2 * SLOW_COMMIT

    def record_and_commit() -> None:
        on_loop.append(threading.current_thread() is threading.main_thread())
        commit()
        writer._commit_seconds = seconds

    vars(writer)["_commit"] = record_and_commit
    writer._policy.quick_commits_needed, writer._policy.quick_commits = (
        0,
        HICCUP_AFTER,
    )  # whatever the disk did so far
    for _ in range(2 * QUICK_COMMITS_NEEDED):
        await storage.transact(send)
    in_thread = (2 * QUICK_COMMITS_NEEDED - 2) * [False]
    assert on_loop == [True, True, *in_thread], "one slow commit may be a hiccup, two are not"
    seconds = 0.0
    on_loop.clear()
    for _ in range(QUICK_COMMITS_NEEDED + HICCUP_AFTER):
        await storage.transact(send)
    in_thread = QUICK_COMMITS_NEEDED * [False]
    assert on_loop == [*in_thread, *(HICCUP_AFTER * [True])], "the loop does quick commits"
    on_loop.clear()
    seconds = 2 * SLOW_COMMIT
    await storage.transact(send)
    seconds = 0.0
    for _ in range(5):
        await storage.transact(send)
    assert on_loop == 6 * [True], "a hiccup now and then changes nothing"


async def test_the_loop_does_not_wait_for_a_large_commit(storage: SqliteStorage) -> None:
    """The thread commits very many rows, however quick the disk is; the loop does the next commit."""
    on_loop: list[bool] = []
    writer = storage._writer
    commit = writer._commit

    def record_and_commit() -> None:
        on_loop.append(threading.current_thread() is threading.main_thread())
        commit()
        writer._commit_seconds = 2 * SLOW_COMMIT if len(on_loop) == 2 else 0.0

    def store_many(tx: Transaction) -> None:
        raw(tx)(
            "WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < 2000) "
            "INSERT INTO events (chat_id, sequence, name, at) SELECT ?, 1000 + i, '', 0 FROM numbers",
            (CHAT,),
        )

    vars(writer)["_commit"] = record_and_commit
    writer._policy.quick_commits_needed = writer._policy.quick_commits = 0
    await storage.transact(send)
    await storage.transact(store_many)
    await storage.transact(send)
    assert on_loop == [True, False, True]


async def turns(waiting: Coroutine[Any, Any, object]) -> int:
    """How often `waiting` yields until it returns, on a loop that has just been idle."""
    await wait_all_tasks_blocked(cushion=0.001)
    count = 0

    class Turns(trio.abc.Instrument):
        def before_io_wait(self, timeout: float) -> None:
            nonlocal count
            count += 1

    instrument = Turns()
    trio.lowlevel.add_instrument(instrument)
    try:
        await waiting
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return count


def refuse(tx: Transaction) -> None:
    raise Held


async def test_a_lone_call_on_an_idle_loop_does_not_yield(storage: SqliteStorage) -> None:
    """After an idle turn and a transaction of one operation, a call begins its transaction at once."""
    storage._writer._policy.slow_commit = 60  # even on a busy machine
    storage._writer._policy.max_batch_seconds = 60
    storage._reads.budget.seconds = 60
    assert await turns(storage.transact(send)) == 0
    assert await turns(storage.read(history)) == 0
    with pytest.raises(Held):
        await turns(storage.transact(refuse))
    assert await turns(storage.transact(send)) == 0, "a refused operation was alone, too"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.transact, send)
        nursery.start_soon(storage.transact, send)
    assert await turns(storage.transact(send)) > 0, (
        "the last transaction was shared: another call may come soon"
    )
    assert await turns(storage.transact(send)) == 0


async def test_a_second_call_on_a_busy_loop_yields(storage: SqliteStorage) -> None:
    """A second call, before the loop has been idle, yields to other tasks."""

    async def twice(call: Callable[[], Awaitable[object]]) -> None:
        await call()
        await call()

    assert await turns(twice(lambda: storage.transact(send))) > 0
    assert await turns(twice(lambda: storage.read(history))) > 0


async def test_a_lone_transaction_whose_commit_fails(storage: SqliteStorage) -> None:
    """Its caller gets the error, though the transaction ended before the caller waited."""

    def fail() -> None:
        storage._writer._roll_back()
        raise sqlite3.OperationalError("the disk is gone")

    vars(storage._writer)["_commit"] = fail
    with pytest.raises(sqlite3.OperationalError, match="is gone"):
        await turns(storage.transact(send))
    del vars(storage._writer)["_commit"]
    await storage.transact(send)
    assert len(await storage.read(history)) == 1

"""When the event loop writes itself, who waits for whom, and when a thread does it."""

import sqlite3
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from adapters.storage_sql.sqlite import storage as sqlite_module
from adapters.storage_sql.sqlite import writer as writer_module
from adapters.storage_sql.sqlite.storage import READING, SqliteStorage
from adapters.storage_sql.sqlite.writer import AWAY, FLUSH_HERE, HICCUP
from messaging_core.ids import MessageId
from messaging_core.ports import Reader, Transaction
from tests.storage.sql_writer.writing import CHAT, Held, held, history, raw, send, settled


async def test_readers_do_not_wait(storage: SqliteStorage) -> None:
    """While a transaction is open, a read sees what was committed before, at once."""
    await storage.transact(send)
    async with trio.open_nursery() as nursery:
        with held(storage, nursery) as began:
            await began.wait()
            assert await storage.read(history) == [1]
    assert await storage.read(history) == [1, 2]


async def test_a_read_is_of_one_moment(storage: SqliteStorage) -> None:
    """Two looks in one read agree, whatever is committed in between."""
    looked, committed = threading.Event(), threading.Event()
    writer = storage._writer
    commit = writer._commit

    def commit_in_between() -> None:
        assert looked.wait(60)
        commit()
        committed.set()

    def look_twice(reader: Reader) -> tuple[list[MessageId], list[MessageId]]:
        before = history(reader)
        looked.set()
        # The event loop stands here; the thread commits meanwhile.
        assert committed.wait(60)
        return before, history(reader)

    vars(writer)["_commit"] = commit_in_between
    writer._away = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.transact, send)
        await settled()
        assert await storage.read(look_twice) == ([], [])
    assert await storage.read(history) == [1]


async def test_a_turn_in_which_reads_have_taken_long_begins_no_others(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many large reads are asked for at once, others have their turn between any two or three."""
    now = 0.0
    monkeypatch.setattr(sqlite_module, "monotonic", lambda: now)
    turns = Counter[int]()

    def read_long(_: Reader) -> None:
        nonlocal now
        now += 0.6 * READING
        turns[storage._rests.turns] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(storage.read, read_long)
    assert sum(turns.values()) == 20
    assert set(turns.values()) == {2}


async def test_short_reads_share_a_turn(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for another turn because of others whose reads take no time."""
    monkeypatch.setattr(sqlite_module, "monotonic", lambda: 0.0)
    turns = Counter[int]()

    def read_short(_: Reader) -> None:
        turns[storage._rests.turns] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(storage.read, read_short)
    assert max(turns.values()) >= 19  # after a rest, one need not wait for a turn


@pytest.mark.parametrize("away", [0, 1000])
async def test_a_busy_loop_does_not_starve_transactions(storage: SqliteStorage, away: int) -> None:
    """While the event loop always has something to do, transactions are carried out, wherever they commit."""
    done = False
    storage._writer._away = away

    async def keep_busy() -> None:
        while not done:
            until = perf_counter() + 0.001
            while perf_counter() < until:
                pass
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_busy)
        # Takes 0.3 s; with a loop that does not give way to the thread, a minute.
        with trio.fail_after(15):
            for _ in range(30):
                await storage.transact(send)
        done = True


async def test_the_loop_does_not_wait_for_a_slow_disk(storage: SqliteStorage) -> None:
    """The loop stands for one slow commit, and no more until the thread has found the disk quick again."""
    here: list[bool] = []
    writer = storage._writer
    commit = writer._commit
    took = 2 * FLUSH_HERE

    def noting() -> None:
        here.append(threading.current_thread() is threading.main_thread())
        commit()
        writer._took = took

    vars(writer)["_commit"] = noting
    writer._away, writer._quick = 0, HICCUP  # whatever the disk was like so far
    for _ in range(2 * AWAY):
        await storage.transact(send)
    assert here == [True, True, *((2 * AWAY - 2) * [False])], "one slow commit may be a hiccup, two are not"
    took = 0.0
    here.clear()
    for _ in range(AWAY + HICCUP):
        await storage.transact(send)
    assert here == [*(AWAY * [False]), *(HICCUP * [True])], "a quick one is not handed about"
    here.clear()
    took = 2 * FLUSH_HERE
    await storage.transact(send)
    took = 0.0
    for _ in range(5):
        await storage.transact(send)
    assert here == 6 * [True], "a hiccup now and then changes nothing"


async def test_the_loop_does_not_wait_for_a_large_commit(storage: SqliteStorage) -> None:
    """The thread commits very many rows, however quick the disk is; the next commit is the loop's again."""
    here: list[bool] = []
    writer = storage._writer
    commit = writer._commit

    def noting() -> None:
        here.append(threading.current_thread() is threading.main_thread())
        commit()
        writer._took = 2 * FLUSH_HERE if len(here) == 2 else 0.0

    def store_many(tx: Transaction) -> None:
        raw(tx)(
            "WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < 2000) "
            "INSERT INTO events (chat_id, sequence, name, at) SELECT ?, 1000 + i, '', 0 FROM numbers",
            (CHAT,),
        )

    vars(writer)["_commit"] = noting
    writer._away = writer._quick = 0
    await storage.transact(send)
    await storage.transact(store_many)
    await storage.transact(send)
    assert here == [True, False, True]


async def turns(waiting: Coroutine[Any, Any, object]) -> int:
    """How often it lets others go first until it is done, from a loop that has just rested."""
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


async def test_who_comes_alone_waits_for_nobody(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the loop has rested since the last one, who was alone as well, nobody else is waited for."""
    monkeypatch.setattr(writer_module, "FLUSH_HERE", 60)  # whatever else this machine is doing
    monkeypatch.setattr(writer_module, "OPERATING", 60)
    assert await turns(storage.transact(send)) == 0
    assert await turns(storage.read(history)) == 0
    with pytest.raises(Held):
        await turns(storage.transact(refuse))
    assert await turns(storage.transact(send)) == 0, "one that was refused was alone, too"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.transact, send)
        nursery.start_soon(storage.transact, send)
    assert await turns(storage.transact(send)) > 0, "the last one was not alone: another may come soon"
    assert await turns(storage.transact(send)) == 0


async def test_a_busy_loop_goes_by_turns(storage: SqliteStorage) -> None:
    """Whoever comes again, before the loop has rested, lets others go first."""

    async def twice(ask: Callable[[], Awaitable[object]]) -> None:
        await ask()
        await ask()

    assert await turns(twice(lambda: storage.transact(send))) > 0
    assert await turns(twice(lambda: storage.read(history))) > 0


async def test_a_lone_transaction_whose_commit_fails(storage: SqliteStorage) -> None:
    """It is told so, though it was carried out before anybody waited for it."""

    def fail() -> None:
        storage._writer._roll_back()
        raise sqlite3.OperationalError("the disk is gone")

    vars(storage._writer)["_commit"] = fail
    with pytest.raises(sqlite3.OperationalError, match="is gone"):
        await turns(storage.transact(send))
    del vars(storage._writer)["_commit"]
    await storage.transact(send)
    assert len(await storage.read(history)) == 1

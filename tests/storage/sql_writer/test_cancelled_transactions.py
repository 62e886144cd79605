"""A caller that is cancelled, or interrupted by Ctrl-C, has changed all or nothing."""

from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.sqlite.storage import SqliteStorage
from messaging_core.ids import MessageId
from messaging_core.ports import StorageUnavailable
from tests.storage.ctrl_c import interrupted
from tests.storage.sql_writer.writing import commit_held, held, history, prepare, send, settled
from tests.storage.system_tasks import system_tasks


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_before_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool) -> None:
    """Ctrl-C just before the caller waits leaves no job whose outcome would wake the caller's next wait."""

    async def run() -> None:
        async with open_sqlite(tmp_path / "test.db") as storage:
            assert isinstance(storage, SqliteStorage)
            await storage.transact(prepare)
            storage._writer._policy.quick_commits_needed = 1
            storage._writer._policy.last_was_single = not busy
            await wait_all_tasks_blocked(cushion=0.001)
            await interrupted(lambda: storage.transact(send), monkeypatch)
            assert await storage.transact(lambda _: "the next") == "the next"
            assert await storage.read(history) == ([] if busy else [1])

    trio.run(run)


async def test_cancelled_in_the_queue(storage: SqliteStorage) -> None:
    """An operation whose caller is cancelled before it begins never runs, nor does its callback."""
    runs: list[object] = []
    async with trio.open_nursery() as nursery:
        with held(storage, nursery) as began:
            await began.wait()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as inner:
                    inner.start_soon(lambda: storage.transact(runs.append, committed=runs.append))
                    await wait_all_tasks_blocked()
                    scope.cancel()
            assert scope.cancelled_caught
    assert len(await storage.read(history)) == 1
    assert runs == []


async def test_cancelled_after_it_began(storage: SqliteStorage) -> None:
    """An operation that has begun is finished: its caller gets the result, and `committed` is called."""
    outcomes: list[object] = []

    async def caller() -> None:
        outcomes.append(await storage.transact(send, committed=outcomes.append))
        await trio.lowlevel.checkpoint()
        raise AssertionError("the caller's next checkpoint did not raise the cancellation")

    async with trio.open_nursery() as nursery:
        with commit_held(storage) as began:
            nursery.start_soon(caller)
            await began.wait()
            nursery.cancel_scope.cancel()
    assert outcomes == [1, 1]
    assert await storage.read(history) == [1]


async def test_cancelled_before_the_call(storage: SqliteStorage) -> None:
    """A caller that is already cancelled changes nothing."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await storage.transact(send)
    assert scope.cancelled_caught
    assert await storage.read(history) == []


def files(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


async def test_closing_finishes_accepted_transactions(tmp_path: Path) -> None:
    """Closing commits the waiting transactions, whose callers get their results, and refuses later ones."""
    path = tmp_path / "test.db"
    ids: list[MessageId] = []

    async def caller(storage: SqliteStorage) -> None:
        ids.append(await storage.transact(send))

    async with trio.open_nursery() as nursery, open_sqlite(path) as storage:
        assert isinstance(storage, SqliteStorage)
        await storage.transact(prepare)
        for _ in range(300):
            nursery.start_soon(caller, storage)
        await settled()
    await storage.close()
    for refused in (storage.transact(send), storage.read(history)):
        with pytest.raises(StorageUnavailable, match="closed"):
            await refused
    assert files(tmp_path) == {"test.db", "test.db.lock"}
    async with open_sqlite(path) as again:
        assert await again.read(history) == sorted(ids)
        assert len(ids) == 300


async def test_closing_ends_the_storages_tasks(tmp_path: Path) -> None:
    """A closed storage leaves no task."""
    before = system_tasks()
    async with open_sqlite(tmp_path / "test.db"):
        await settled()
        assert system_tasks() > before
    await settled()
    assert system_tasks() == before


async def test_closing_survives_a_cancelled_caller(tmp_path: Path) -> None:
    """A storage whose block is cancelled closes completely, and its file can be opened again."""
    path = tmp_path / "test.db"
    with trio.CancelScope() as scope:
        async with open_sqlite(path) as storage:
            await storage.transact(prepare)
            scope.cancel()
    async with open_sqlite(path) as storage:
        assert await storage.transact(send) == 1

"""What waits together commits together."""

from pathlib import Path

import pytest
import trio

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.sqlite import writer as writer_module
from adapters.storage_sql.sqlite.storage import SqliteStorage
from messaging_core.ports import StorageUnavailable
from tests.storage.sql_writer.writing import history, prepare, send, together


async def test_those_who_wait_share_one_commit(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operations that wait while another is committed are committed at once, in the order of arrival."""
    monkeypatch.setattr(writer_module, "OPERATING", 60)  # whatever else this machine is doing
    commits: list[str] = []
    storage._writing.set_trace_callback(commits.append)
    ids = await together(storage, *[lambda tx, n=n: send(tx, str(n)) for n in range(100)])
    assert commits.count("COMMIT") == 2
    assert ids == list(range(2, 102))
    assert (await storage.read(history))[1:] == ids


async def test_those_who_come_in_one_turn_share_a_commit(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests that the loop takes in together are committed together, though nothing makes them wait."""
    monkeypatch.setattr(writer_module, "OPERATING", 60)  # whatever else this machine is doing
    commits: list[str] = []
    storage._writing.set_trace_callback(commits.append)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(storage.transact, send)
    assert commits.count("COMMIT") == 1


async def test_more_than_one_commit_holds(storage: SqliteStorage) -> None:
    """Those whom a commit has no room for are carried out after it, though nobody else asks."""
    storage._writer._batch = 3
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(storage.transact, send)
    assert await storage.read(history) == list(range(1, 11))


async def test_callbacks_come_in_the_order_of_commits(storage: SqliteStorage) -> None:
    """`committed` is called in the order of the identifiers, before anybody's `transact` returns."""
    told: list[int] = []
    returned: list[int] = []

    async def caller() -> None:
        message_id = await storage.transact(send, committed=told.append)
        assert message_id in told
        returned.append(message_id)

    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(caller)
    assert told == sorted(told) == list(range(1, 301))
    assert sorted(returned) == told


async def test_too_many_wait(storage: SqliteStorage) -> None:
    """Beyond its bound the queue refuses at once, and serves those who wait."""
    storage._writer._max_waiting = 2
    outcomes = await together(storage, send, send, send)
    assert isinstance(outcomes[2], StorageUnavailable)
    assert (await storage.read(history))[1:] == outcomes[:2]


async def test_the_first_transaction(tmp_path: Path) -> None:
    """A transaction may be asked for as soon as the storage is open, before anything else has run."""
    with trio.fail_after(15):
        async with open_sqlite(tmp_path / "test.db") as storage:
            await storage.transact(prepare)

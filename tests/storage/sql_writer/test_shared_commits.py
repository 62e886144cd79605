"""Operations that wait together share a commit."""

from pathlib import Path

import trio

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.sqlite.storage import SqliteStorage
from messaging_core.ports import StorageUnavailable
from tests.storage.sql_writer.writing import history, prepare, send, together


async def test_waiting_operations_share_one_commit(storage: SqliteStorage) -> None:
    """Operations that wait during a commit share the next one, in the order of arrival."""
    storage._writer._policy.max_batch_seconds = 60  # even on a busy machine
    commits: list[str] = []
    storage._writing.set_trace_callback(commits.append)
    ids = await together(storage, *[lambda tx, n=n: send(tx, str(n)) for n in range(100)])
    assert commits.count("COMMIT") == 2
    assert ids == list(range(2, 102))
    assert (await storage.read(history))[1:] == ids


async def test_operations_of_one_turn_share_a_commit(storage: SqliteStorage) -> None:
    """Operations that arrive in one turn of the loop share a commit, though none was under way."""
    storage._writer._policy.max_batch_seconds = 60  # even on a busy machine
    commits: list[str] = []
    storage._writing.set_trace_callback(commits.append)
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(storage.transact, send)
    assert commits.count("COMMIT") == 1


async def test_a_full_batch_is_followed_by_another(storage: SqliteStorage) -> None:
    """Operations beyond a full batch run in the next one, without a further call."""
    storage._writer._policy.max_batch = 3
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(storage.transact, send)
    assert await storage.read(history) == list(range(1, 11))


async def test_callbacks_come_in_the_order_of_commits(storage: SqliteStorage) -> None:
    """`committed` is called in the order of the identifiers, before the `transact` of its batch returns."""
    notified: list[int] = []
    returned: list[int] = []

    async def caller() -> None:
        message_id = await storage.transact(send, committed=notified.append)
        assert message_id in notified
        returned.append(message_id)

    async with trio.open_nursery() as nursery:
        for _ in range(300):
            nursery.start_soon(caller)
    assert notified == sorted(notified) == list(range(1, 301))
    assert sorted(returned) == notified


async def test_a_full_queue_refuses(storage: SqliteStorage) -> None:
    """A full queue refuses a further call at once, and serves the waiting ones."""
    storage._writer._max_waiting = 2
    outcomes = await together(storage, send, send, send)
    assert isinstance(outcomes[2], StorageUnavailable)
    assert (await storage.read(history))[1:] == outcomes[:2]


async def test_the_first_transaction(tmp_path: Path) -> None:
    """A transaction succeeds as soon as the storage is open, before any other task has run."""
    with trio.fail_after(15):
        async with open_sqlite(tmp_path / "test.db") as storage:
            await storage.transact(prepare)

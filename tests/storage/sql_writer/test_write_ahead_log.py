"""Checkpoints copy the write-ahead log into the file while writing goes on."""

from pathlib import Path

import pytest
import trio

from adapters.storage_sql.sqlite.commit_policy import MAX_LOG_BYTES, ROWS_A_COMMIT
from adapters.storage_sql.sqlite.storage import SqliteStorage
from tests.storage.sql_writer.writing import send


async def test_checkpoints_while_writing_goes_on(storage: SqliteStorage, tmp_path: Path) -> None:
    """Without a pause between commits, the write-ahead log stays within the size between two checkpoints."""
    storage._writer._policy.checkpoint_rows = 50
    log = tmp_path / "test.db-wal"
    sizes: list[int] = []

    async def keep_writing() -> None:
        for _ in range(40):
            await storage.transact(send)
            sizes.append(log.stat().st_size)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(keep_writing)
    assert max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2])


async def test_large_messages_bring_checkpoints_forward(storage: SqliteStorage, tmp_path: Path) -> None:
    """Large messages do not let the log, and with it a checkpoint's pause, grow far beyond the bound."""
    log = tmp_path / "test.db-wal"
    content = "x" * 100_000
    for _ in range(1_200):
        await storage.transact(lambda tx: send(tx, content))
    assert log.stat().st_size < 1.2 * MAX_LOG_BYTES


@pytest.fixture
def statements(storage: SqliteStorage) -> list[str]:
    """The statements of the writer's connection from now on, in order."""
    executed: list[str] = []
    storage._writing.set_trace_callback(executed.append)
    return executed


def commits_between_checkpoints(statements: list[str]) -> list[int]:
    """The numbers of commits before the first checkpoint, between each two, and after the last one."""
    counts = [0]
    for statement in statements:
        if statement == "COMMIT":
            counts[-1] += 1
        elif "wal_checkpoint" in statement:
            counts.append(0)
    return counts


async def test_a_checkpoint_comes_after_so_many_rows(storage: SqliteStorage, statements: list[str]) -> None:
    """A checkpoint comes after `checkpoint_rows`, with `ROWS_A_COMMIT` for each commit, and not before."""
    policy = storage._writer._policy
    policy.checkpoint_rows = 50
    await storage.transact(send)  # reserves the identifiers of the next ones
    policy.logged_rows = 0
    await storage.transact(send)
    rows = policy.logged_rows
    assert rows > ROWS_A_COMMIT
    policy.logged_rows = 0
    del statements[:]
    needed = -(-50 // rows)
    for _ in range(2 * needed + 1):
        await storage.transact(send)
    await storage.transact(lambda tx: None)  # after the last checkpoint
    assert commits_between_checkpoints(statements)[:2] == [needed, needed]


async def test_a_checkpoint_comes_after_so_many_bytes(
    storage: SqliteStorage, statements: list[str], tmp_path: Path
) -> None:
    """A checkpoint comes earlier if the log exceeds `max_log_bytes`, checked every `size_check_rows`."""
    log = tmp_path / "test.db-wal"
    content = "x" * 100_000
    policy = storage._writer._policy
    await storage.transact(send)
    rows = policy.logged_rows
    policy.max_log_bytes = log.stat().st_size + 1_000_000
    policy.size_check_rows = 3 * rows
    policy.logged_rows = policy.rows_at_size_check = 0
    for _ in range(30):
        del statements[:]
        await storage.transact(lambda tx: send(tx, content))
        await storage.transact(lambda tx: None)
        if commits_between_checkpoints(statements) != [2]:
            break
    assert policy.rows_at_size_check == 0
    assert 1_000_000 < log.stat().st_size - 1_000 < 2_500_000


async def test_rows_are_counted_beyond_32_bits(storage: SqliteStorage) -> None:
    """A commit counts the same rows before and after SQLite's count of changes wraps around at 32 bits."""
    writer = storage._writer
    await storage.transact(send)  # reserves the identifiers of the next two
    before = writer._policy.logged_rows
    await storage.transact(send)
    one = writer._policy.logged_rows - before
    assert one > 0
    writer._policy.total_changes += 2**32  # as if the count had just wrapped around
    await storage.transact(send)
    assert writer._policy.logged_rows == before + 2 * one

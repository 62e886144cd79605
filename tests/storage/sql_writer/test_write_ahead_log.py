"""The write-ahead log is brought into the file while writing goes on."""

from pathlib import Path

import pytest
import trio

from adapters.storage_sql.sqlite import writer as writer_module
from adapters.storage_sql.sqlite.storage import SqliteStorage
from adapters.storage_sql.sqlite.writer import LOG_LIMIT, ROWS_A_COMMIT
from tests.storage.sql_writer.writing import send


async def test_the_log_is_brought_in_while_writing_goes_on(
    storage: SqliteStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long there is no pause, the write-ahead log does not grow beyond what a checkpoint leaves."""
    monkeypatch.setattr(writer_module, "CHECKPOINT_AFTER", 50)
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


async def test_the_log_of_large_messages_is_brought_in(storage: SqliteStorage, tmp_path: Path) -> None:
    """Large messages do not make the log much larger than its limit: a pause for it grows with it."""
    log = tmp_path / "test.db-wal"
    content = "x" * 100_000
    for _ in range(1_200):
        await storage.transact(lambda tx: send(tx, content))
    assert log.stat().st_size < 1.2 * LOG_LIMIT


@pytest.fixture
def statements(storage: SqliteStorage) -> list[str]:
    """Those that the writer's connection has carried out since then, in order."""
    carried_out: list[str] = []
    storage._writing.set_trace_callback(carried_out.append)
    return carried_out


def commits_between_checkpoints(statements: list[str]) -> list[int]:
    """The number of commits before the first checkpoint, between each two, and after the last."""
    counts = [0]
    for statement in statements:
        if statement == "COMMIT":
            counts[-1] += 1
        elif "wal_checkpoint" in statement:
            counts.append(0)
    return counts


async def test_a_checkpoint_comes_after_so_many_rows(
    storage: SqliteStorage, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each `CHECKPOINT_AFTER` rows, `ROWS_A_COMMIT` for each commit included, and not before."""
    monkeypatch.setattr(writer_module, "CHECKPOINT_AFTER", 50)
    writer = storage._writer
    await storage.transact(send)  # reserves identifiers for those that follow
    writer._logged = 0
    await storage.transact(send)
    rows = writer._logged
    assert rows > ROWS_A_COMMIT
    writer._logged = 0
    del statements[:]
    needed = -(-50 // rows)
    for _ in range(2 * needed + 1):
        await storage.transact(send)
    await storage.transact(lambda tx: None)  # behind the last checkpoint
    assert commits_between_checkpoints(statements)[:2] == [needed, needed]


async def test_a_checkpoint_comes_after_so_many_bytes(
    storage: SqliteStorage, statements: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of fewer rows a checkpoint comes once the log exceeds `LOG_LIMIT`; each `LOOK_AFTER` rows it looks."""
    log = tmp_path / "test.db-wal"
    content = "x" * 100_000
    await storage.transact(send)
    rows = storage._writer._logged
    monkeypatch.setattr(writer_module, "LOG_LIMIT", log.stat().st_size + 1_000_000)
    monkeypatch.setattr(writer_module, "LOOK_AFTER", 3 * rows)
    storage._writer._logged = storage._writer._looked = 0
    for _ in range(30):
        del statements[:]
        await storage.transact(lambda tx: send(tx, content))
        await storage.transact(lambda tx: None)
        if commits_between_checkpoints(statements) != [2]:
            break
    assert storage._writer._looked == 0
    assert 1_000_000 < log.stat().st_size - 1_000 < 2_500_000


async def test_the_log_is_brought_in_however_much_was_written(storage: SqliteStorage) -> None:
    """SQLite counts rows in 32 bits: what comes after the greatest number counts like what came before."""
    writer = storage._writer
    await storage.transact(send)  # reserves identifiers for those that follow
    before = writer._logged
    await storage.transact(send)
    one = writer._logged - before
    assert one > 0
    writer._changes += 2**32  # as if the last row of all had just been counted
    await storage.transact(send)
    assert writer._logged == before + 2 * one

"""The write-ahead log is brought into the file while writing goes on."""

from pathlib import Path

import pytest
import trio

from adapters.storage_sql.sqlite import writer as writer_module
from adapters.storage_sql.sqlite.storage import SqliteStorage
from adapters.storage_sql.sqlite.writer import LOG_LIMIT
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

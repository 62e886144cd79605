"""A failing transaction fails alone, and its caller gets the error."""

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from adapters.storage_sql import worker_thread
from adapters.storage_sql.sqlite import writer
from adapters.storage_sql.sqlite.storage import SqliteStorage
from messaging_core.effects import AdvanceChat
from messaging_core.ids import ChatId, MessageId
from messaging_core.ports import Reader, StorageUnavailable, Transaction
from tests.storage.sql_writer.writing import (
    CHAT,
    Held,
    history,
    raw,
    send,
    together,
)


async def test_a_callback_that_fails_harms_nobody(
    storage: SqliteStorage, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception from `committed` is logged; its caller, and the others, get their outcomes."""

    def fail(message_id: MessageId) -> None:
        raise RuntimeError("a failing callback")

    with caplog.at_level(logging.ERROR):
        assert await storage.transact(send, committed=fail) == 1
    assert "a failing callback" in caplog.text
    assert await storage.transact(send) == 2


@pytest.mark.parametrize("changes", [False, True], ids=["before it changes something", "after that"])
async def test_a_failing_operation_leaves_the_others(storage: SqliteStorage, changes: bool) -> None:
    """An operation that raises is rolled back alone, in the middle of a batch."""
    runs: list[int] = []

    def fail(tx: Transaction) -> None:
        runs.append(1)
        if changes:
            send(tx, "rolled back")
        raise Held

    first, error, last = await together(storage, send, fail, send)
    assert isinstance(error, Held)
    assert len(runs) == 1 + changes
    assert (await storage.read(history))[1:] == [first, last]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, GeneratorExit])
async def test_no_exception_of_an_operation_ends_the_thread(
    storage: SqliteStorage, error: type[BaseException]
) -> None:
    """Whatever an operation raises goes to its caller, and the next operation runs."""

    def fail(tx: Transaction) -> None:
        raise error

    with pytest.raises(error):
        await storage.transact(fail)
    assert await storage.transact(send) == 1


async def test_operations_of_a_failed_commit_run_again_one_by_one(storage: SqliteStorage) -> None:
    """When a commit fails, each operation runs again alone, and only the one that caused it fails."""

    def defer(tx: Transaction) -> None:
        raw(tx)("PRAGMA defer_foreign_keys = ON")
        send(tx, chat_id=ChatId(99))

    def fail(tx: Transaction) -> None:
        raise Held

    first, violation, error, last = await together(storage, send, defer, fail, send)
    assert isinstance(violation, sqlite3.IntegrityError)
    assert isinstance(error, Held)
    assert (await storage.read(history))[1:] == [first, last]
    assert await storage.read(lambda reader: reader.messages_after(ChatId(99), MessageId(0), 9)) == []


async def test_a_full_disk(storage: SqliteStorage) -> None:
    """On a full disk operations that need space raise `StorageUnavailable`, and the others succeed."""

    def fill_up(tx: Transaction) -> None:
        (pages,) = raw(tx)("PRAGMA page_count").fetchone()
        raw(tx)(f"PRAGMA max_page_count = {pages}")

    def send_much(tx: Transaction) -> None:
        send(tx, "x" * 1_000_000)

    await storage.transact(fill_up)
    first, error, last = await together(storage, send, send_much, send)
    assert isinstance(error, StorageUnavailable)
    assert isinstance(error.__cause__, sqlite3.OperationalError)
    assert (await storage.read(history))[1:] == [first, last]
    await storage.transact(lambda tx: raw(tx)("PRAGMA max_page_count = 1000000").fetchone())
    await storage.transact(send_much)


async def test_a_file_that_another_locks(
    storage: SqliteStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another program locks the file beyond the timeout, each caller gets `StorageUnavailable`."""
    monkeypatch.setattr(writer, "LOCK_TIMEOUT", 0.1)
    await storage.transact(lambda tx: raw(tx)("PRAGMA busy_timeout = 0").fetchone())
    other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailable, match="locked"):
        await storage.transact(send)
    other.execute("ROLLBACK")
    other.close()
    assert await storage.transact(send) == 1


async def test_a_read_that_the_disk_fails(storage: SqliteStorage) -> None:
    """A read that the machine fails raises `StorageUnavailable`; a defect raises its own error."""

    def fail(code: int) -> Callable[[Reader], None]:
        error = sqlite3.OperationalError("failing")
        error.sqlite_errorcode = code

        def query(reader: Reader) -> None:
            raise error

        return query

    with pytest.raises(StorageUnavailable):
        await storage.read(fail(sqlite3.SQLITE_IOERR_READ))
    with pytest.raises(sqlite3.OperationalError):
        await storage.read(fail(sqlite3.SQLITE_ERROR))
    assert await storage.read(history) == []


async def test_a_missing_chat_cannot_advance(storage: SqliteStorage) -> None:
    """Advancing a missing chat is a defect, not a success."""
    chat = await storage.read(lambda reader: reader.chat(CHAT))
    assert chat is not None
    with pytest.raises(LookupError):
        await storage.transact(lambda tx: tx.apply(AdvanceChat(evolve(chat, id=ChatId(99)))))


@pytest.mark.parametrize("place", ["after the commit", "in the thread"])
async def test_a_defect_is_loud(
    storage: SqliteStorage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """If the writer itself fails, no caller waits: callers of begun transactions get an unknown outcome."""

    def defect(*_: object) -> Any:
        raise RuntimeError("a defect")

    writer = storage._writer
    writer._policy.logged_rows = 0
    storage._writer._policy.checkpoint_rows = 1
    if place == "in the thread":
        writer._policy.quick_commits_needed = 1
        monkeypatch.setattr(worker_thread, "capture", defect)
    else:
        monkeypatch.setattr(writer._session, "after_commit", defect)
    with pytest.raises(RuntimeError, match="not known"):
        await storage.transact(send)
    assert "has failed" in caplog.text
    with pytest.raises(StorageUnavailable, match="has failed"):
        await storage.transact(send)
    assert not writer._busy, "closing would wait for ever for a thread that has ended"

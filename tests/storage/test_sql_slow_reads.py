"""Reads of an SQLite file that take long move from the event loop to a thread."""

import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.sqlite import reads as reads_module
from adapters.storage_sql.sqlite.reads import PAYLOAD_CHARACTERS
from adapters.storage_sql.sqlite.storage import SqliteStorage
from adapters.storage_sql.transaction import SqlReader
from messaging_core.effects import ChangeMessage, StoreChat, StoreMessage, StoreUser
from messaging_core.errors import ChatNotFound
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, Member, Message, MessageType, Role, User
from messaging_core.ports import Reader, StorageUnavailable, Transaction

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
PATIENCE = 20
"""Seconds after which a wait has failed."""
CHAT = ChatId(1)
COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT count(*) FROM n"
LONG = 50_000
"""Numbers to count to that take more steps of SQLite than the loop has for a read."""


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    async with open_sqlite(tmp_path / "test.db") as storage:
        assert isinstance(storage, SqliteStorage)
        await storage.transact(prepare)
        storage._reads.budget.seconds = PATIENCE  # only the number of steps counts, on a busy machine too
        yield storage


def prepare(tx: Transaction) -> None:
    for number in (1, 2):
        email = f"{number}@test.com"
        tx.apply(StoreUser(User(tx.next_user_id(), email, "Name", f"tag{number}", None, NOW), "hash", email))
    members = tuple(Member(UserId(number), Role.MEMBER, NOW) for number in (1, 2))
    tx.apply(StoreChat(Chat(tx.next_chat_id(), "", False, NOW, members, 0, NOW, None)))


def message(id_: int, content: str | None = "hello", payload: dict[str, Any] | None = None) -> Message:
    type_ = MessageType.TEXT if payload is None else MessageType.FILE
    return Message(MessageId(id_), CHAT, UserId(1), type_, content, payload, NOW, None, None, None, id_, id_)


def send(tx: Transaction) -> None:
    id_ = tx.next_message_id()
    tx.apply(StoreMessage(message(id_), id_))


def count_to(reader: Reader, number: int) -> int:
    assert isinstance(reader, SqlReader)
    return int(reader._execute(COUNT, (number,)).fetchone()[0])


def history(reader: Reader) -> list[MessageId]:
    return [each.id for each in reader.messages_before(CHAT, None, 50)]


def thread_after(query: Callable[[Reader], object]) -> Callable[[Reader], str]:
    """A query that gives the name of the thread in which `query` came to its end."""

    def run(reader: Reader) -> str:
        query(reader)
        return threading.current_thread().name

    return run


async def thread_of(storage: SqliteStorage, query: Callable[[Reader], object]) -> str:
    return await storage.read(thread_after(query))


async def happened(event: threading.Event) -> None:
    """Wait on a busy loop for what a thread does."""
    while not event.is_set():
        await trio.lowlevel.checkpoint()


async def test_a_short_read_stays_on_the_loop(storage: SqliteStorage) -> None:
    """A read within its budget is not handed to a thread."""
    assert await thread_of(storage, lambda reader: count_to(reader, 100)) == threading.main_thread().name
    assert await thread_of(storage, history) == threading.main_thread().name


async def test_a_long_statement_moves_to_the_thread(storage: SqliteStorage) -> None:
    """SQLite interrupts it on the loop after so many steps; the loop turns while the thread runs it."""
    assert await storage.read(lambda reader: count_to(reader, LONG)) == LONG
    assert await thread_of(storage, lambda reader: count_to(reader, LONG)) == "storage reader 1"
    reading, turned = threading.Event(), threading.Event()

    def wait_for_a_turn(reader: Reader) -> bool:
        count_to(reader, LONG)
        reading.set()
        return turned.wait(PATIENCE)

    async with trio.open_nursery() as nursery:

        async def turn() -> None:
            await happened(reading)
            turned.set()

        nursery.start_soon(turn)
        assert await storage.read(wait_for_a_turn)


async def test_many_statements_move_to_the_thread(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read of many short statements moves when it has taken its time on the loop."""
    now, statements = 0.0, 0
    monkeypatch.setattr(reads_module, "monotonic", lambda: now)
    storage._reads.budget.seconds = 1

    def many(reader: Reader) -> int:
        nonlocal now, statements
        statements = 0
        for number in range(100):
            now += 0.1
            statements += 1
            reader.log(CHAT, number, 1)
        return statements

    assert await thread_of(storage, many) == "storage reader 1"
    assert statements == 100


async def test_large_payloads_are_decoded_in_the_thread(storage: SqliteStorage) -> None:
    """A page moves to the thread before its payloads are decoded, which SQLite cannot interrupt."""
    payload = {"text": "x" * (PAYLOAD_CHARACTERS // 2)}

    def store(tx: Transaction) -> None:
        for _ in range(3):
            id_ = tx.next_message_id()
            tx.apply(StoreMessage(message(id_, None, payload), id_))

    await storage.transact(store)
    page = lambda reader: reader.messages_after(CHAT, MessageId(0), 1)  # noqa: E731
    assert await thread_of(storage, page) == threading.main_thread().name
    assert await thread_of(storage, history) == "storage reader 1"
    assert await thread_of(storage, history) == threading.main_thread().name, (
        "the thread's messages are cached"
    )


async def test_a_read_sees_what_was_committed_before_it(storage: SqliteStorage) -> None:
    """A read in the thread sees each commit that its caller has seen, and none that comes after its view."""
    storage._reads.budget.seconds = -1
    for number in range(1, 20):
        await storage.transact(send)
        assert len(await storage.read(lambda reader: reader.log(CHAT, 0, 100))) == number
    viewed, committed = threading.Event(), threading.Event()

    def query_twice(reader: Reader) -> tuple[int, int]:
        before = len(reader.log(CHAT, 0, 100))
        viewed.set()
        assert committed.wait(PATIENCE)
        return before, len(reader.log(CHAT, 0, 100))

    async with trio.open_nursery() as nursery:

        async def commit() -> None:
            await happened(viewed)
            await storage.transact(send)
            committed.set()

        nursery.start_soon(commit)
        assert await storage.read(query_twice) == (19, 19)


async def test_what_changes_meanwhile_is_not_cached(storage: SqliteStorage) -> None:
    """What the thread has loaded is cached, unless a commit has changed it since the read began."""
    await storage.transact(send)
    storage._reads.budget.seconds = -1
    viewed, committed = threading.Event(), threading.Event()

    def load(reader: Reader) -> list[str | None]:
        found = [each.content for each in reader.messages_before(CHAT, None, 50)]
        viewed.set()
        assert committed.wait(PATIENCE)
        return [*found, getattr(reader.user(UserId(1)), "tag", None)]

    async with trio.open_nursery() as nursery:

        async def edit() -> None:
            await happened(viewed)
            await storage.transact(lambda tx: tx.apply(ChangeMessage(evolve(message(1), content="edited"))))
            committed.set()

        nursery.start_soon(edit)
        assert await storage.read(load) == ["hello", "tag1"]
    assert await thread_of(storage, lambda reader: reader.user(UserId(1))) == threading.main_thread().name
    assert await storage.read(
        lambda reader: [each.content for each in reader.messages_before(CHAT, None, 1)]
    ) == ["edited"]


async def test_errors_in_the_thread_are_those_of_the_loop(storage: SqliteStorage) -> None:
    """A refusal and a defect arrive as they are; where the machine failed, the storage is unavailable."""
    storage._reads.budget.seconds = -1
    failing = sqlite3.OperationalError("failing")
    failing.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
    for error, expected in (
        (ChatNotFound(), ChatNotFound),
        (sqlite3.OperationalError("a defect"), sqlite3.OperationalError),
        (failing, StorageUnavailable),
    ):

        def fail(reader: Reader, error: Exception = error) -> None:
            reader.log(CHAT, 0, 1)
            raise error

        with pytest.raises(expected):
            await storage.read(fail)
    assert await storage.read(history) == []


async def test_a_cancelled_caller_does_not_wait_for_the_thread(
    storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves at once, whether its read runs or waits; closing the storage waits for the one that runs."""
    storage._reads.budget.seconds = -1
    release = threading.Event()
    ended: list[None] = []

    def hold(reader: Reader) -> None:
        reader.log(CHAT, 0, 1)
        assert release.wait(PATIENCE)
        ended.append(None)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(storage.read, hold)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert ended == []
    assert not storage._reads._committed._loads
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.close)
        await wait_all_tasks_blocked()
        release.set()
    assert ended == [None]
    with pytest.raises(StorageUnavailable):
        await storage.read(history)


async def test_a_full_queue_refuses(storage: SqliteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a bound, slow reads are refused at once, and small ones go on."""
    release = threading.Event()
    storage._reads._threads._max_waiting = 1

    def hold(reader: Reader) -> None:
        count_to(reader, LONG)
        assert release.wait(PATIENCE)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(storage.read, hold)
        await wait_all_tasks_blocked()
        with pytest.raises(StorageUnavailable, match="waiting"):
            await storage.read(hold)
        assert await storage.read(history) == []
        release.set()


async def test_threads_switch_quickly_while_the_thread_reads(storage: SqliteStorage) -> None:
    """The interpreter's switch interval is short during a read in the thread, and the usual one after it."""
    usual = sys.getswitchinterval()

    def look(reader: Reader) -> float:
        count_to(reader, LONG)
        return sys.getswitchinterval()

    assert await storage.read(look) < usual
    assert sys.getswitchinterval() == usual


async def test_the_usual_switch_interval_returns_after_two_storages(tmp_path: Path) -> None:
    """Reads in the threads of two storages overlap, and leave the interpreter's interval as it was."""
    usual = sys.getswitchinterval()
    releases = [threading.Event(), threading.Event()]

    async def read(path: Path, release: threading.Event, *, task_status: trio.TaskStatus[None]) -> None:
        begun = threading.Event()

        def hold(reader: Reader) -> None:
            count_to(reader, LONG)
            begun.set()
            assert release.wait(PATIENCE)

        async with open_sqlite(path) as storage, trio.open_nursery() as nursery:
            nursery.start_soon(storage.read, hold)
            assert await trio.to_thread.run_sync(begun.wait, PATIENCE)
            task_status.started()

    async with trio.open_nursery() as second:
        async with trio.open_nursery() as first:
            await first.start(read, tmp_path / "one.db", releases[0])
            await second.start(read, tmp_path / "other.db", releases[1])
            releases[0].set()
        releases[1].set()
    assert sys.getswitchinterval() == usual

"""The writer of the SQLite storage: what waits together commits together, and fails alone."""

import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from adapters.storage_sql import open_sqlite
from adapters.storage_sql import writer as writer_module
from adapters.storage_sql.members import MembersCache
from adapters.storage_sql.sqlite import SqliteStorage
from adapters.storage_sql.transaction import SqlTransaction
from adapters.storage_sql.writer import AWAY, FLUSH_HERE, HICCUP, LOG_LIMIT
from messaging_core.effects import AdvanceChat, ChangeMessage, StoreChat, StoreMessage, StoreUser
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, Member, Message, MessageType, Role, User
from messaging_core.ports import Reader, StorageUnavailable, Transaction
from tests.storage.ctrl_c import struck

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
CHAT = ChatId(1)
ALICE = UserId(1)
BOB = UserId(2)


def prepare(tx: Transaction) -> None:
    """Alice, Bob and their chat."""
    for _ in range(2):
        number = tx.next_user_id()
        tx.apply(StoreUser(User(number, f"{number}@test.com", "Name", f"tag{number}", None, NOW), "hash"))
    members = tuple(Member(user_id, Role.MEMBER, NOW) for user_id in (ALICE, BOB))
    tx.apply(StoreChat(Chat(tx.next_chat_id(), "", False, NOW, members, 0, NOW, None)))


def send(tx: Transaction, content: str = "hello", chat_id: ChatId = CHAT) -> MessageId:
    message = Message(
        tx.next_message_id(), chat_id, ALICE, MessageType.TEXT, content, None, NOW, None, None, None
    )
    tx.apply(StoreMessage(message, message.id))
    return message.id


def history(reader: Reader) -> list[MessageId]:
    return [message.id for message in reader.messages_after(CHAT, MessageId(0), 100_000)]


def raw(tx: Transaction) -> Callable[..., Any]:
    """The driver's own `execute`."""
    assert isinstance(tx, SqlTransaction)
    return tx._connection.execute


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    async with open_sqlite(tmp_path / "test.db") as storage:
        assert isinstance(storage, SqliteStorage)
        await storage.transact(prepare)
        yield storage


def files(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


class Held(Exception):
    pass


@contextmanager
def commit_held(storage: SqliteStorage) -> Iterator[trio.Event]:
    """Keep the next commit under way, in the thread, until the block is left; the event: it has begun."""
    began, release = trio.Event(), threading.Event()
    loop = trio.lowlevel.current_trio_token()
    writer = storage._writer
    commit = writer._commit

    def wait_and_commit() -> None:
        vars(writer).pop("_commit")
        loop.run_sync_soon(began.set)
        assert release.wait(60)
        commit()

    vars(writer)["_commit"] = wait_and_commit
    writer._away = 1
    try:
        yield began
    finally:
        release.set()


@contextmanager
def held(storage: SqliteStorage, nursery: trio.Nursery) -> Iterator[trio.Event]:
    """Keep the commit of one message under way, so that whoever comes meanwhile shares the next one."""
    with commit_held(storage) as began:
        nursery.start_soon(storage.transact, lambda tx: send(tx, "held"))
        yield began


async def together(storage: SqliteStorage, *operations: Callable[[Transaction], Any]) -> list[object]:
    """The outcomes of operations that are claimed in one batch: what they return or raise."""
    outcomes: list[object] = [None] * len(operations)

    async def run(number: int, operation: Callable[[Transaction], Any]) -> None:
        try:
            outcomes[number] = await storage.transact(operation)
        except Exception as error:  # noqa: BLE001 - an outcome like another
            outcomes[number] = error

    async with trio.open_nursery() as nursery:
        with held(storage, nursery) as began:
            await began.wait()
            for number, operation in enumerate(operations):
                nursery.start_soon(run, number, operation)
                await wait_all_tasks_blocked()
    return outcomes


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
async def test_one_that_fails_leaves_the_others(storage: SqliteStorage, changes: bool) -> None:
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


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_while_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: bool) -> None:
    """Ctrl-C just before an operation is waited for leaves nobody behind who would be woken for nothing."""

    async def run() -> None:
        async with open_sqlite(tmp_path / "test.db") as storage:
            assert isinstance(storage, SqliteStorage)
            await storage.transact(prepare)
            storage._writer._away = 1
            storage._writer._single = not busy
            await wait_all_tasks_blocked(cushion=0.001)
            await struck(lambda: storage.transact(send), monkeypatch)
            assert await storage.transact(lambda _: "the next") == "the next"
            assert await storage.read(history) == ([] if busy else [1])

    trio.run(run)


async def test_cancelled_while_it_waits(storage: SqliteStorage) -> None:
    """An operation whose caller is cancelled before it was claimed never runs, and nothing is told."""
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
        raise AssertionError("the cancellation was forgotten")

    async with trio.open_nursery() as nursery:
        with commit_held(storage) as began:
            nursery.start_soon(caller)
            await began.wait()
            nursery.cancel_scope.cancel()
    assert outcomes == [1, 1]
    assert await storage.read(history) == [1]


async def test_cancelled_before_it_asks(storage: SqliteStorage) -> None:
    """A caller that is cancelled already changes nothing."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await storage.transact(send)
    assert scope.cancelled_caught
    assert await storage.read(history) == []


async def test_a_commit_that_fails_is_taken_apart(storage: SqliteStorage) -> None:
    """When a commit fails, each operation is run again alone, and only the cause of it fails."""

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
    """On a full disk whoever needs room is told `StorageUnavailable`, and who needs none is served."""

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


async def test_a_file_that_another_locks(storage: SqliteStorage, tmp_path: Path) -> None:
    """While another program holds the file locked for longer than we wait, callers are told, each of them."""
    await storage.transact(lambda tx: raw(tx)("PRAGMA busy_timeout = 0").fetchone())
    other = sqlite3.connect(tmp_path / "test.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageUnavailable, match="locked"):
        await storage.transact(send)
    other.execute("ROLLBACK")
    other.close()
    assert await storage.transact(send) == 1


async def test_a_read_that_the_disk_fails(storage: SqliteStorage) -> None:
    """A read that fails for reasons of the machine says so; a defect stays what it is."""

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


async def test_a_chat_that_is_not_there_cannot_advance(storage: SqliteStorage) -> None:
    """Advancing needs the chat: a change of nothing is a defect, not a success."""
    chat = await storage.read(lambda reader: reader.chat(CHAT))
    assert chat is not None
    with pytest.raises(LookupError):
        await storage.transact(lambda tx: tx.apply(AdvanceChat(evolve(chat, id=ChatId(99)))))


def test_members_kept_are_bounded() -> None:
    """Beyond its bound the cache drops whatever it has kept longest, and replaces what is renewed."""
    members = tuple(Member(UserId(number), Role.MEMBER, NOW) for number in range(1, 5))
    cache = MembersCache(members_kept=10)
    cache.put(ChatId(1), 1, members)
    cache.put(ChatId(2), 1, members)
    cache.put(ChatId(2), 2, members[:3])
    assert cache.get(ChatId(1), 1) is members
    assert cache.get(ChatId(2), 1) is None
    cache.put(ChatId(3), 1, members)
    assert cache.get(ChatId(1), 1) is None
    assert cache.get(ChatId(2), 2) == members[:3]
    assert cache.get(ChatId(3), 1) is members


async def test_members_of_a_commit_that_failed_are_not_kept(storage: SqliteStorage) -> None:
    """What was read in a transaction that was not committed is not taken for committed members later."""
    groups: list[ChatId] = []

    def add_group(tx: Transaction, chat_id: ChatId, owner: UserId) -> Chat | None:
        members = (Member(owner, Role.OWNER, NOW),)
        tx.apply(StoreChat(Chat(chat_id, "", True, NOW, members, 0, NOW, None)))
        return tx.lock_chat(chat_id)

    def fail(tx: Transaction) -> None:
        groups.append(tx.next_chat_id())
        add_group(tx, groups[0], ALICE)
        raise Held

    def fail_at_commit(tx: Transaction) -> None:
        raw(tx)("PRAGMA defer_foreign_keys = ON")
        add_group(tx, groups[0], ALICE)
        send(tx, chat_id=ChatId(99))

    with pytest.raises(Held):
        await storage.transact(fail)
    with pytest.raises(sqlite3.IntegrityError):
        await storage.transact(fail_at_commit)
    chat = await storage.transact(lambda tx: add_group(tx, groups[0], BOB))
    assert chat is not None
    assert chat.member_ids == (BOB,)
    assert await storage.read(lambda reader: reader.chat(groups[0])) == chat
    assert await storage.transact(lambda tx: tx.lock_chat(groups[0])) == chat


async def test_members_are_read_once(storage: SqliteStorage) -> None:
    """Members that have not changed are the same tuple, for transactions and readers alike."""
    locked = await storage.transact(lambda tx: tx.lock_chat(CHAT))
    statements: list[str] = []
    storage._writing.set_trace_callback(statements.append)
    again = await storage.transact(lambda tx: tx.lock_chat(CHAT))
    seen = await storage.read(lambda reader: reader.chat(CHAT))
    assert locked is not None
    assert again is not None
    assert seen is not None
    assert locked.members is again.members is seen.members
    assert not any("members.role" in statement for statement in statements)


async def test_too_many_wait(storage: SqliteStorage) -> None:
    """Beyond its bound the queue refuses at once, and serves those who wait."""
    storage._writer._max_waiting = 2
    outcomes = await together(storage, send, send, send)
    assert isinstance(outcomes[2], StorageUnavailable)
    assert (await storage.read(history))[1:] == outcomes[:2]


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


async def settled() -> None:
    """Until every task that was just started has come to its first wait."""
    for _ in range(2):
        await trio.lowlevel.checkpoint()


async def test_closing_finishes_what_was_asked_for(tmp_path: Path) -> None:
    """What waits when the storage is closed is committed and answered; what comes later is refused."""
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


async def test_closing_survives_a_cancelled_caller(tmp_path: Path) -> None:
    """A storage that is left by cancellation is closed whole, and its file free for the next."""
    path = tmp_path / "test.db"
    with trio.CancelScope() as scope:
        async with open_sqlite(path) as storage:
            await storage.transact(prepare)
            scope.cancel()
    async with open_sqlite(path) as storage:
        assert await storage.transact(send) == 1


@pytest.mark.parametrize("place", ["after the commit", "in the thread"])
async def test_a_defect_is_loud(
    storage: SqliteStorage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Should the writer break down, nobody waits: who was being served is told that nothing is known."""

    def defect(*_: object) -> Any:
        raise RuntimeError("a defect")

    writer = storage._writer
    writer._logged = 0
    monkeypatch.setattr(writer_module, "CHECKPOINT_AFTER", 1)
    if place == "in the thread":
        writer._away = 1
        monkeypatch.setattr(writer._thread, "_free", defect)
    else:
        monkeypatch.setattr(writer._session, "after_commit", defect)
    with pytest.raises(RuntimeError, match="not known"):
        await storage.transact(send)
    assert "has failed" in caplog.text
    with pytest.raises(StorageUnavailable, match="has failed"):
        await storage.transact(send)
    assert not writer._busy, "or closing would wait for ever for what a dead thread does not do"


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
    writer._away = 0
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


async def test_who_comes_alone_waits_for_nobody(storage: SqliteStorage) -> None:
    """Where the loop has rested since the last one, who was alone as well, nobody else is waited for."""
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


async def test_more_than_one_commit_holds(storage: SqliteStorage) -> None:
    """Those whom a commit has no room for are carried out after it, though nobody else asks."""
    storage._writer._batch = 3
    with trio.fail_after(15):
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(storage.transact, send)
    assert await storage.read(history) == list(range(1, 11))


async def test_the_first_transaction(tmp_path: Path) -> None:
    """A transaction may be asked for as soon as the storage is open, before anything else has run."""
    with trio.fail_after(15):
        async with open_sqlite(tmp_path / "test.db") as storage:
            await storage.transact(prepare)


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


async def test_identifiers_survive(tmp_path: Path) -> None:
    """An identifier is not given again after its row was deleted and the storage opened anew."""
    path = tmp_path / "test.db"
    async with open_sqlite(path) as storage:
        await storage.transact(prepare)
        sent = [await storage.transact(send) for _ in range(3)]
        await storage.transact(lambda tx: raw(tx)("DELETE FROM messages"))
    async with open_sqlite(path) as storage:
        assert await storage.transact(send) == max(sent) + 1


async def test_identifiers_survive_a_crash(tmp_path: Path) -> None:
    """Whatever a process has given before it was killed, nobody gives again, and not many are skipped."""
    path = tmp_path / "test.db"
    async with open_sqlite(path) as storage:
        await storage.transact(prepare)
        sent = [await storage.transact(send) for _ in range(300)]
        for name in ("test.db", "test.db-wal"):  # what a crash would leave
            (tmp_path / f"crashed-{name}").write_bytes((tmp_path / name).read_bytes())
    async with open_sqlite(tmp_path / "crashed-test.db") as storage:
        assert [message.id for message in await storage.read(whole_history)] == sent
        assert max(sent) < await storage.transact(send) <= max(sent) + 256


def whole_history(reader: Reader) -> list[Message]:
    return list(reader.messages_after(CHAT, MessageId(0), 100_000))


async def test_a_changed_message_keeps_its_place(storage: SqliteStorage) -> None:
    """Changing a message replaces it, in the history too."""
    first, second = [await storage.transact(send) for _ in range(2)]

    def change(tx: Transaction) -> None:
        message = tx.message(first)
        assert message is not None
        tx.apply(ChangeMessage(evolve(message, content="changed")))

    await storage.transact(change)
    assert await storage.read(history) == [first, second]

"""PostgreSQL and the network fail: no commit is lost or notified twice, and the storage recovers."""

import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import psycopg
import pytest
import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from adapters.storage_sql.postgresql.config import PostgresqlConfig
from adapters.storage_sql.postgresql.connection import PostgresqlConnection
from adapters.storage_sql.postgresql.storage import PostgresqlStorage, open_postgresql
from messaging_core.effects import StoreUser
from messaging_core.ids import ChatId, MessageId
from messaging_core.models import Chat, Excerpt, Member, User
from messaging_core.ports import Storage, StorageUnavailable, Transaction
from tests.patience import PATIENCE
from tests.postgresql import break_all, connect
from tests.storage.broken_network import BrokenNetwork, network
from tests.storage.ctrl_c import interrupted
from tests.storage.people import ALICE, CHAT, NOW, OTHER_CHAT, prepare, send, written
from tests.storage.system_tasks import system_tasks

QUICK = PostgresqlConfig(database_time=1.0, database_lock_time=0.2)

Sent = list[tuple[int, MessageId]]


@pytest.fixture
async def between(postgresql: str) -> AsyncIterator[BrokenNetwork]:
    async with network(postgresql) as made:
        yield made


@asynccontextmanager
async def opened(address: str, config: PostgresqlConfig | None = None) -> AsyncIterator[PostgresqlStorage]:
    """Open a storage with users in it; fails after `PATIENCE`."""
    with trio.fail_after(PATIENCE):
        async with open_postgresql(address, config) as storage:
            assert isinstance(storage, PostgresqlStorage)
            await storage.transact(prepare)
            yield storage


def once(action: Callable[[], object]) -> Callable[[], None]:
    """Wrap `action` to run the first time only, because an operation may run again."""
    done: list[None] = []

    def act() -> None:
        if not done:
            done.append(None)
            action()

    return act


async def fails(storage: Storage) -> str:
    with pytest.raises(StorageUnavailable) as raised:
        await storage.transact(send)
    return str(raised.value)


# --- a COMMIT without a response ----------------------------------------------------------------------------


async def test_a_commit_whose_response_is_lost_succeeds(between: BrokenNetwork) -> None:
    """The caller gets its result; the commit is stored and notified once, before the next one."""
    notified: Sent = []
    async with opened(between.address) as storage:

        def operation(tx: Transaction) -> tuple[int, MessageId]:
            between.drops_commit_response = True
            return send(tx)

        first = await storage.transact(operation, committed=notified.append)
        assert not between.drops_commit_response
        second = await storage.transact(send, committed=notified.append)
        assert notified == [first, second] == await storage.read(written)


async def test_a_commit_that_never_arrives_fails(between: BrokenNetwork) -> None:
    """Nothing is stored or notified, and the server soon releases the transaction's lock."""
    notified: Sent = []
    async with opened(between.address) as storage:

        def operation(tx: Transaction) -> tuple[int, MessageId]:
            sent = send(tx)
            between.swallows_next_send = True
            return sent

        with pytest.raises(StorageUnavailable):
            await storage.transact(operation, committed=notified.append)
        assert await storage.read(written) == notified == []
        number, _ = await storage.transact(send)
        assert number == 1


async def test_a_transaction_without_changes_needs_no_response(between: BrokenNetwork) -> None:
    """Without changes, a lost response leaves no outcome to look up."""
    notified: list[str] = []
    async with opened(between.address) as storage:

        def operation(tx: Transaction) -> str:
            assert tx.lock_chat(CHAT) is not None
            between.drops_commit_response = between.refuses_connections = True
            return "looked"

        assert await storage.transact(operation, committed=notified.append) == "looked"
        assert notified == ["looked"]
        between.refuses_connections = False
        await storage.transact(send)


async def test_only_the_caller_of_a_lost_commit_waits_for_its_outcome(between: BrokenNetwork) -> None:
    """While the server is unreachable, a lost COMMIT waits, and other calls are refused."""
    notified: Sent = []
    async with opened(between.address) as storage:

        def operation(tx: Transaction) -> tuple[int, MessageId]:
            between.drops_commit_response = between.refuses_connections = True
            return send(tx)

        async def first() -> None:
            await storage.transact(operation, committed=notified.append)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await between.dropped.wait()
            between.breaks_connections = True
            try:
                for _ in range(20):
                    assert "PostgreSQL" in await fails(storage)
                    with pytest.raises(StorageUnavailable):
                        await storage.read(written)
                assert notified == []
            finally:
                # A transaction that has begun cannot be cancelled.
                between.refuses_connections = between.breaks_connections = False
        assert len(notified) == 1
        while True:  # the storage connects again after a moment
            with suppress(StorageUnavailable):
                await storage.transact(send, committed=notified.append)
                break
        assert notified == await storage.read(written)


async def test_closing_leaves_an_outcome_unknown(between: BrokenNetwork) -> None:
    """A storage that closes while the server is unreachable reports an unknown outcome, and nothing else."""
    notified: Sent = []
    outcomes: list[BaseException] = []

    async def send_and_lose(storage: Storage) -> None:
        def operation(tx: Transaction) -> tuple[int, MessageId]:
            between.drops_commit_response = between.refuses_connections = True
            return send(tx)

        try:
            await storage.transact(operation, committed=notified.append)
        except RuntimeError as error:
            outcomes.append(error)

    async with trio.open_nursery() as nursery, opened(between.address, QUICK) as storage:
        nursery.start_soon(send_and_lose, storage)
        await between.dropped.wait()
    assert ["not known" in str(outcome) for outcome in outcomes] == [True]
    assert notified == []


# --- connections --------------------------------------------------------------------------------------------


async def test_ended_connections_are_replaced(postgresql: str) -> None:
    """While the server keeps ending all connections, each caller gets the right outcome."""
    notified: Counter[int] = Counter()
    sent: list[tuple[int, MessageId]] = []
    refused = 0
    async with opened(postgresql) as storage:
        broken = 0

        async def caller() -> None:
            nonlocal refused
            while broken < 60:
                try:
                    sent.append(
                        await storage.transact(send, committed=lambda message: notified.update([message[0]]))
                    )
                    await storage.read(lambda reader: reader.user(ALICE))
                except StorageUnavailable:
                    refused += 1

        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(caller)
            while broken < 60:
                broken += await trio.to_thread.run_sync(break_all, postgresql)
        log = await storage.read(written)
    assert sorted(sent) == log
    assert notified == Counter(number for number, _ in log)


async def test_an_idle_connection_that_broke_is_replaced(postgresql: str) -> None:
    """No caller notices that a connection was lost while it was idle."""
    async with opened(postgresql) as storage:
        await storage.read(written)
        assert break_all(postgresql) == 2
        await storage.transact(send)
        assert len(await storage.read(written)) == 1


async def test_an_operation_whose_connection_breaks_runs_again(postgresql: str) -> None:
    """The server rolls back the statements before the break, and the operation repeats them."""
    notified: Sent = []
    async with opened(postgresql) as storage:
        interrupt = once(lambda: break_all(postgresql))

        def operation(tx: Transaction) -> tuple[int, MessageId]:
            assert tx.lock_chat(CHAT) is not None
            interrupt()
            return send(tx)

        sent = await storage.transact(operation, committed=notified.append)
        assert notified == [sent] == await storage.read(written)


async def test_a_call_to_a_stalled_server_times_out(between: BrokenNetwork) -> None:
    """Before COMMIT, a call to a server that does not respond fails within `database_time`."""
    async with opened(between.address, QUICK) as storage:
        await storage.read(written)
        between.stalls = True
        await fails(storage)
        with pytest.raises(StorageUnavailable):
            await storage.read(written)
        between.stalls = False
        between.goes_on.set()
        while True:
            with suppress(StorageUnavailable):
                await storage.transact(send)
                break
        assert len(await storage.read(written)) == 1


# --- waiting ------------------------------------------------------------------------------------------------


@contextmanager
def locked(address: str) -> Iterator[None]:
    """Hold the chat's lock on another connection."""
    with connect(address) as connection, connection.transaction():
        connection.execute("SELECT 1 FROM chats WHERE id = 1 FOR UPDATE")
        yield


async def test_the_wait_for_a_lock_times_out(postgresql: str) -> None:
    """After `database_lock_time` nothing was changed; other chats and readers do not wait."""
    async with opened(postgresql, QUICK) as storage:
        with locked(postgresql):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fails, storage)
                await storage.transact(lambda tx: send(tx, chat_id=OTHER_CHAT))
                assert await storage.read(written) == []
            assert "lock timeout" in await fails(storage)
        assert (await storage.transact(send))[0] == 1


@pytest.mark.parametrize("method", ["transact", "read"])
async def test_the_wait_for_a_connection_times_out(postgresql: str, method: str) -> None:
    """While all connections are busy, a waiting call fails after `database_time` and has not begun."""
    config = evolve(QUICK, database_writers=1, database_readers=1, database_time=0.5)
    release, begun = threading.Event(), list[None]()
    async with opened(postgresql, config) as storage:
        call = getattr(storage, method)

        async def hold() -> None:
            with suppress(StorageUnavailable):  # it exceeds the timeout as well
                await call(lambda _: release.wait(PATIENCE))

        async def is_refused() -> None:
            with pytest.raises(StorageUnavailable, match=r"No connection was free for 0\.5 s"):
                await call(lambda _: begun.append(None))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            await wait_all_tasks_blocked()
            try:
                async with trio.open_nursery() as waiting:
                    for _ in range(30):
                        waiting.start_soon(is_refused)
            finally:
                release.set()
        assert begun == []
        while not begun:
            with suppress(StorageUnavailable):
                await call(lambda _: begun.append(None))


async def test_cancelled_in_the_queue(postgresql: str) -> None:
    """An operation whose caller is cancelled before it begins never runs, and the caller returns at once."""
    begun: list[None] = []
    async with (
        opened(postgresql, PostgresqlConfig(database_writers=1)) as storage,
        trio.open_nursery() as nursery,
    ):
        with locked(postgresql):
            nursery.start_soon(storage.transact, send)
            await wait_all_tasks_blocked()
            with trio.CancelScope() as scope:
                scope.cancel()
                await storage.transact(lambda _: begun.append(None))
            with trio.move_on_after(0.05) as scope:
                await storage.transact(lambda _: begun.append(None))
            assert scope.cancelled_caught
        while not await storage.read(written):
            pass
    assert begun == []


async def test_closing_ends_the_storages_tasks(postgresql: str) -> None:
    """A closed storage leaves no task."""
    before = system_tasks()
    async with open_postgresql(postgresql):
        await wait_all_tasks_blocked()
        assert system_tasks() > before
    await wait_all_tasks_blocked()
    assert system_tasks() == before


# --- conflicts ----------------------------------------------------------------------------------------------


def test_ctrl_c_before_the_wait(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C just before the caller waits leaves no call whose outcome would wake the caller's next wait."""

    async def run() -> None:
        async with open_postgresql(postgresql) as storage:
            await interrupted(lambda: storage.transact(lambda _: "done"), monkeypatch)
            assert await storage.transact(lambda _: "the next") == "the next"

    trio.run(run)


async def test_a_deadlocked_operation_runs_again(postgresql: str) -> None:
    """Of two operations that lock two chats in opposite orders, PostgreSQL fails one, which runs again."""
    both = threading.Barrier(2)
    async with opened(postgresql) as storage:

        async def lock(*chats: ChatId) -> None:
            meet = once(lambda: both.wait(PATIENCE))

            def operation(tx: Transaction) -> None:
                send(tx, chat_id=chats[0])
                meet()
                send(tx, chat_id=chats[1])

            await storage.transact(operation)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lock, CHAT, OTHER_CHAT)
            nursery.start_soon(lock, OTHER_CHAT, CHAT)
        assert len(await storage.read(written)) == 2


async def test_concurrent_registrations_of_an_e_mail(postgresql: str) -> None:
    """The later of two concurrent registrations runs again, and finds the account of the earlier one."""
    both = threading.Barrier(2)
    runs: Counter[int] = Counter()
    async with opened(postgresql) as storage:
        found: list[User | None] = []

        async def register(number: int) -> None:
            meet = once(lambda: both.wait(PATIENCE))

            def operation(tx: Transaction) -> User | None:
                runs[number] += 1
                known = tx.user_by_email("carol@test.com")
                meet()
                if known is None:
                    user = User(tx.next_user_id(), "carol@test.com", "Carol", f"carol{number}", None, NOW)
                    tx.apply(StoreUser(user, "hash", user.email))
                return known

            found.append(await storage.transact(operation))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(register, 1)
            nursery.start_soon(register, 2)
        carol = await storage.read(lambda reader: reader.user_by_email("carol@test.com"))
        assert carol is not None
        assert sorted(runs.values()) == [1, 2]
        assert found == [None, carol]


class ChangingCache:
    """An empty cache of members; the chat changes before each look-up in it."""

    def __init__(self, change: Callable[[], None]) -> None:
        self._change = change

    def get(self, chat_id: ChatId, version: int) -> None:
        self._change()

    def put(self, chat_id: ChatId, version: int, members: tuple[Member, ...]) -> None:
        pass


@pytest.mark.parametrize(
    "look",
    [lambda reader: reader.chat(CHAT), lambda reader: reader.excerpts({CHAT: 5}, ALICE)[CHAT]],
    ids=["a chat", "a list of chats"],
)
async def test_the_title_and_the_members_of_a_chat_are_of_one_version(
    postgresql: str, look: Callable[[Any], Chat | Excerpt]
) -> None:
    """If a chat changes between the reads of its row and of its members, the operation runs again."""
    async with opened(postgresql) as storage:

        def change() -> None:
            with connect(postgresql) as connection:
                connection.execute("UPDATE chats SET members_version = 2, title = 'Changed' WHERE id = 1")
                connection.execute("DELETE FROM members WHERE chat_id = 1 AND user_id = 2")

        change_once = once(change)

        def operation(tx: Any) -> Chat | Excerpt:
            tx._members._staged = ChangingCache(change_once)
            return look(tx)

        found = await storage.transact(operation)
        assert isinstance(found, Chat)
        assert (found.title, found.member_ids) == ("Changed", (ALICE,))
        assert found == await storage.read(lambda reader: reader.chat(CHAT))


async def test_threads_that_wake_in_the_other_order(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However late a thread wakes after its commit, the chat's next commit is notified after it."""
    second_is_through = threading.Event()
    slow = once(lambda: second_is_through.wait(PATIENCE))
    commit = PostgresqlConnection.commit

    def commit_and_dawdle(connection: PostgresqlConnection) -> None:
        commit(connection)
        if "writer" in threading.current_thread().name:
            slow()

    notified: Sent = []
    async with opened(postgresql) as storage:
        monkeypatch.setattr(PostgresqlConnection, "commit", commit_and_dawdle)

        async def first() -> None:
            await storage.transact(send, committed=notified.append)

        async def second() -> None:
            while not await storage.read(written):
                pass
            await storage.transact(send, committed=notified.append)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(second)
            while len(await storage.read(written)) < 2:
                pass
            # A commit in another chat waits for neither.
            await storage.transact(lambda tx: send(tx, chat_id=OTHER_CHAT), committed=notified.append)
            assert len(notified) == 1
            second_is_through.set()
        assert notified[1:] == await storage.read(written)


async def test_an_operation_that_suppresses_an_error(postgresql: str) -> None:
    """PostgreSQL then responds to COMMIT with ROLLBACK, and the caller gets an error."""
    notified: list[None] = []
    async with opened(postgresql) as storage:

        def operation(tx: Transaction) -> None:
            send(tx)
            connection: Any = tx
            with suppress(psycopg.Error):
                connection._execute("SELECT 1 / 0").fetchone()

        with pytest.raises(psycopg.Error):
            await storage.transact(operation, committed=notified.append)
        assert await storage.read(written) == notified == []
        await storage.transact(send)

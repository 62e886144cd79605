"""PostgreSQL and the way to it fail: nothing is lost, told twice or told wrongly, and all goes on."""

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
from adapters.storage_sql.postgresql.link import Link
from adapters.storage_sql.postgresql.storage import PostgresqlStorage, open_postgresql
from messaging_core.effects import StoreUser
from messaging_core.ids import ChatId, MessageId
from messaging_core.models import Chat, Excerpt, Member, User
from messaging_core.ports import Storage, StorageUnavailable, Transaction
from tests.postgresql import connect
from tests.storage.broken_network import Network, network
from tests.storage.ctrl_c import struck
from tests.storage.people import ALICE, CHAT, NOW, OTHER_CHAT, prepare, send, written
from tests.storage.system_tasks import system_tasks

PATIENCE = 20
"""Seconds after which something that should have happened has not."""
QUICK = PostgresqlConfig(database_time=1.0, database_lock_time=0.2)

Told = list[tuple[int, MessageId]]


@pytest.fixture
async def between(postgresql: str) -> AsyncIterator[Network]:
    async with network(postgresql) as made:
        yield made


@asynccontextmanager
async def opened(address: str, config: PostgresqlConfig | None = None) -> AsyncIterator[PostgresqlStorage]:
    """A storage with people in it, which nobody waits for too long."""
    with trio.fail_after(PATIENCE):
        async with open_postgresql(address, config) as storage:
            assert isinstance(storage, PostgresqlStorage)
            await storage.transact(prepare)
            yield storage


def break_all(address: str) -> int:
    """Have the server end every connection to the database but the one that asks; how many."""
    with connect(address) as connection:
        return len(
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() "
                "AND backend_type = 'client backend'"
            ).fetchall()
        )


def once(action: Callable[[], object]) -> Callable[[], None]:
    """`action`, the first time: operations may be run again."""
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


# --- a COMMIT without an answer -----------------------------------------------------------------------------


async def test_a_commit_whose_answer_is_lost_has_happened(between: Network) -> None:
    """The caller is given its result, which is told and kept once; who comes next is told after it."""
    told: Told = []
    async with opened(between.address) as storage:

        def operation(tx: Transaction) -> tuple[int, MessageId]:
            between.loses_commits = True
            return send(tx)

        first = await storage.transact(operation, committed=told.append)
        assert not between.loses_commits
        second = await storage.transact(send, committed=told.append)
        assert told == [first, second] == await storage.read(written)


async def test_a_commit_that_never_arrives_has_not_happened(between: Network) -> None:
    """Nothing is told or kept, and the lock that the server still holds for it is free soon."""
    told: Told = []
    async with opened(between.address) as storage:

        def operation(tx: Transaction) -> tuple[int, MessageId]:
            sent = send(tx)
            between.swallows = True
            return sent

        with pytest.raises(StorageUnavailable):
            await storage.transact(operation, committed=told.append)
        assert await storage.read(written) == told == []
        number, _ = await storage.transact(send)
        assert number == 1


async def test_what_changes_nothing_needs_no_answer(between: Network) -> None:
    """Where nothing was applied, a lost answer leaves nothing to be found out."""
    told: list[str] = []
    async with opened(between.address) as storage:

        def operation(tx: Transaction) -> str:
            assert tx.lock_chat(CHAT) is not None
            between.loses_commits = between.refuses = True
            return "looked"

        assert await storage.transact(operation, committed=told.append) == "looked"
        assert told == ["looked"]
        between.refuses = False
        await storage.transact(send)


async def test_the_outcome_is_waited_for_and_nobody_else_waits(between: Network) -> None:
    """While the server is away a lost COMMIT stays open; others are refused, and all is told in order."""
    told: Told = []
    async with opened(between.address) as storage:

        def operation(tx: Transaction) -> tuple[int, MessageId]:
            between.loses_commits = between.refuses = True
            return send(tx)

        async def first() -> None:
            await storage.transact(operation, committed=told.append)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await between.lost.wait()
            between.breaks = True
            try:
                for _ in range(20):
                    assert "PostgreSQL" in await fails(storage)
                    with pytest.raises(StorageUnavailable):
                        await storage.read(written)
                assert told == []
            finally:
                # What has been claimed cannot be cancelled.
                between.refuses = between.breaks = False
        assert len(told) == 1
        while True:  # others ask for the server again after a moment
            with suppress(StorageUnavailable):
                await storage.transact(send, committed=told.append)
                break
        assert told == await storage.read(written)


async def test_an_outcome_that_stays_unknown_is_called_so(between: Network) -> None:
    """A storage that is closed while the server is away says that it does not know, and that only."""
    told: Told = []
    outcomes: list[BaseException] = []

    async def send_and_lose(storage: Storage) -> None:
        def operation(tx: Transaction) -> tuple[int, MessageId]:
            between.loses_commits = between.refuses = True
            return send(tx)

        try:
            await storage.transact(operation, committed=told.append)
        except RuntimeError as error:
            outcomes.append(error)

    async with trio.open_nursery() as nursery, opened(between.address, QUICK) as storage:
        nursery.start_soon(send_and_lose, storage)
        await between.lost.wait()
    assert ["not known" in str(outcome) for outcome in outcomes] == [True]
    assert told == []


# --- connections --------------------------------------------------------------------------------------------


async def test_a_restart_is_survived(postgresql: str) -> None:
    """All connections are ended again and again: each caller is told the truth, and all goes on by itself."""
    told: Counter[int] = Counter()
    sent: list[tuple[int, MessageId]] = []
    refused = 0
    async with opened(postgresql) as storage:
        broken = 0

        async def caller() -> None:
            nonlocal refused
            while broken < 60:
                try:
                    sent.append(
                        await storage.transact(send, committed=lambda message: told.update([message[0]]))
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
    assert told == Counter(number for number, _ in log)


async def test_an_idle_connection_that_broke_is_replaced(postgresql: str) -> None:
    """Nobody notices that a connection was lost while nothing was asked."""
    async with opened(postgresql) as storage:
        await storage.read(written)
        assert break_all(postgresql) == 2
        await storage.transact(send)
        assert len(await storage.read(written)) == 1


async def test_a_connection_that_breaks_in_an_operation_has_it_run_again(postgresql: str) -> None:
    """What was done before the last statements were sent is undone by the server, and done again."""
    told: Told = []
    async with opened(postgresql) as storage:
        interrupt = once(lambda: break_all(postgresql))

        def operation(tx: Transaction) -> tuple[int, MessageId]:
            assert tx.lock_chat(CHAT) is not None
            interrupt()
            return send(tx)

        sent = await storage.transact(operation, committed=told.append)
        assert told == [sent] == await storage.read(written)


async def test_a_server_that_stands_still_is_not_waited_for(between: Network) -> None:
    """Whoever asks a server that does not answer is told within `database_time`, before COMMIT was sent."""
    async with opened(between.address, QUICK) as storage:
        await storage.read(written)
        between.stands_still = True
        await fails(storage)
        with pytest.raises(StorageUnavailable):
            await storage.read(written)
        between.stands_still = False
        between.moves.set()
        while True:
            with suppress(StorageUnavailable):
                await storage.transact(send)
                break
        assert len(await storage.read(written)) == 1


# --- waiting ------------------------------------------------------------------------------------------------


@contextmanager
def locked(address: str) -> Iterator[None]:
    """Somebody else holds the chat's lock."""
    with connect(address) as connection, connection.transaction():
        connection.execute("SELECT 1 FROM chats WHERE id = 1 FOR UPDATE")
        yield


async def test_a_lock_is_waited_for_so_long(postgresql: str) -> None:
    """Beyond `database_lock_time` nothing was changed; other chats and all readers have not waited."""
    async with opened(postgresql, QUICK) as storage:
        with locked(postgresql):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fails, storage)
                await storage.transact(lambda tx: send(tx, chat_id=OTHER_CHAT))
                assert await storage.read(written) == []
            assert "lock timeout" in await fails(storage)
        assert (await storage.transact(send))[0] == 1


@pytest.mark.parametrize("lane", ["transact", "read"])
async def test_a_turn_is_waited_for_so_long(postgresql: str, lane: str) -> None:
    """Where all connections are in use for `database_time`, the callers who wait for one are refused."""
    config = evolve(QUICK, database_writers=1, database_readers=1, database_time=0.5)
    release, begun = threading.Event(), list[None]()
    async with opened(postgresql, config) as storage:
        ask = getattr(storage, lane)

        async def hold() -> None:
            with suppress(StorageUnavailable):  # it takes too long as well
                await ask(lambda _: release.wait(PATIENCE))

        async def is_refused() -> None:
            with pytest.raises(StorageUnavailable, match=r"No connection was free for 0\.5 s"):
                await ask(lambda _: begun.append(None))

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
                await ask(lambda _: begun.append(None))


async def test_cancelled_while_it_waits_for_its_turn(postgresql: str) -> None:
    """A caller that is cancelled before its operation has begun goes at once, and it never begins."""
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
    """A closed storage leaves no task behind."""
    before = system_tasks()
    async with open_postgresql(postgresql):
        await wait_all_tasks_blocked()
        assert system_tasks() > before
    await wait_all_tasks_blocked()
    assert system_tasks() == before


# --- meeting ------------------------------------------------------------------------------------------------


def test_ctrl_c_while_asking(postgresql: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C just before a transaction is waited for leaves nobody behind who would be woken for nothing."""

    async def run() -> None:
        async with open_postgresql(postgresql) as storage:
            await struck(lambda: storage.transact(lambda _: "done"), monkeypatch)
            assert await storage.transact(lambda _: "the next") == "the next"

    trio.run(run)


async def test_a_deadlock_is_run_again(postgresql: str) -> None:
    """Two that lock two chats in either order: PostgreSQL ends one of them, which is run again."""
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


async def test_two_that_meet_on_an_e_mail(postgresql: str) -> None:
    """Neither has seen the other's: the later one is run again, and finds what the earlier one made."""
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
    """A cache of members that holds none, and before a look at which the chat changes."""

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
    """A chat that changes between a transaction's reads of its row and of its members is read again."""
    async with opened(postgresql) as storage:

        def change() -> None:
            with connect(postgresql) as connection:
                connection.execute("UPDATE chats SET members_version = 2, title = 'Changed' WHERE id = 1")
                connection.execute("DELETE FROM members WHERE chat_id = 1 AND user_id = 2")

        change_once = once(change)

        def operation(tx: Any) -> Chat | Excerpt:
            tx._members = ChangingCache(change_once)
            return look(tx)

        found = await storage.transact(operation)
        assert isinstance(found, Chat)
        assert (found.title, found.member_ids) == ("Changed", (ALICE,))
        assert found == await storage.read(lambda reader: reader.chat(CHAT))


async def test_threads_that_are_woken_in_the_other_order(
    postgresql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long a thread takes to hear of its commit, the next one in the chat is told of after it."""
    second_is_through = threading.Event()
    slow = once(lambda: second_is_through.wait(PATIENCE))
    commit = Link.commit

    def commit_and_dawdle(link: Link) -> None:
        commit(link)
        if "writer" in threading.current_thread().name:
            slow()

    told: Told = []
    async with opened(postgresql) as storage:
        monkeypatch.setattr(Link, "commit", commit_and_dawdle)

        async def first() -> None:
            await storage.transact(send, committed=told.append)

        async def second() -> None:
            while not await storage.read(written):
                pass
            await storage.transact(send, committed=told.append)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            nursery.start_soon(second)
            while len(await storage.read(written)) < 2:
                pass
            # Another chat has not met them, and waits for neither.
            await storage.transact(lambda tx: send(tx, chat_id=OTHER_CHAT), committed=told.append)
            assert len(told) == 1
            second_is_through.set()
        assert told[1:] == await storage.read(written)


async def test_an_operation_that_keeps_an_error_to_itself(postgresql: str) -> None:
    """PostgreSQL answers COMMIT with ROLLBACK then: that is not taken for a commit."""
    told: list[None] = []
    async with opened(postgresql) as storage:

        def operation(tx: Transaction) -> None:
            send(tx)
            connection: Any = tx
            with suppress(psycopg.Error):
                connection._execute("SELECT 1 / 0").fetchone()

        with pytest.raises(psycopg.Error):
            await storage.transact(operation, committed=told.append)
        assert await storage.read(written) == told == []
        await storage.transact(send)

"""Measures transactions and reads a second of the SQL storages.

    python benchmarks/storage.py [SECONDS A FIGURE] [DIRECTORY | postgresql://role@host/]

The SQLite storage, which commits in groups, is compared with one commit for each transaction. PostgreSQL is
measured alone, in a new database on the server, which is dropped afterwards. Both are also measured with a
busy event loop.

The transaction is the most frequent one: a message with an Idempotency-Key, which clients choose at random.
The figures come from one machine within minutes, so read the ratios. `taskset -c 0` before the command gives
it one core, like a server that shares its machine.
"""

from argparse import ArgumentParser
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import trio

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.postgresql.config import is_postgresql
from adapters.storage_sql.postgresql.schema import upgrade_postgresql
from adapters.storage_sql.postgresql.storage import open_postgresql
from adapters.storage_sql.sqlite.cache import CommittedCache
from adapters.storage_sql.sqlite.file import connect_writer, owned, prepare
from adapters.storage_sql.sqlite.storage import SqliteWriteSession, sqlite_statements
from messaging_core.commands import SendMessage
from messaging_core.effects import StoreChat, StoreUser
from messaging_core.idempotency import IdempotentRequest, fingerprint, replayed, resource_of, store
from messaging_core.ids import ChatId, UserId
from messaging_core.limits import Limits
from messaging_core.messages import send_message
from messaging_core.models import Chat, IdempotencyKey, Member, MessageType, Role, User
from messaging_core.operations import apply_decision
from messaging_core.ports import Reader, Storage, Transaction

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LIMITS = Limits()
CHATS = 100
DATABASE = "messaging_benchmark"
SECONDS = 3.0
"""The duration of each figure; the command line may change it."""

Transact = Callable[[Callable[[Transaction], Any]], Awaitable[Any]]


def prepare_people(tx: Transaction) -> None:
    """Store two users with a hundred chats, and a group of a thousand users."""
    people = [tx.next_user_id() for _ in range(1000)]
    for number in people:
        email = f"{number}@test.com"
        tx.apply(StoreUser(User(number, email, f"User {number}", f"u{number}", None, NOW), "h", email))
    for size in (*(2 for _ in range(CHATS)), 1000):
        members = tuple(Member(number, Role.MEMBER, NOW) for number in people[:size])
        tx.apply(StoreChat(Chat(tx.next_chat_id(), "", True, NOW, members, 0, NOW, None)))


def sending(chat_id: int) -> Callable[[Transaction], None]:
    name = str(uuid4())

    def operation(tx: Transaction) -> None:
        key = IdempotencyKey(UserId(1), "POST", "/api/v1/messages", name)
        request = IdempotentRequest(key, fingerprint(b"body"))
        assert replayed(tx.lock_stored_response(key), request, now=NOW, limits=LIMITS) is None
        chat = tx.lock_chat(ChatId(chat_id))
        command = SendMessage(ChatId(chat_id), MessageType.TEXT, "Hello, how are you today?", None)
        sent = send_message(
            chat,
            command,
            author=UserId(1),
            replied_to=None,
            message_id=tx.next_message_id(),
            now=NOW,
            limits=LIMITS,
        )
        apply_decision(tx, sent)
        apply_decision(tx, store(request, status=201, resource=resource_of(sent.result), now=NOW))

    return operation


async def waiting(
    transact: Transact, tasks: int, *, chat_id: int | None = None, step: float = 0
) -> tuple[float, list[float]]:
    """Transactions a second of `tasks` concurrent callers, and their sorted durations.

    A `step` in seconds keeps the event loop busy for that time at each turn.
    """
    numbers = count()
    took: list[float] = []
    steps = 0

    async def caller(scope: trio.CancelScope) -> None:
        while not scope.cancel_called:
            began = perf_counter()
            await transact(sending(chat_id or 1 + next(numbers) % CHATS))
            took.append(perf_counter() - began)

    async def busy(scope: trio.CancelScope) -> None:
        nonlocal steps
        while not scope.cancel_called:
            until = perf_counter() + step
            while perf_counter() < until:
                pass
            steps += 1
            await trio.lowlevel.checkpoint()

    began = monotonic()
    async with trio.open_nursery() as nursery:
        scope = trio.move_on_after(SECONDS)
        ended = trio.CancelScope()
        for _ in range(tasks):
            nursery.start_soon(caller, ended)
        if step:
            nursery.start_soon(busy, ended)
        with scope:
            await trio.sleep_forever()
        ended.cancel()
    elapsed = monotonic() - began
    if step:
        print(f"      the loop kept {steps * step / elapsed:4.0%} of its turns", end="")
    return len(took) / elapsed, sorted(took)


@asynccontextmanager
async def one_commit_each(path: Path) -> AsyncIterator[Transact]:
    """The same statements with one commit for each transaction, in a worker thread."""
    with owned(path):
        prepare(path)
        connection = connect_writer(path)
        # The storage's writer checkpoints between commits; here SQLite checkpoints within them.
        connection.execute("PRAGMA wal_autocheckpoint = 1000")
        session = SqliteWriteSession(connection, sqlite_statements(), CommittedCache())
        limiter = trio.CapacityLimiter(1)

        def run(operation: Callable[[Transaction], Any]) -> Any:
            connection.execute("BEGIN IMMEDIATE")
            result = operation(session.transaction)
            session.before_commit()
            connection.execute("COMMIT")
            session.after_commit()
            return result

        yield lambda operation: trio.to_thread.run_sync(run, operation, limiter=limiter)
        connection.close()


def print_figure(name: str, rate: float, took: list[float], base: float | None = None) -> None:
    p50, p99, worst = (took[min(int(len(took) * part), len(took) - 1)] * 1e3 for part in (0.5, 0.99, 1))
    ratio = f"{rate / base:5.1f} x" if base else "       "
    print(f"{name:42} {rate:8,.0f}/s {ratio}   ms: p50 {p50:7.2f}   p99 {p99:7.2f}   worst {worst:7.1f}")


async def main(directory: Path) -> None:
    bases = {}
    async with one_commit_each(directory / "one.db") as transact:
        await transact(prepare_people)
        for tasks in (1, 16, 64):
            rate, took = await waiting(transact, tasks)
            bases[tasks] = rate
            print_figure(f"one commit each, {tasks} waiting", rate, took)
    async with open_sqlite(directory / "group.db") as storage:
        await storage.transact(prepare_people)
        for tasks in (1, 16, 64):
            rate, took = await waiting(storage.transact, tasks)
            print_figure(f"group commit, {tasks} waiting", rate, took, bases[tasks])
        rate, took = await waiting(storage.transact, 64, chat_id=CHATS + 1)
        print_figure("group commit, 64 waiting, 1,000 members", rate, took)
        for tasks in (1, 16, 64):
            rate, took = await waiting(storage.transact, tasks, step=0.001)
            print()
            print_figure(f"group commit, {tasks} waiting, loop busy", rate, took)
        print(f"the write-ahead log has grown to {(directory / 'group.db-wal').stat().st_size / 1e6:.0f} MB")
        await reads(storage)


async def reads(storage: Storage) -> None:
    async def measured(name: str, query: Callable[[Reader], Any]) -> None:
        until, done = perf_counter() + 1, 0
        while perf_counter() < until:
            await storage.read(query)
            done += 1
        print(f"{name:44} {done:8,}/s")

    await measured("read: a user", lambda reader: reader.user(UserId(1)))
    await measured("read: a chat of 1,000", lambda reader: reader.chat(ChatId(CHATS + 1)))
    await measured("read: 1,000 users", lambda reader: reader.users([UserId(n) for n in range(1, 1001)]))
    await measured("read: a page of 50", lambda reader: reader.messages_before(ChatId(1), None, 50))
    await measured("read: 100 chats of a user", lambda reader: reader.chats_of(UserId(1), None, 1000))


@contextmanager
def database_on(server: str) -> Iterator[str]:
    address = urlsplit(server)._replace(path=f"/{DATABASE}").geturl()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE}")
        try:
            upgrade_postgresql(address)
            yield address
        finally:
            connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


async def postgresql(address: str) -> None:
    async with open_postgresql(address) as storage:
        await storage.transact(prepare_people)
        for tasks in (1, 16, 64):
            rate, took = await waiting(storage.transact, tasks)
            print_figure(f"PostgreSQL, {tasks} waiting", rate, took)
        rate, took = await waiting(storage.transact, 64, chat_id=1)
        print_figure("PostgreSQL, 64 waiting, one chat", rate, took)
        rate, took = await waiting(storage.transact, 64, chat_id=CHATS + 1)
        print_figure("PostgreSQL, 64 waiting, 1,000 members", rate, took)
        for tasks in (1, 16, 64):
            rate, took = await waiting(storage.transact, tasks, step=0.001)
            print()
            print_figure(f"PostgreSQL, {tasks} waiting, loop busy", rate, took)
        await reads(storage)


if __name__ == "__main__":
    parser = ArgumentParser(description="Measure transactions and reads a second of the SQL storages.")
    parser.add_argument(
        "seconds", type=float, nargs="?", default=SECONDS, help="seconds a figure [%(default)s]"
    )
    parser.add_argument(
        "place", nargs="?", help="a directory, or postgresql://role@host/ [a temporary directory]"
    )
    arguments = parser.parse_args()
    SECONDS, place = arguments.seconds, arguments.place
    if place is not None and is_postgresql(place):
        with database_on(place) as address:
            trio.run(postgresql, address)
    else:
        with TemporaryDirectory(dir=place) as directory:
            trio.run(main, Path(directory))

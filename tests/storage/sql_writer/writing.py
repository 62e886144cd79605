"""Two users, their chat, and operations on it, for the tests of the writer."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from adapters.storage_sql.sqlite.storage import SqliteStorage
from adapters.storage_sql.transaction import SqlTransaction
from messaging_core.effects import StoreChat, StoreMessage, StoreUser
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, Member, Message, MessageType, Role, User
from messaging_core.ports import Reader, Transaction

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
CHAT = ChatId(1)
ALICE = UserId(1)
BOB = UserId(2)


def prepare(tx: Transaction) -> None:
    """Create Alice, Bob and their chat."""
    for _ in range(2):
        number = tx.next_user_id()
        email = f"{number}@test.com"
        tx.apply(StoreUser(User(number, email, "Name", f"tag{number}", None, NOW), "hash", email))
    members = tuple(Member(user_id, Role.MEMBER, NOW) for user_id in (ALICE, BOB))
    tx.apply(StoreChat(Chat(tx.next_chat_id(), "", False, NOW, members, 0, NOW, None)))


def send(tx: Transaction, content: str = "hello", chat_id: ChatId = CHAT) -> MessageId:
    id_ = tx.next_message_id()
    message = Message(id_, chat_id, ALICE, MessageType.TEXT, content, None, NOW, None, None, None, id_, id_)
    tx.apply(StoreMessage(message, id_))
    return id_


def history(reader: Reader) -> list[MessageId]:
    return [message.id for message in reader.messages_after(CHAT, MessageId(0), 100_000)]


def raw(tx: Transaction) -> Callable[..., Any]:
    """The driver's own `execute`."""
    assert isinstance(tx, SqlTransaction)
    return tx._execute


class Held(Exception):
    pass


@contextmanager
def commit_held(storage: SqliteStorage) -> Iterator[trio.Event]:
    """Hold the next commit, in the thread, until the block ends; the event says that it has begun."""
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
    writer._policy.quick_commits_needed = 1
    try:
        yield began
    finally:
        release.set()


@contextmanager
def held(storage: SqliteStorage, nursery: trio.Nursery) -> Iterator[trio.Event]:
    """Hold the commit of one message, so that calls meanwhile share the next commit."""
    with commit_held(storage) as began:
        nursery.start_soon(storage.transact, lambda tx: send(tx, "held"))
        yield began


async def together(storage: SqliteStorage, *operations: Callable[[Transaction], Any]) -> list[object]:
    """Run the operations in one batch; their results or exceptions."""
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


async def settled() -> None:
    """Wait until every new task has come to its first wait."""
    for _ in range(2):
        await trio.lowlevel.checkpoint()

"""An operation on the people of a large chat runs in the thread; the event loop and the others go on."""

import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.sqlite.loop_limit import LOOP_PEOPLE
from adapters.storage_sql.sqlite.storage import SqliteStorage
from messaging_core.effects import AdvanceChat, DeleteChat, StoreChat, StoreMember, StoreUser
from messaging_core.errors import NotAParticipant
from messaging_core.ids import ChatId, UserId
from messaging_core.models import Chat, Member, Role, Tombstone, User
from messaging_core.ports import Transaction
from messaging_core.positions import Range
from tests.storage.sql_writer.writing import BOB, CHAT, NOW, history, prepare, send, together

PATIENCE = 20
"""Seconds after which a wait has failed."""
LARGE = ChatId(3)
"""The chat that `create` stores: the run that was stopped on the loop has drawn 2."""
EVERYBODY = tuple([UserId(number) for number in range(1, LOOP_PEOPLE + 2)])
STEPS_A_CALL = 100
"""Steps of SQLite's machine between two calls of its progress handler."""


def add_people(tx: Transaction) -> None:
    for _ in EVERYBODY[BOB:]:
        number = tx.next_user_id()
        email = f"{number}@test.com"
        tx.apply(StoreUser(User(number, email, "Name", f"tag{number}", None, NOW), "hash", email))


def create(tx: Transaction) -> None:
    members = tuple([Member(user_id, Role.MEMBER, NOW) for user_id in EVERYBODY])
    tx.apply(StoreChat(Chat(tx.next_chat_id(), "Group", True, NOW, members, 0, NOW, None)))


def lock(tx: Transaction) -> None:
    chat = tx.lock_chat(LARGE)
    assert chat is not None
    assert chat.member_ids == EVERYBODY


def look_up(tx: Transaction) -> None:
    assert len(tx.users(EVERYBODY)) == len(EVERYBODY)


def delete(tx: Transaction) -> None:
    tx.apply(DeleteChat(Tombstone(LARGE, 1, NOW, None), EVERYBODY))


def in_thread(operation: Callable[[Transaction], object]) -> Callable[[Transaction], str]:
    """The operation, which then returns the name of the thread that ran it to its end."""

    def run(tx: Transaction) -> str:
        operation(tx)
        return threading.current_thread().name

    return run


@pytest.fixture
async def large(tmp_path: Path) -> AsyncIterator[SqliteStorage]:
    """A storage with a chat of more than `LOOP_PEOPLE` members, which has cached nothing yet."""
    async with open_sqlite(tmp_path / "large.db") as storage:
        for operation in (prepare, add_people, create):
            await storage.transact(operation)
    async with open_sqlite(tmp_path / "large.db") as storage:
        assert isinstance(storage, SqliteStorage)
        yield storage


@pytest.mark.parametrize("operation", [create, lock, look_up, delete])
async def test_the_loop_does_little_of_a_large_operation(
    large: SqliteStorage, operation: Callable[[Transaction], object]
) -> None:
    """The event loop's thread takes a few steps of SQLite's machine to find that an operation is large."""
    steps = Counter[str]()

    def count() -> None:
        steps[threading.current_thread().name] += STEPS_A_CALL

    large._writing.set_progress_handler(count, STEPS_A_CALL)
    assert await large.transact(in_thread(operation)) == "storage writer"
    assert steps[threading.main_thread().name] < LOOP_PEOPLE / 2
    assert steps["storage writer"] > LOOP_PEOPLE


async def test_a_large_chat_is_loaded_once(large: SqliteStorage) -> None:
    """What a large operation has loaded is cached: the next operation on the chat runs on the loop."""
    assert await large.transact(in_thread(lock)) == "storage writer"
    assert await large.transact(in_thread(lock)) == threading.main_thread().name
    assert await large.read(lambda reader: len(getattr(reader.chat(LARGE), "members", ()))) == len(EVERYBODY)


async def test_a_large_chat_changes_while_its_members_are_loaded(large: SqliteStorage) -> None:
    """A large operation sees its own changes, and the cache has the chat as it was committed."""

    def change(tx: Transaction) -> None:
        chat = tx.lock_chat(LARGE)
        assert chat is not None
        tx.apply(AdvanceChat(evolve(chat, sequence=7)))
        assert tx.lock_chat(LARGE) == evolve(chat, sequence=7)

    assert await large.transact(in_thread(change)) == "storage writer"
    assert await large.read(lambda reader: getattr(reader.chat(LARGE), "sequence", None)) == 7


async def test_the_loop_turns_during_a_large_operation(large: SqliteStorage) -> None:
    """Tasks run, reads return and other operations wait while the thread runs a large one."""
    running, turned = threading.Event(), threading.Event()
    order: list[str] = []

    def wait_for_a_turn(tx: Transaction) -> None:
        lock(tx)
        running.set()
        assert turned.wait(PATIENCE)
        order.append("large")

    def small(tx: Transaction) -> None:
        send(tx)
        order.append("small")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(large.transact, wait_for_a_turn)
        while not running.is_set():
            await trio.lowlevel.checkpoint()
        nursery.start_soon(large.transact, small)
        assert await large.read(history) == []
        turned.set()
    assert order == ["large", "small"]


async def test_a_large_operation_leaves_its_batch(large: SqliteStorage) -> None:
    """The others of its batch go on in their transaction, whatever the large one has changed before."""

    def change_first(tx: Transaction) -> str:
        member = Member(BOB, Role.MEMBER, NOW, Range(1, 1))
        tx.apply(StoreChat(Chat(tx.next_chat_id(), "", True, NOW, (member,), 0, NOW, None)))
        return in_thread(lock)(tx)

    def refuse(tx: Transaction) -> None:
        lock(tx)
        raise NotAParticipant

    outcomes: list[Any] = await together(large, send, in_thread(lock), send)
    assert outcomes[1] == "storage writer"
    large._session._staged.committed.chats.drop(LARGE)
    more: list[Any] = await together(large, send, change_first, refuse, send)
    assert more[1] == "storage writer"
    assert isinstance(more[2], NotAParticipant)
    sent = [outcome for outcome in (*outcomes, *more) if isinstance(outcome, int)]
    assert set(sent) < set(await large.read(history))
    assert len(sent) == 4


async def test_one_person_at_a_time_is_no_large_operation(large: SqliteStorage) -> None:
    """Joining a small chat stays on the loop, however many people there are."""

    def join(tx: Transaction) -> None:
        tx.apply(StoreMember(CHAT, Member(EVERYBODY[-1], Role.MEMBER, NOW, Range(9, 9))))

    assert await large.transact(in_thread(join)) == threading.main_thread().name

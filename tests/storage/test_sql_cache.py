"""The cache of an SQLite file never differs from the file."""

import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.sqlite import cache
from adapters.storage_sql.sqlite.cache import CachedReader, CommittedCache, tail_of
from adapters.storage_sql.sqlite.file import connect_reader
from adapters.storage_sql.sqlite.storage import SqliteStorage, sqlite_statements
from adapters.storage_sql.weighted_cache import WeightedCache
from messaging_core.chats import head
from messaging_core.effects import (
    AdvanceChat,
    ChangeMessage,
    DeleteChat,
    EndMembership,
    StoreChat,
    StoreMember,
    StoreMessage,
    StoreUser,
)
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, Member, Message, MessageType, Role, Tombstone, User
from messaging_core.ports import Reader, Transaction
from messaging_core.positions import Range

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
ALL_ON_LOOP, ALL_IN_THREAD = inf, -1.0
"""Budgets of reads, in seconds."""
PEOPLE = 3
CHATS = 2


class Failed(Exception):
    pass


def a_message(id_: int, chat_id: int, content: str = "hello", sequence: int | None = None) -> Message:
    number = sequence or id_
    return Message(
        *(MessageId(id_), ChatId(chat_id), UserId(1), MessageType.TEXT, content, None, NOW, None, None, None),
        number,
        number,
    )


# --- steps of a program: each makes a change, and may fail after it -----------------------------------------


def add_user(tx: Transaction, _: int) -> None:
    number = tx.next_user_id()
    email = f"{number}@test.com"
    tx.apply(StoreUser(User(number, email, "Name", f"tag{number}", None, NOW), "hash", email))


def add_chat(tx: Transaction, _: int) -> None:
    members = tuple(Member(UserId(user_id), Role.MEMBER, NOW) for user_id in (1, 2))
    tx.apply(StoreChat(Chat(tx.next_chat_id(), "Group", True, NOW, members, 0, NOW, None)))


def send(tx: Transaction, number: int) -> None:
    chat = tx.lock_chat(ChatId(number % CHATS + 1))
    assert chat is not None
    message = a_message(tx.next_message_id(), chat.id, sequence=chat.sequence + 1)
    tx.apply(StoreMessage(message, chat.message_count + 1))
    moved = evolve(
        chat,
        title="not this",
        sequence=chat.sequence + 1,
        active_at=chat.active_at + timedelta(seconds=1),
        last_message_id=message.id,
        message_count=chat.message_count + 1,
    )
    tx.apply(AdvanceChat(moved))


def edit(tx: Transaction, number: int) -> None:
    message = tx.message(MessageId(number + 1))
    if message is not None:
        tx.apply(ChangeMessage(evolve(message, content=f"edited {number}")))


def advance(tx: Transaction, number: int) -> None:
    """Advance a chat without loading it first, to a sequence beyond all its messages."""
    sequence = 1000 * tx.next_message_id()
    chat = Chat(ChatId(number % CHATS + 1), "not this", False, NOW, (), sequence, NOW, None)
    tx.apply(AdvanceChat(chat))


def join(tx: Transaction, number: int) -> None:
    """Add a member to a chat without loading it first."""
    if tx.ended_members(ChatId(2), 0) or number % 2 or tx.shares_chat(UserId(1), UserId(3)):
        return
    sequence = 1000 * tx.next_message_id()
    tx.apply(StoreMember(ChatId(2), Member(UserId(3), Role.MEMBER, NOW, Range(sequence, sequence))))


def leave(tx: Transaction, number: int) -> None:
    """End the membership of a chat without loading it first."""
    chat_id, user_id = ChatId(number % CHATS + 1), UserId(number % 2 + 1)
    if chat_id in {chat.id for chat in tx.chats_of(user_id, None, 9)}:
        tx.apply(EndMembership(chat_id, user_id, 1000 * tx.next_message_id()))


def delete(tx: Transaction, number: int) -> None:
    """Delete a chat that the other steps leave alone."""
    chat = tx.lock_chat(ChatId(number))
    if chat is not None and chat.id > CHATS:
        tx.apply(DeleteChat(Tombstone(chat.id, chat.sequence + 1, NOW, None), chat.member_ids))


STEPS = (add_user, add_chat, send, send, send, edit, advance, join, leave, delete)
Step = tuple[Callable[[Transaction, int], None], int]


def operation(steps: Sequence[Step], fails: bool) -> Callable[[Transaction], None]:
    def run(tx: Transaction) -> None:
        for step, number in steps:
            step(tx, number)
        read_all(tx)
        if fails:
            raise Failed

    return run


def read_all(reader: Reader) -> list[Any]:
    """The results of every query that the cache serves."""
    users = [UserId(number) for number in range(1, 8)]
    chats = [ChatId(number) for number in range(1, 6)]
    return [
        [reader.user(user_id) for user_id in users],
        reader.users(users),
        [reader.chat(chat_id) for chat_id in chats],
        [
            [head(chat) for chat in reader.chats_of(user_id, after, count)]
            for user_id in users
            for after, count in ((None, 9), (None, 1), (ChatId(1), 9), (ChatId(2), 1))
        ],
        [reader.excerpts(dict.fromkeys(chats, size), user_id) for user_id in users for size in (1, 2)],
        [
            list(reader.messages_before(chat_id, None, size, since))
            for chat_id in chats
            for size in (1, 3, 5, 200)
            for since in (1, 2, 1000)
        ],
    ]


def read_all_uncached(path: Path) -> list[Any]:
    """The same results from the file, with an empty cache."""
    with closing(connect_reader(path)) as connection:
        return read_all(
            CachedReader(connection, sqlite_statements(), committed=CommittedCache(), many=json.dumps)
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[SqliteStorage]:
    async with open_sqlite(path) as storage:
        assert isinstance(storage, SqliteStorage)
        await storage.transact(prepare)
        yield storage


def prepare(tx: Transaction) -> None:
    for _ in range(PEOPLE):
        add_user(tx, 0)
    for _ in range(CHATS):
        add_chat(tx, 0)


programs = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 9)), max_size=4),
        st.booleans(),
        st.booleans(),
    ),
    max_size=12,
)


@given(
    program=programs,
    together=st.booleans(),
    in_thread=st.sets(st.sampled_from(["operations", "commits", "reads"])),
)
async def test_the_cache_equals_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    program: list[tuple[list[Step], bool, bool]],
    together: bool,
    in_thread: set[str],
) -> None:
    """After any transactions, also failed ones, alone or sharing commits, every result equals the file's.

    The reads meanwhile, too, cache nothing stale; each step runs on the loop or in the thread.
    """
    path = tmp_path_factory.mktemp("cache") / "test.db"
    async with open_sqlite(path) as storage:
        assert isinstance(storage, SqliteStorage)
        await storage.transact(prepare)
        if "commits" in in_thread:
            storage._writer._policy.quick_commits_needed = 1_000_000
        storage._reads.budget.seconds = ALL_IN_THREAD if "reads" in in_thread else ALL_ON_LOOP
        if "operations" in in_thread:
            storage._session.limit.people = 0

        async def run(steps: list[Step], fails: bool) -> None:
            try:
                await storage.transact(operation(steps, fails))
            except Failed:
                assert fails

        async with trio.open_nursery() as nursery:
            for steps, fails, reads in program:
                if reads:
                    await storage.read(read_all)
                if together:
                    nursery.start_soon(run, steps, fails)
                else:
                    await run(steps, fails)
        for seconds in (ALL_ON_LOOP, ALL_IN_THREAD):
            storage._reads.budget.seconds = seconds
            assert await storage.read(read_all) == read_all_uncached(path)


async def test_a_read_during_a_commit_caches_nothing_stale(storage: SqliteStorage, path: Path) -> None:
    """A read while the thread commits sees one state or the other, and caches nothing of it."""
    storage._reads.budget.seconds = ALL_ON_LOOP
    await storage.transact(lambda tx: send(tx, 0))
    before = await storage.read(read_all)
    writer = storage._writer
    commit = writer._commit
    committed, release = trio.Event(), threading.Event()
    loop = trio.lowlevel.current_trio_token()

    def commit_and_wait() -> None:
        vars(writer).pop("_commit")
        commit()
        loop.run_sync_soon(committed.set)
        assert release.wait(60)

    vars(writer)["_commit"] = commit_and_wait
    writer._policy.quick_commits_needed = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.transact, operation([(send, 0), (add_user, 0)], fails=False))
        await committed.wait()
        meanwhile = await storage.read(read_all)
        assert meanwhile != before
        assert await storage.read(read_all) == meanwhile
        release.set()
    assert await storage.read(read_all) == meanwhile == read_all_uncached(path)


async def test_hot_reads_need_no_statement(storage: SqliteStorage) -> None:
    """Users, chats and a chat's last page are read once; a new message does not cause another read."""
    storage._reads.budget.seconds = ALL_ON_LOOP
    await storage.read(read_all)
    await storage.transact(lambda tx: send(tx, 0))
    statements: list[str] = []
    storage._reads._view._connection.set_trace_callback(statements.append)

    def hot(reader: Reader) -> int:
        assert reader.user(UserId(1)) is not None
        assert reader.chat(ChatId(1)) is not None
        assert all(isinstance(chat, Chat) for chat in reader.chats_of(UserId(1), None, 100))
        return len(reader.messages_before(ChatId(1), None, 51))

    assert await storage.read(hot) == 1
    assert statements == []


def test_a_cache_is_bounded_by_weight() -> None:
    """Beyond its bound the cache evicts the oldest entries; putting a key again replaces its entry."""
    texts: WeightedCache[int, str] = WeightedCache(10, len)
    texts.put(1, "aaaa")
    texts.put(2, "bbbb")
    texts.put(1, "cc")
    texts.put(3, "dddd")
    assert [texts.get(key) for key in (1, 2, 3)] == ["cc", "bbbb", "dddd"]
    texts.put(4, "e")
    assert [texts.get(key) for key in (1, 2, 3, 4)] == ["cc", None, "dddd", "e"]
    assert texts.weight == 7
    texts.drop(3)
    texts.drop(3)
    assert (len(texts), texts.weight) == (2, 3)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 150)), max_size=150), st.integers(0, 130))
def test_a_tail_is_the_last_messages(changes: list[tuple[bool, int]], stored: int) -> None:
    """However messages arrive and change, the tail has the last ones, and their weight."""
    messages = {number: a_message(number, 1) for number in range(1, stored + 1)}
    tail = tail_of([messages[number] for number in sorted(messages, reverse=True)[: cache.TAIL_LENGTH]])
    for new, number in changes:
        id_ = max(messages, default=0) + 1 if new else number
        if id_ not in messages and not new:
            continue
        messages[id_] = a_message(id_, 1, "x" * number)
        changed = tail.with_message(messages[id_])
        assert changed is not None
        tail = changed
    newest = [messages[number] for number in sorted(messages, reverse=True)[: cache.TAIL_LENGTH]]
    assert list(tail.messages) == newest
    assert tail.characters == tail_of(newest).characters
    assert tail.is_complete is (len(messages) < cache.TAIL_LENGTH) or len(messages) == cache.TAIL_LENGTH


def test_a_message_out_of_order_invalidates_a_tail() -> None:
    """A message between others makes the tail unknown: it must be read again."""
    tail = tail_of([a_message(5, 1), a_message(3, 1)])
    assert tail.with_message(a_message(4, 1)) is None
    assert tail.with_message(a_message(1, 1)) is None

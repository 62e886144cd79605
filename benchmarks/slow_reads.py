"""Measures for how long single reads and transactions of a large SQLite file hold the event loop.

    python -m benchmarks.slow_reads [--messages 1000000] [--members 10000] [--chats 2000] [--database FILE]

Seeds a new SQLite file, or uses the one that an earlier run with the same sizes left at `--database`: one
person in many groups of ten, one of the groups with so many members, and a fifth of the messages in that one,
the last of which have large payloads. Each read and transaction runs three times, with an empty cache of
objects; transactions are rolled back. The table shows the longest step of the event loop, in milliseconds of
its thread's processor time and of wall-clock time, and the milliseconds until the caller has the result,
alone and beside a loop that is always busy; of each the least of the three, because other programs only add
to it.
"""

import argparse
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import trio
from attrs import evolve

from adapters.storage_sql import open_sqlite
from benchmarks.chat_lists import LongestStep
from messaging_core.effects import AdvanceChat, DeleteChat, StoreChat, StoreMessage, StoreUser
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, Member, Message, MessageType, Role, Tombstone, User
from messaging_core.ports import Reader, Storage, Transaction

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
ROUNDS = 3
GROUP = 10
"""Members of each of the person's chats."""
ONE = UserId(1)
"""The person in all chats."""
LARGE = ChatId(1)
"""The group of many members."""
BATCH = 1000
"""Objects in one transaction of the seeding."""
NUMBERS = {"values": [index / 7 for index in range(1700)]}
"""A payload of 32 KB that takes long to decode."""
HEAVY = 200
"""Messages with such a payload, the last ones of the large group."""

Query = Callable[[Reader], Any]
Steps = Iterator[Callable[[Transaction], None]]


def people(number: int) -> Steps:
    def store(tx: Transaction) -> None:
        for _ in range(BATCH):
            id_ = tx.next_user_id()
            email = f"{id_}@test.com"
            tx.apply(StoreUser(User(id_, email, f"User {id_}", f"u{id_}", None, NOW), "h", email))

    for _ in range(0, number, BATCH):
        yield store


def chats(number: int, members: int) -> Steps:
    ids: list[ChatId] = []

    def draw(tx: Transaction) -> None:
        ids[:] = [tx.next_chat_id() for _ in range(BATCH)]

    def store(tx: Transaction) -> None:
        for id_ in ids:
            others = range(2 + id_ * (GROUP - 1), 1 + (id_ + 1) * (GROUP - 1))
            user_ids = range(1, members + 1) if id_ == LARGE else (ONE, *others)
            everybody = tuple([Member(UserId(user_id), Role.MEMBER, NOW) for user_id in user_ids])
            tx.apply(StoreChat(Chat(id_, f"Group {id_}", True, NOW, everybody, 0, NOW, None)))

    for _ in range(0, number, BATCH):
        yield draw
        yield store  # runs twice where a chat is too large for the event loop


def messages(chat_id: ChatId, number: int) -> Steps:
    def store(tx: Transaction) -> None:
        chat = tx.lock_chat(chat_id)
        assert chat is not None
        for sequence in range(chat.sequence + 1, min(chat.sequence + BATCH, number) + 1):
            is_heavy = chat_id == LARGE and sequence > number - HEAVY
            message = Message(
                tx.next_message_id(),
                chat_id,
                ONE,
                MessageType.FILE if is_heavy else MessageType.TEXT,
                None if is_heavy else f"Message {sequence} of this chat, with as many words as is usual",
                NUMBERS if is_heavy else None,
                NOW + timedelta(seconds=sequence),
                None,
                None,
                None,
                sequence,
                sequence,
            )
            tx.apply(StoreMessage(message, sequence))
            chat = evolve(
                chat,
                sequence=sequence,
                last_message_id=message.id,
                active_at=message.ts,
                message_count=sequence,
            )
        tx.apply(AdvanceChat(chat))

    for _ in range(0, number, BATCH):
        yield store


async def seed(path: Path, sizes: argparse.Namespace) -> None:
    async with open_sqlite(path) as storage:
        for step in people(max(sizes.members, (sizes.chats + 2 * BATCH) * (GROUP - 1))):
            await storage.transact(step)
        for step in chats(sizes.chats, sizes.members):
            await storage.transact(step)
        for step in messages(LARGE, sizes.messages // 5):
            await storage.transact(step)
        for chat_id in range(LARGE + 1, sizes.chats + 1):
            for step in messages(ChatId(chat_id), sizes.messages * 4 // 5 // (sizes.chats - 1)):
                await storage.transact(step)


def queries(sizes: argparse.Namespace) -> dict[str, Query]:
    everybody = [UserId(number) for number in range(1, sizes.members + 1)]
    own = {ChatId(number): 100 for number in range(1, sizes.chats + 1)}
    middle = MessageId(sizes.messages // 10)
    foreign = MessageId(sizes.messages // 2)
    return {
        "a chat of many members": lambda reader: reader.chat(LARGE),
        "as many users": lambda reader: reader.users(everybody),
        "the chats of a person": lambda reader: reader.chats_of(ONE, None, 2500),
        "their excerpts": lambda reader: reader.excerpts(own, ONE),
        "1,000 of their excerpts, at most 10 members": lambda reader: reader.excerpts(
            dict.fromkeys(list(own)[:1000], 10), ONE
        ),
        "the positions of a person": lambda reader: reader.positions([ONE]),
        "the positions of 200 persons": lambda reader: reader.positions(everybody[:200]),
        "whether two persons share a chat": lambda reader: reader.shares_chat(ONE, UserId(10**9)),
        "51 messages": lambda reader: reader.messages_before(LARGE, middle, 51),
        "1,000 messages": lambda reader: reader.messages_before(LARGE, middle, 1000),
        "51 messages from another chat's id on": lambda reader: reader.messages_after(LARGE, foreign, 51),
        "51 messages with large payloads": lambda reader: reader.messages_before(LARGE, None, 51),
        "100 entries of a log": lambda reader: reader.log(LARGE, 1000, 100),
        "50,000 entries of a log": lambda reader: reader.log(LARGE, 1000, 50_000),
        "100 entries of 20 logs": lambda reader: [reader.log(chat_id, 100, 100) for chat_id in [*own][:20]],
    }


class Undone(Exception):
    """Rolls a transaction back."""


def operations(sizes: argparse.Namespace) -> dict[str, Callable[[Transaction], object]]:
    everybody = [UserId(number) for number in range(1, sizes.members + 1)]

    def create(tx: Transaction) -> None:
        members = tuple([Member(user_id, Role.MEMBER, NOW) for user_id in tx.users(everybody)])
        tx.apply(StoreChat(Chat(tx.next_chat_id(), "Group", True, NOW, members, 0, NOW, None)))
        raise Undone

    def delete(tx: Transaction) -> None:
        tx.apply(DeleteChat(Tombstone(LARGE, 1, NOW, None), tuple(everybody)))
        raise Undone

    return {
        "lock a chat of many members": lambda tx: tx.lock_chat(LARGE),
        "create such a chat": create,
        "delete such a chat": delete,
    }


async def held(call: Callable[[], Awaitable[object]], *, busy: bool) -> tuple[float, float, float]:
    """Seconds of the longest step, of processor and wall-clock time, and until the call returns."""
    longest, done = LongestStep(), False

    async def keep_busy() -> None:
        while not done:
            until = perf_counter() + 0.001
            while perf_counter() < until:
                pass
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        if busy:
            nursery.start_soon(keep_busy)
            await trio.lowlevel.checkpoint()
        trio.lowlevel.add_instrument(longest)
        await trio.lowlevel.checkpoint()
        started = perf_counter()
        with suppress(Undone):
            await call()
        took = perf_counter() - started
        await trio.lowlevel.checkpoint()
        trio.lowlevel.remove_instrument(longest)
        done = True
    return longest.cpu, longest.wall, took


async def _read(query: Query, storage: Storage) -> None:
    await storage.read(query)


async def _transact(operation: Callable[[Transaction], object], storage: Storage) -> None:
    await storage.transact(operation)


async def measure(path: Path, sizes: argparse.Namespace) -> None:
    print(f"{'ms':44} {'held: cpu':>10} {'wall':>8} {'result':>8} {'busy: wall':>12} {'result':>8}")
    calls: dict[str, Callable[[Storage], Awaitable[object]]] = {
        **{name: partial(_read, query) for name, query in queries(sizes).items()},
        **{name: partial(_transact, operation) for name, operation in operations(sizes).items()},
    }
    for name, call in calls.items():
        figures = []
        for _ in range(ROUNDS):
            async with open_sqlite(path) as storage:
                alone = await held(partial(call, storage), busy=False)
            async with open_sqlite(path) as storage:
                figures.append((*alone, *(await held(partial(call, storage), busy=True))[1:]))
        cpu, wall, result, busy_wall, busy_result = (
            1000 * min(column) for column in zip(*figures, strict=True)
        )
        print(f"{name:44} {cpu:10.1f} {wall:8.1f} {result:8.1f} {busy_wall:12.1f} {busy_result:8.1f}")


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--members", type=int, default=10_000)
    parser.add_argument("--chats", type=int, default=2000)
    parser.add_argument("--database", type=Path)
    sizes = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = sizes.database or Path(directory) / "large.db"
        if not path.exists():
            await seed(path, sizes)
        await measure(path, sizes)


if __name__ == "__main__":
    trio.run(main)

"""Lists of chats that are read in parts: the contents of each part, and changes between two parts."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapters.runtime.messaging import in_parts
from adapters.storage_memory import MemoryStorage
from messaging_core import operations
from messaging_core.chats import PARTICIPANTS_AT_ONCE
from messaging_core.commands import ListChats
from messaging_core.effects import StoreChat, StoreUser
from messaging_core.ids import ChatId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor, Chat, ChatPage, Member, Role, User
from messaging_core.operations import Context, Query, list_chats
from messaging_core.ports import Reader, Transaction
from messaging_core.privacy import Privacy

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
VIEWER = UserId(60)
CONTEXT = Context(Actor(VIEWER, SessionId(1)), NOW, Limits(), Privacy())


async def storage_with(*sizes: int, others: int = 0) -> MemoryStorage:
    """Groups of these sizes, each active a second after the previous one, and groups of others."""
    storage = MemoryStorage()

    def fill(tx: Transaction) -> None:
        for _ in range(max((*sizes, VIEWER))):
            id_ = tx.next_user_id()
            email = f"{id_}@test.com"
            tx.apply(StoreUser(User(id_, email, "Name", f"tag{id_}", None, NOW), "hash", email))
        for number, size in enumerate((*sizes, *(3 for _ in range(others)))):
            people = [UserId(id_) for id_ in range(1, size + 1)]
            if number < len(sizes) and VIEWER not in people:
                people[-1] = VIEWER
            members = tuple(Member(id_, Role.MEMBER, NOW) for id_ in people)
            at = NOW + timedelta(seconds=number)
            tx.apply(StoreChat(Chat(tx.next_chat_id(), f"Group {number}", True, NOW, members, 1, at, None)))

    await storage.transact(fill)
    return storage


class Watched:
    """Runs queries, and records what each has read."""

    def __init__(self, storage: MemoryStorage) -> None:
        self.storage = storage
        self.queries = 0

    async def __call__(self, query: Query[Any]) -> Any:
        self.queries += 1
        return await self.storage.read(query)


async def parts_of(read: Watched, command: ListChats) -> list[ChatPage]:
    return [part async for part in in_parts(list_chats(command, CONTEXT), read)]


def ids(parts: list[ChatPage]) -> list[int]:
    return [view.chat.id for part in parts for view in part.chats]


async def test_a_short_list_is_one_view() -> None:
    """A list of few people, or an empty one, costs one query."""
    read = Watched(await storage_with(3, 2, others=2))
    [part] = await parts_of(read, ListChats())
    assert [(view.chat.id, view.chat.member_count) for view in part.chats] == [(2, 2), (1, 3)]
    assert read.queries == 1
    read = Watched(await storage_with(others=1))
    assert await parts_of(read, ListChats(5)) == [ChatPage((), None)]
    assert read.queries == 1


@pytest.mark.parametrize("command", [ListChats(), ListChats(25)])
async def test_a_long_list_comes_in_parts(command: ListChats) -> None:
    """Each part is a query for a bounded number of people; together they are the list."""
    read = Watched(await storage_with(*[120] * 30))
    parts = await parts_of(read, command)
    shown = command.limit or 30
    assert ids(parts) == list(range(30, 30 - shown, -1))
    assert read.queries == len(parts) == 3
    for part in parts:
        assert sum(len(view.participants) for view in part.chats) <= PARTICIPANTS_AT_ONCE
        for view in part.chats:
            assert (len(view.participants), view.chat.member_count) == (100, 120)
            assert VIEWER in {user.id for user in view.participants}
    assert {part.next_cursor is None for part in parts} == {command.limit is None}


async def test_a_chat_that_was_left_between_parts_is_not_shown() -> None:
    """A later part reads a later state, in which the reader may be in fewer chats."""
    storage = await storage_with(*[120] * 12)
    shown: list[int] = []
    async for part in in_parts(list_chats(ListChats(), CONTEXT), Watched(storage)):
        shown += ids([part])
        storage.world._tables.chats_of[VIEWER].pop(ChatId(1), None)
    assert shown == list(range(12, 1, -1))


@pytest.mark.parametrize("command", [ListChats(), ListChats(4)])
async def test_any_number_of_chats_is_ordered(monkeypatch: pytest.MonkeyPatch, command: ListChats) -> None:
    """A user in more chats than one query reads still gets the latest of all."""
    asked: list[int] = []
    monkeypatch.setattr(operations.chats, "CHATS_AT_ONCE", 5)
    storage = await storage_with(*[2] * 10, others=3)

    class Counted(Watched):
        async def __call__(self, query: Query[Any]) -> Any:
            def counted(reader: Reader) -> Any:
                found = reader.chats_of

                def chats_of(user_id: UserId, after_id: ChatId | None, count: int) -> Any:
                    asked.append(count)
                    return found(user_id, after_id, count)

                vars(reader)["chats_of"] = chats_of
                return query(reader)

            return await super().__call__(counted)

    parts = await parts_of(Counted(storage), command)
    assert ids(parts) == list(range(10, 0, -1))[: command.limit]
    assert asked == [5, 5, 5]
    if command.limit is not None:
        second = await parts_of(Watched(storage), ListChats(command.limit, parts[-1].next_cursor))
        assert ids(second) == [6, 5, 4, 3]


def pages(found: list[ChatPage]) -> Iterator[list[int]]:
    for page in found:
        yield [view.chat.id for view in page.chats]


async def test_a_page_continues_from_its_cursor() -> None:
    """A cursor is a position, not a count, so chats that move above it do not shift the next page."""
    storage = await storage_with(*[2] * 7)
    read = Watched(storage)
    found: list[ChatPage] = []
    cursor: str | None = None
    while not found or cursor is not None:
        found += await parts_of(read, ListChats(3, cursor))
        cursor = found[-1].next_cursor

        def touch(tx: Transaction, number: int = len(found)) -> None:
            chat = tx.lock_chat(ChatId(number))
            assert chat is not None
            tables = storage.world._tables
            tables.chats[chat.id] = Chat(
                *(chat.id, chat.title, True, NOW, chat.members, 2, NOW + timedelta(days=number), None)
            )

        await storage.transact(touch)
    assert list(pages(found)) == [[7, 6, 5], [4, 3, 2]]
    assert ids(await parts_of(read, ListChats(3))) == [2, 1, 7], "those that moved are in front"

"""A page of history that is read in parts equals the page of one query."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from adapters.runtime.messaging import in_parts
from adapters.storage_memory import MemoryStorage
from messaging_core import operations
from messaging_core.commands import ListMessages
from messaging_core.effects import StoreChat, StoreMessage
from messaging_core.errors import NotAParticipant
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor, Chat, Member, Message, MessageType, Role
from messaging_core.operations import Context, Query, page_in_parts, page_of_messages
from messaging_core.ports import Reader, Transaction
from messaging_core.privacy import Privacy

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
CHAT = ChatId(1)
MEMBER, STRANGER = UserId(1), UserId(2)
AT_ONCE = 3


def context(user_id: UserId) -> Context:
    return Context(Actor(user_id, SessionId(1)), NOW, Limits(), Privacy())


def fill(tx: Transaction, count: int) -> None:
    tx.apply(StoreChat(Chat(CHAT, "", True, NOW, (Member(MEMBER, Role.OWNER, NOW),), 0, NOW, None)))
    for number in range(1, count + 1):
        # Identifiers have gaps, as if other chats had the ones between.
        id_, kind = MessageId(2 * number), MessageType.TEXT
        message = Message(id_, CHAT, MEMBER, kind, "x", None, NOW, None, None, None, number, number)
        tx.apply(StoreMessage(message, number))


class Counted:
    """A reader that records the limit of each query."""

    def __init__(self, reader: Reader, counts: list[int]) -> None:
        self._reader = reader
        self._counts = counts

    def messages_before(
        self, chat_id: ChatId, before_id: MessageId | None, count: int, since: int = 1
    ) -> Sequence[Message]:
        self._counts.append(count)
        return self._reader.messages_before(chat_id, before_id, count, since)

    def messages_after(
        self, chat_id: ChatId, after_id: MessageId, count: int, since: int = 1
    ) -> Sequence[Message]:
        self._counts.append(count)
        return self._reader.messages_after(chat_id, after_id, count, since)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


anchors = st.integers(0, 30)
commands = st.one_of(
    st.builds(ListMessages, st.just(CHAT)),
    st.builds(lambda anchor: ListMessages(CHAT, before_id=MessageId(anchor + 1)), anchors),
    st.builds(lambda anchor: ListMessages(CHAT, after_id=anchor), anchors),
    st.builds(lambda anchor: ListMessages(CHAT, around_id=MessageId(anchor + 1)), anchors),
)


@given(commands, st.integers(0, 14), st.integers(1, 12))
def test_parts_form_the_same_page(command: ListMessages, messages: int, size: int) -> None:
    """For any request and any sizes of parts; and no query reads more than its bound."""

    async def compare() -> None:
        storage, counts = MemoryStorage(), list[int]()
        await storage.transact(lambda tx: fill(tx, messages))

        async def read(query: Query[Any]) -> Any:
            return await storage.read(lambda reader: query(Counted(reader, counts)))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(operations.messages, "MESSAGES_AT_ONCE", AT_ONCE)
            reading = page_in_parts(command, context(MEMBER), size)
            [page] = [part async for part in in_parts(reading, read)]
        assert page == await storage.read(page_of_messages(command, context(MEMBER), size))
        assert max(counts) <= AT_ONCE

    trio.run(compare)


@pytest.mark.parametrize("in_one_query", [True, False])
@pytest.mark.parametrize(
    ("anchor", "size", "expected"),
    [
        ({}, 3, ([18, 16, 14], True, 14)),
        ({}, 9, ([18, 16, 14, 12, 10, 8, 6, 4, 2], False, None)),
        ({"before_id": 14}, 3, ([12, 10, 8], True, 8)),
        ({"before_id": 7}, 3, ([6, 4, 2], False, None)),
        ({"before_id": 2}, 3, ([], False, None)),
        ({"after_id": 0}, 3, ([6, 4, 2], True, None)),
        ({"after_id": 1}, 3, ([6, 4, 2], True, None)),
        ({"after_id": 2}, 7, ([16, 14, 12, 10, 8, 6, 4], True, 4)),
        ({"after_id": 8}, 3, ([14, 12, 10], True, 10)),
        ({"after_id": 12}, 3, ([18, 16, 14], False, 14)),
        ({"after_id": 13}, 4, ([18, 16, 14], False, 14)),
        ({"after_id": 18}, 3, ([], False, None)),
        ({"around_id": 10}, 4, ([14, 12, 10, 8], True, 8)),
        ({"around_id": 10}, 5, ([14, 12, 10, 8, 6], True, 6)),
        ({"around_id": 11}, 4, ([14, 12, 10, 8], True, 8)),
        ({"around_id": 16}, 4, ([18, 16, 14, 12], True, 12)),
        ({"around_id": 18}, 8, ([18, 16, 14, 12, 10, 8, 6, 4], True, 4)),
        ({"around_id": 18}, 9, ([18, 16, 14, 12, 10, 8, 6, 4, 2], False, None)),
        ({"around_id": 4}, 4, ([8, 6, 4, 2], False, None)),
        ({"around_id": 1}, 8, ([16, 14, 12, 10, 8, 6, 4, 2], False, None)),
        ({"around_id": 2}, 9, ([18, 16, 14, 12, 10, 8, 6, 4, 2], False, None)),
    ],
)
async def test_a_page_has_the_messages_beside_its_anchor(
    anchor: dict[str, Any],
    size: int,
    expected: tuple[list[int], bool, int | None],
    in_one_query: bool,
) -> None:
    """A page of the messages 2, 4, ... 18 runs newest first; `after_id` excludes its anchor and reports newer
    messages in `has_more`, `around_id` includes its anchor, and each `next_cursor` continues below the page.
    """
    storage, command = MemoryStorage(), ListMessages(CHAT, **anchor)
    await storage.transact(lambda tx: fill(tx, 9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations.messages, "MESSAGES_AT_ONCE", AT_ONCE)
        if in_one_query:
            page = await storage.read(page_of_messages(command, context(MEMBER), size))
        else:
            reading = page_in_parts(command, context(MEMBER), size)
            [page] = [part async for part in in_parts(reading, storage.read)]
    assert ([message.id for message in page.messages], page.has_more, page.next_cursor) == expected


async def test_each_part_checks_membership() -> None:
    """A non-member reads nothing, and a member who is removed between parts reads nothing more."""
    storage = MemoryStorage()
    await storage.transact(lambda tx: fill(tx, 9))
    with pytest.raises(NotAParticipant):
        [_ async for _ in in_parts(page_in_parts(ListMessages(CHAT), context(STRANGER), 200), storage.read)]

"""Rules of read marks: how far each member of a chat has read it."""

import pytest

from messaging_core.effects import AdvanceChat, AdvanceMark
from messaging_core.ids import MAX_ID, ChatId, MessageId, UserId
from messaging_core.marks import NOTHING_READ, Mark
from messaging_core.members import add_member, remove_member
from messaging_core.messages import delete_message
from messaging_core.models import Chat, Message, User
from messaging_core.ports import Reader, Storage, Transaction
from messaging_core.testing.storage_contract.operations import (
    Abort,
    abort,
    add_direct_chat,
    add_group,
    add_message,
    chat_of,
    people,
)
from messaging_core.testing.storage_programs import NOW, enact


async def chat_with(storage: Storage, *, is_group: bool) -> tuple[User, User, Chat]:
    alice, bob = await people(storage, "alice", "bob")

    def operation(tx: Transaction) -> Chat:
        return add_group(tx, alice, bob) if is_group else add_direct_chat(tx, alice.id, bob.id)

    return alice, bob, await storage.transact(operation)


async def send(storage: Storage, chat: Chat, author: User) -> Message:
    return await storage.transact(lambda tx: add_message(tx, chat.id, author.id))


async def read(storage: Storage, chat: Chat, user: User, mark: Mark) -> None:
    def operation(tx: Transaction) -> None:
        locked = tx.lock_chat(chat.id)
        assert locked is not None
        tx.apply(AdvanceMark(locked, user.id, mark))

    await storage.transact(operation)


async def marks_of(storage: Storage, chat: Chat, *users: User) -> list[Mark]:
    """The marks of all members, by each way to read them."""

    def look(reader: Reader) -> list[Mark]:
        marks = reader.marks(chat.id)
        assert set(marks) == {user.id for user in users}
        for user_id, mark in marks.items():
            others = [each for other_id, each in marks.items() if other_id != user_id]
            assert reader.own_marks(user_id, [chat.id, ChatId(MAX_ID)]) == {chat.id: mark}
            assert reader.furthest_marks(user_id, [chat.id]) == {chat.id: max(others)}
        return [marks[user.id] for user in users]

    found = await storage.read(look)
    assert await storage.transact(look) == found
    return found


both_kinds = pytest.mark.parametrize("is_group", [False, True], ids=["direct", "group"])


class MarkRules:
    @both_kinds
    async def test_sending_moves_ones_own_mark(self, storage: Storage, is_group: bool) -> None:
        """Messages are counted, and their author has read up to them; the others have not."""
        alice, bob, chat = await chat_with(storage, is_group=is_group)
        assert await marks_of(storage, chat, alice, bob) == [NOTHING_READ] * 2
        first = await send(storage, chat, alice)
        assert await marks_of(storage, chat, alice, bob) == [(first.id, 1), NOTHING_READ]
        await send(storage, chat, bob)
        third = await send(storage, chat, bob)
        assert await marks_of(storage, chat, alice, bob) == [(first.id, 1), (third.id, 3)]
        assert (await chat_of(storage, chat.id)).message_count == 3

    async def test_what_others_sent_between_two_messages(self, storage: Storage) -> None:
        """The newest ids above one message up to another, without one's own, from a number on."""
        alice, bob, chat = await chat_with(storage, is_group=True)
        other = await storage.transact(lambda tx: add_group(tx, alice, bob))
        sent = []
        for author in (alice, bob, bob, alice, bob, bob):
            sent.append(await send(storage, chat, author))
            await send(storage, other, author)
        ids = [message.id for message in sent]

        def look(reader: Reader) -> None:
            for after, through, count, since, found in (
                (MessageId(0), MessageId(MAX_ID), 9, 1, [5, 4, 2, 1]),
                (ids[1], MessageId(ids[4] + 1), 9, 1, [4, 2]),
                (MessageId(0), ids[5], 2, 1, [5, 4]),
                (MessageId(0), ids[5], 9, sent[4].sequence, [5, 4]),
                (ids[5], MessageId(MAX_ID), 9, 1, []),
            ):
                read = reader.message_ids_of_others(
                    chat.id, alice.id, after, through, count=count, since=since
                )
                assert list(read) == [ids[index] for index in found]

        await storage.read(look)
        await storage.transact(look)

    @both_kinds
    async def test_a_mark_moves_forward_only(self, storage: Storage, is_group: bool) -> None:
        """An earlier mark changes nothing, alone or with an advance of the chat that was decided before."""
        alice, bob, chat = await chat_with(storage, is_group=is_group)
        sent = [await send(storage, chat, alice) for _ in range(3)]
        marks = [Mark(message.id, number) for number, message in enumerate(sent, 1)]
        before = await chat_of(storage, chat.id)
        for mark, expected in ((marks[1], marks[1]), (marks[0], marks[1]), (marks[2], marks[2])):
            await read(storage, chat, bob, mark)
            assert await marks_of(storage, chat, alice, bob) == [marks[2], expected]
        await storage.transact(lambda tx: tx.apply(AdvanceChat(before)))
        assert await marks_of(storage, chat, alice, bob) == [marks[2], marks[2]]

    @both_kinds
    async def test_a_mark_of_a_stranger(self, storage: Storage, is_group: bool) -> None:
        """Who is no member has no mark, and cannot move one."""
        alice, bob, chat = await chat_with(storage, is_group=is_group)
        message = await send(storage, chat, alice)
        (carol,) = await people(storage, "carol")
        await read(storage, chat, carol, Mark(message.id, 1))
        assert await marks_of(storage, chat, alice, bob) == [(message.id, 1), NOTHING_READ]
        assert await storage.read(lambda reader: reader.own_marks(carol.id, [chat.id])) == {}
        assert await storage.read(lambda reader: reader.marks(ChatId(MAX_ID))) == {}
        assert await storage.read(lambda reader: reader.furthest_marks(UserId(MAX_ID), [])) == {}

    async def test_what_was_sent_before_joining_is_read(self, storage: Storage) -> None:
        """A member begins at the chat's last message, also when they join again; who leaves has no mark."""
        alice, bob, chat = await chat_with(storage, is_group=True)
        message = await send(storage, chat, alice)

        def rejoin(tx: Transaction) -> None:
            enact(tx, remove_member(tx.lock_chat(chat.id), bob.id, now=NOW))
            assert bob.id not in tx.marks(chat.id)
            enact(tx, add_member(tx.lock_chat(chat.id), bob.id, reads_all=True, now=NOW))

        await storage.transact(rejoin)
        assert await marks_of(storage, chat, alice, bob) == [(message.id, 1)] * 2

    async def test_the_mark_at_a_message(self, storage: Storage) -> None:
        """It is that of the chat's last message that is not later; deleted messages count."""
        alice, bob, chat = await chat_with(storage, is_group=False)
        other = await storage.transact(lambda tx: add_group(tx, alice, bob))
        first = await send(storage, chat, alice)
        foreign = await send(storage, other, bob)
        last = await send(storage, chat, bob)

        def delete(tx: Transaction) -> None:
            message = tx.message(last.id)
            enact(tx, delete_message(tx.lock_chat(chat.id), message, deleter=bob.id, now=NOW))

        def look(reader: Reader) -> list[Mark]:
            ids = (0, first.id, foreign.id, last.id, MAX_ID)
            return [reader.mark_at(chat.id, MessageId(id_)) for id_ in ids]

        await storage.transact(delete)
        expected = [NOTHING_READ, (first.id, 1), (first.id, 1), (last.id, 2), (last.id, 2)]
        assert await storage.read(look) == expected
        assert await storage.read(lambda reader: reader.mark_at(ChatId(MAX_ID), last.id)) == NOTHING_READ

    @both_kinds
    async def test_marks_are_rolled_back(self, storage: Storage, is_group: bool) -> None:
        """A transaction sees the marks that it has moved; if it fails, they are as before."""
        alice, bob, chat = await chat_with(storage, is_group=is_group)
        message = await send(storage, chat, alice)

        def operation(tx: Transaction) -> None:
            locked = tx.lock_chat(chat.id)
            assert locked is not None
            tx.apply(AdvanceMark(locked, bob.id, Mark(message.id, 1)))
            assert tx.marks(chat.id)[bob.id] == (message.id, 1)
            abort(None)

        with pytest.raises(Abort):
            await storage.transact(operation)
        assert await marks_of(storage, chat, alice, bob) == [(message.id, 1), NOTHING_READ]

"""Messages, a chat's history and its log."""

from datetime import timedelta
from functools import partial

import pytest
from attrs import evolve

from messaging_core.commands import EditMessage
from messaging_core.effects import ChangeMessage, StoreMessage
from messaging_core.events import THE_CHAT, CustomSubject, LogEntry, MessageSubject, creation
from messaging_core.ids import MAX_ID, MessageId
from messaging_core.messages import delete_message, edit_message
from messaging_core.models import Message, MessageType
from messaging_core.ports import Reader, Storage, Transaction
from messaging_core.testing.storage_contract.operations import (
    add_custom_event,
    add_group,
    add_message,
    history_of,
    pair,
)
from messaging_core.testing.storage_programs import LIMITS, NOW, enact


class MessageRules:
    async def test_messages(self, storage: Storage) -> None:
        """A message is stored with all its fields and nulls; a changed message replaces it at its place."""
        alice, _, chat = await pair(storage)
        first, second, third = [
            await storage.transact(lambda tx: add_message(tx, chat.id, alice.id)) for _ in range(3)
        ]
        changed = evolve(
            second,
            author_id=None,
            type=MessageType.FILE,
            content=None,
            payload={"deleted": True},
            reply_to_id=first.id,
            edited_at=NOW + timedelta(seconds=1),
            deleted_at=NOW + timedelta(seconds=2),
            revision=7,
        )
        await storage.transact(lambda tx: tx.apply(ChangeMessage(changed)))
        assert await storage.read(lambda reader: reader.message(second.id)) == changed
        assert list(await history_of(storage, chat.id)) == [third, changed, first]

    @pytest.mark.parametrize("kind", list(MessageType))
    async def test_message_types(self, storage: Storage, kind: MessageType) -> None:
        """Every message type is read back as itself."""
        alice, _, chat = await pair(storage)
        message = Message(MessageId(1), chat.id, alice.id, kind, "x", None, NOW, None, None, None, 2, 2)
        await storage.transact(lambda tx: tx.apply(StoreMessage(message, 1)))
        stored = await storage.read(lambda reader: reader.message(message.id))
        assert stored == message
        assert stored is not None
        assert stored.type is kind

    async def test_history(self, storage: Storage) -> None:
        """A page of history excludes its anchor, which need not exist, and has at most `count` messages."""
        alice, bob, chat = await pair(storage)
        other = await storage.transact(lambda tx: add_group(tx, alice, bob))
        ids: list[MessageId] = []
        for _ in range(6):
            ids.append((await storage.transact(lambda tx: add_message(tx, chat.id, alice.id))).id)
            await storage.transact(lambda tx: add_message(tx, other.id, bob.id))

        def look(reader: Reader) -> None:
            def before(anchor: int | None, count: int) -> list[MessageId]:
                message_id = None if anchor is None else MessageId(anchor)
                return [message.id for message in reader.messages_before(chat.id, message_id, count)]

            def after(anchor: int, count: int) -> list[MessageId]:
                return [message.id for message in reader.messages_after(chat.id, MessageId(anchor), count)]

            assert before(None, 100) == ids[::-1]
            assert before(None, 2) == [ids[5], ids[4]]
            assert before(None, 1) == [ids[5]]
            assert before(ids[3], 2) == [ids[2], ids[1]]
            assert before(ids[3], 3) == before(ids[3], 4) == [ids[2], ids[1], ids[0]]
            assert before(ids[3] + 1, 1) == [ids[3]]  # the anchor is a message of the other chat
            assert before(ids[0], 5) == before(0, 5) == []
            assert before(MAX_ID, 1) == [ids[5]]
            assert after(0, 100) == ids
            assert after(0, 2) == ids[:2]
            assert after(ids[3], 1) == [ids[4]]
            assert after(ids[3], 2) == after(ids[3], 3) == [ids[4], ids[5]]
            assert after(ids[3] + 1, 1) == [ids[4]]
            assert after(ids[5], 5) == after(MAX_ID, 5) == []

        await storage.read(look)
        await storage.transact(look)

    async def test_any_anchor(self, storage: Storage) -> None:
        """The anchor may be the id of a message of the chat, of another chat, or of no message."""
        alice, bob, chat = await pair(storage)
        other = await storage.transact(lambda tx: add_group(tx, alice, bob))
        empty = await storage.transact(lambda tx: add_group(tx, bob, alice))

        def write(tx: Transaction) -> list[MessageId]:
            ids: list[MessageId] = []
            for others in (0, 3, 0, 1, 5, 2, 0, 4):
                message = add_message(tx, chat.id, alice.id)
                ids.append(message.id)
                enact(tx, delete_message(tx.lock_chat(chat.id), message, deleter=alice.id, now=NOW))
                for _ in range(others):
                    tx.next_message_id()  # an unused id
                    add_message(tx, other.id, bob.id)
            return ids

        ids = await storage.transact(write)

        def look(reader: Reader) -> None:
            for anchor in (*range(ids[-1] + 12), MAX_ID):
                before = [message.id for message in reader.messages_before(chat.id, MessageId(anchor), 3)]
                after = [message.id for message in reader.messages_after(chat.id, MessageId(anchor), 3)]
                assert before == [id_ for id_ in reversed(ids) if id_ < anchor][:3]
                assert after == [id_ for id_ in ids if id_ > anchor][:3]
                assert not reader.messages_before(empty.id, MessageId(anchor), 3)
                assert not reader.messages_after(empty.id, MessageId(anchor), 3)

        await storage.read(look)
        await storage.transact(look)

    async def test_last_messages(self, storage: Storage) -> None:
        """The last messages of chats are read together, in their present state."""
        alice, bob, chat = await pair(storage)
        other = await storage.transact(lambda tx: add_group(tx, alice, bob))
        for chat_id in (chat.id, other.id, chat.id):
            await storage.transact(partial(add_message, chat_id=chat_id, author=alice.id))
        first, second = [(await history_of(storage, each.id))[0] for each in (chat, other)]
        command = EditMessage(first.id, "changed")
        edited = await storage.transact(
            lambda tx: enact(
                tx,
                edit_message(tx.lock_chat(chat.id), first, command, editor=alice.id, now=NOW, limits=LIMITS),
            )
        )
        assert (edited.sequence, edited.revision) == (3, 4)

        def look(reader: Reader) -> None:
            wanted = {chat.id: first.id, other.id: second.id}
            assert reader.last_messages(wanted) == {chat.id: edited, other.id: second}
            assert reader.last_messages({other.id: second.id}) == {other.id: second}
            assert reader.last_messages({}) == {}

        await storage.read(look)
        await storage.transact(look)
        await history_of(storage, chat.id)
        await storage.read(look)

    async def test_the_history_from_a_number_on(self, storage: Storage) -> None:
        """A reader who may read from a number on gets full pages of the messages from that number on."""
        alice, bob, chat = await pair(storage)
        other = await storage.transact(lambda tx: add_group(tx, alice, bob))

        def write(tx: Transaction) -> list[Message]:
            found = []
            for _ in range(6):
                found.append(add_message(tx, chat.id, alice.id))
                add_message(tx, other.id, bob.id)
            return found

        written = await storage.transact(write)
        ids = [message.id for message in written]
        assert [message.sequence for message in written] == [2, 3, 4, 5, 6, 7]

        def look(reader: Reader) -> None:
            for since in (1, 2, 4, 7, 8, MAX_ID):
                shown = [message.id for message in written if message.sequence >= since]
                for count in (1, 3, 100):
                    last = [each.id for each in reader.messages_before(chat.id, None, count, since)]
                    assert last == shown[::-1][:count]
                    for anchor in (*ids, MessageId(ids[2] + 1), MessageId(MAX_ID)):
                        before = reader.messages_before(chat.id, anchor, count, since)
                        after = reader.messages_after(chat.id, anchor, count, since)
                        assert [each.id for each in before] == [x for x in shown[::-1] if x < anchor][:count]
                        assert [each.id for each in after] == [x for x in shown if x > anchor][:count]

        await storage.read(look)
        await storage.transact(look)
        await storage.read(look)

    async def test_a_message_that_does_not_exist_cannot_change(self, storage: Storage) -> None:
        """Changing a message that was never stored raises `LookupError` and changes nothing."""
        alice, _, chat = await pair(storage)
        message = Message(
            MessageId(7), chat.id, alice.id, MessageType.TEXT, "x", None, NOW, None, None, None, 2, 2
        )
        with pytest.raises(LookupError):
            await storage.transact(lambda tx: tx.apply(ChangeMessage(message)))
        assert await history_of(storage, chat.id) == []

    async def test_log(self, storage: Storage) -> None:
        """A chat's log is read in order after a number; each entry names its message."""
        alice, bob, chat = await pair(storage)
        other = await storage.transact(lambda tx: add_group(tx, alice, bob))
        messages = []
        for _ in range(3):
            messages.append(await storage.transact(lambda tx: add_message(tx, chat.id, alice.id)))
            await storage.transact(lambda tx: add_message(tx, other.id, bob.id))
        later = NOW + timedelta(seconds=9)
        await storage.transact(
            lambda tx: enact(
                tx,
                edit_message(
                    tx.lock_chat(chat.id),
                    tx.message(messages[0].id),
                    EditMessage(messages[0].id, "changed"),
                    editor=alice.id,
                    now=later,
                    limits=LIMITS,
                ),
            )
        )
        await storage.transact(
            lambda tx: add_custom_event(
                tx, chat.id, "acme.pinned", {"by": "Алиса", "at": [1, None]}, now=later
            )
        )

        def look(reader: Reader) -> None:
            entries = reader.log(chat.id, 0, 100)
            assert list(entries) == [
                LogEntry(chat.id, 1, "chat.created", THE_CHAT, NOW),
                *(creation(message) for message in messages),
                LogEntry(chat.id, 5, "message.updated", MessageSubject(messages[0].id), later),
                LogEntry(chat.id, 6, "acme.pinned", CustomSubject({"by": "Алиса", "at": [1, None]}), later),
            ]
            assert list(reader.log(chat.id, 2, 2)) == list(entries[2:4])
            assert list(reader.log(chat.id, 4, 9)) == list(entries[4:])
            assert list(reader.log(chat.id, 6, 9)) == []

        await storage.read(look)
        await storage.transact(look)

"""The `committed` callback: when and in which order it is called, and what happens to cancelled callers."""

import threading
from collections import Counter
from collections.abc import Sequence

import pytest
import trio

from messaging_core.events import MessageSubject
from messaging_core.ids import ChatId, MessageId
from messaging_core.models import Message, User
from messaging_core.ports import Storage, Transaction
from messaging_core.testing.storage_contract.operations import (
    RACERS,
    Abort,
    abort,
    add_group,
    add_message,
    add_user,
    chat_ids_of,
    chat_of,
    history_of,
    pair,
    people,
    race,
)


class CommittedRules:
    async def test_committed_is_called_once_before_the_return(self, storage: Storage) -> None:
        """`committed` is called once with the result, on the event loop, before `transact` returns."""
        calls: list[tuple[str, int]] = []
        result = await storage.transact(
            lambda _: "result", committed=lambda result: calls.append((result, threading.get_ident()))
        )
        assert calls == [(result, threading.get_ident())]

    async def test_committed_is_not_called_for_a_failure(self, storage: Storage) -> None:
        """`committed` is not called after a rollback."""
        calls: list[object] = []
        with pytest.raises(Abort):
            await storage.transact(abort, committed=calls.append)
        assert calls == []

    async def test_committed_is_called_after_the_commit(self, storage: Storage) -> None:
        """A read that starts in `committed` finds the committed changes."""
        alice, _, chat = await pair(storage)
        found: list[Message | None] = []

        async with trio.open_nursery() as nursery:

            async def look(message: Message) -> None:
                found.append(await storage.read(lambda reader: reader.message(message.id)))

            async def contender(number: int) -> None:
                await storage.transact(
                    lambda tx: add_message(tx, chat.id, alice.id, str(number)),
                    committed=lambda message: nursery.start_soon(look, message),
                )

            await race(contender)
        assert None not in found
        assert len({message.id for message in found if message is not None}) == RACERS

    async def test_committed_is_called_in_the_order_of_commits(self, storage: Storage) -> None:
        """Callbacks are called in commit order: for each chat, in the order of its sequence without gaps."""
        alice, bob, direct = await pair(storage)
        chats = [
            direct.id,
            *[(await storage.transact(lambda tx: add_group(tx, alice, bob))).id for _ in range(3)],
        ]
        calls: list[tuple[ChatId, int, MessageId]] = []

        async def contender(number: int) -> None:
            def operation(tx: Transaction) -> tuple[ChatId, int, MessageId]:
                message = add_message(tx, chats[number % 4], alice.id, str(number))
                chat = tx.chat(message.chat_id)
                assert chat is not None
                return chat.id, chat.sequence, message.id

            await storage.transact(operation, committed=calls.append)

        await race(contender, 4 * RACERS)
        for chat_id in chats:
            of_chat = [(sequence, message_id) for each, sequence, message_id in calls if each == chat_id]
            assert [sequence for sequence, _ in of_chat] == list(range(2, 2 + RACERS))
            log = await storage.read(lambda reader, chat_id=chat_id: reader.log(chat_id, 1, 1000))  # type: ignore[misc]
            assert [(sequence, MessageSubject(message_id)) for sequence, message_id in of_chat] == [
                (entry.sequence, entry.subject) for entry in log
            ]
            # Clients order by id: within a chat, that is the order of its sequence.
            assert [message_id for _, message_id in of_chat] == sorted(
                message_id for _, message_id in of_chat
            )

    async def test_the_callback_of_a_chat_precedes_those_of_its_messages(self, storage: Storage) -> None:
        """A message that is sent as soon as a read finds its new chat has its callback after the chat's."""
        alice, bob = await people(storage, "alice", "bob")
        calls: list[tuple[ChatId, int]] = []

        async def write_at_once() -> None:
            found: Sequence[ChatId] = ()
            while not found:
                found = await storage.read(lambda reader: chat_ids_of(reader, bob))
            message = await storage.transact(
                lambda tx: add_message(tx, found[0], bob.id),
                committed=lambda message: calls.append((message.chat_id, 2)),
            )
            assert message.chat_id == calls[0][0]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_at_once)
            chat = await storage.transact(
                lambda tx: add_group(tx, alice, bob), committed=lambda chat: calls.append((chat.id, 1))
            )
        assert calls == [(chat.id, 1), (chat.id, 2)]

    async def test_a_caller_that_is_cancelled_before_its_operation_changes_nothing(
        self, storage: Storage
    ) -> None:
        """The operation of a caller that is cancelled before it starts does not run."""
        calls: list[object] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            await storage.transact(lambda tx: add_user(tx, "alice"), committed=calls.append)
        assert scope.cancelled_caught
        assert calls == []
        assert await storage.read(lambda reader: reader.user_by_tag("alice")) is None

    async def test_a_caller_that_is_cancelled_later_commits_and_has_its_callback(
        self, storage: Storage
    ) -> None:
        """A caller that is cancelled while its operation runs loses neither the commit nor the callback."""
        token = trio.lowlevel.current_trio_token()
        calls: list[User] = []
        with trio.CancelScope() as scope:

            def operation(tx: Transaction) -> User:
                token.run_sync_soon(scope.cancel)  # the operation may run in any thread
                return add_user(tx, "alice")

            await storage.transact(operation, committed=calls.append)
        alice = await storage.read(lambda reader: reader.user_by_tag("alice"))
        assert calls == [alice]

    async def test_cancelled_callers_commit_with_a_callback_or_do_neither(self, storage: Storage) -> None:
        """Whenever callers are cancelled, `committed` is called for exactly the committed operations."""
        alice, _, chat = await pair(storage)
        called: Counter[MessageId] = Counter()
        token = trio.lowlevel.current_trio_token()
        scopes = [trio.CancelScope() for _ in range(2 * RACERS)]

        async def contender(number: int) -> None:
            def operation(tx: Transaction) -> Message:
                # Each operation cancels another caller, some of which have started by then and some have not.
                token.run_sync_soon(scopes[number * 7 % len(scopes)].cancel)
                return add_message(tx, chat.id, alice.id, str(number))

            with scopes[number]:
                await storage.transact(operation, committed=lambda message: called.update([message.id]))

        await race(contender, len(scopes))
        messages = await history_of(storage, chat.id)
        assert called == Counter(message.id for message in messages)
        assert (await chat_of(storage, chat.id)).sequence == 1 + len(messages)

"""A transaction is committed whole or not at all, and no reader sees a part of it."""

from datetime import timedelta

import pytest
import trio
from attrs import evolve

from messaging_core.chats import excerpt, head
from messaging_core.effects import ChangeMessage, StoreChat, StoreUser
from messaging_core.errors import Refused
from messaging_core.idempotency import resource_of, store
from messaging_core.ids import MessageId
from messaging_core.marks import NOTHING_READ, Mark
from messaging_core.models import Message, Session
from messaging_core.ports import Reader, Storage, Transaction
from messaging_core.testing.storage_contract.operations import (
    RACERS,
    Abort,
    add_direct_chat,
    add_message,
    add_session,
    add_user,
    chat_ids_of,
    chat_of,
    history_of,
    idempotent_request,
    pair,
    people,
    race,
)
from messaging_core.testing.storage_programs import NOW, enact
from messaging_core.tokens import end_session


class AtomicityRules:
    async def test_an_exception_rolls_everything_back(self, storage: Storage) -> None:
        """An operation that raises changes nothing, and `transact` raises its exception."""
        alice, bob, chat = await pair(storage)
        request = idempotent_request(alice)

        def prepare(tx: Transaction) -> tuple[Session, Message]:
            enact(tx, store(request, status=201, resource=None, now=NOW))
            return add_session(tx, alice), add_message(tx, chat.id, alice.id)

        session, message = await storage.transact(prepare)

        def snapshot(reader: Reader) -> list[object]:
            return [
                reader.user_by_email("carol@test.com"),
                reader.user_by_tag("carol"),
                reader.session(session.id),
                reader.chat(chat.id),
                chat_ids_of(reader, alice),
                list(reader.messages_before(chat.id, None, 10)),
                list(reader.log(chat.id, 0, 10)),
                reader.stored_response(request.key),
            ]

        before = await storage.read(snapshot)
        error = Abort()

        def operation(tx: Transaction) -> None:
            carol = add_user(tx, "carol")
            add_session(tx, carol)
            enact(tx, end_session(session, reason="session_revoked", now=NOW))
            add_direct_chat(tx, alice.id, carol.id)
            add_message(tx, chat.id, bob.id)
            tx.apply(ChangeMessage(evolve(message, content="changed")))
            enact(tx, store(request, status=200, resource=resource_of(message), now=NOW))
            tx.forget_before(responses=NOW + timedelta(days=1), sessions=NOW + timedelta(days=100))
            assert snapshot(tx) != before
            raise error

        with pytest.raises(Abort) as raised:
            await storage.transact(operation)
        assert raised.value is error
        assert await storage.read(snapshot) == before
        carol, *_ = await people(storage, "carol")
        assert await storage.read(lambda reader: reader.user_by_tag("carol")) == carol

    async def test_a_transaction_sees_its_own_changes(self, storage: Storage) -> None:
        """A transaction reads its own changes before the commit."""

        def operation(tx: Transaction) -> None:
            alice, bob = add_user(tx, "alice"), add_user(tx, "bob")
            assert tx.user(alice.id) == tx.user_by_email(alice.email) == tx.user_by_tag("alice") == alice
            assert tx.password_hash(bob.id) == "hash of bob"
            session = add_session(tx, alice)
            assert tx.session(session.id) == tx.lock_session(session.id) == session
            chat = add_direct_chat(tx, alice.id, bob.id)
            stored_chat = evolve(chat, sequence=1)
            assert (
                tx.chat(chat.id) == tx.lock_chat(chat.id) == tx.direct_chat(bob.id, alice.id) == stored_chat
            )
            assert [head(found) for found in tx.chats_of(bob.id, None, 9)] == [head(stored_chat)]
            assert tx.excerpts({chat.id: 2}, bob.id) == {chat.id: excerpt(stored_chat, bob.id, 2)}
            message = add_message(tx, chat.id, alice.id)
            assert tx.message(message.id) == message
            assert list(tx.messages_before(chat.id, None, 9)) == [message]
            assert list(tx.messages_after(chat.id, MessageId(0), 9)) == [message]
            advanced = tx.lock_chat(chat.id)
            assert advanced == evolve(
                stored_chat,
                sequence=2,
                last_message_id=message.id,
                message_count=1,
                marks=(Mark(message.id, 1), NOTHING_READ),
            )
            assert [entry.sequence for entry in tx.log(chat.id, 0, 9)] == [1, 2]
            request = idempotent_request(alice)
            stored = enact(tx, store(request, status=201, resource=resource_of(message), now=NOW))
            assert tx.stored_response(request.key) == tx.lock_stored_response(request.key) == stored
            tx.apply(ChangeMessage(evolve(message, content="changed")))
            again = tx.message(message.id)
            assert again is not None
            assert again.content == "changed"

        await storage.transact(operation)

    async def test_uniqueness(self, storage: Storage) -> None:
        """A second user of an e-mail or tag, or direct chat of a pair, is an error that changes nothing."""
        alice, bob, chat = await pair(storage)

        def store(tx: Transaction, email: str, tag: str) -> None:
            tx.apply(StoreUser(evolve(alice, id=tx.next_user_id(), email=email, tag=tag), "hash", email))

        for email, tag in ((alice.email, "new"), ("new@test.com", alice.tag)):
            with pytest.raises(Exception) as raised:  # noqa: PT011 - each storage has its own exception
                await storage.transact(lambda tx, email=email, tag=tag: store(tx, email, tag))  # type: ignore[misc]
            assert not isinstance(raised.value, Refused)
        swapped = evolve(chat, members=chat.members[::-1])
        with pytest.raises(Exception):  # noqa: B017, PT011
            await storage.transact(lambda tx: tx.apply(StoreChat(evolve(swapped, id=tx.next_chat_id()))))

        def look(reader: Reader) -> None:
            assert reader.user_by_email("new@test.com") is reader.user_by_tag("new") is None
            assert reader.user_by_email(alice.email) == reader.user_by_tag(alice.tag) == alice
            assert chat_ids_of(reader, bob) == [chat.id]

        await storage.read(look)

    async def test_a_failing_operation_affects_no_other(self, storage: Storage) -> None:
        """Of concurrent operations, only those that raise are rolled back."""
        alice, _, chat = await pair(storage)
        sent: list[MessageId] = []

        async def contender(number: int) -> None:
            def operation(tx: Transaction) -> MessageId:
                message = add_message(tx, chat.id, alice.id, str(number))
                if number % 3 == 0:
                    raise Abort(number)
                return message.id

            if number % 3 == 0:
                with pytest.raises(Abort) as raised:
                    await storage.transact(operation)
                assert raised.value.args == (number,)
            else:
                sent.append(await storage.transact(operation))

        await race(contender)
        messages = await history_of(storage, chat.id)
        assert sorted(message.id for message in messages) == sorted(sent)
        assert (await chat_of(storage, chat.id)).sequence == 1 + len(sent)

    async def test_readers_see_whole_transactions_only(self, storage: Storage) -> None:
        """A read sees the state between two transactions: the log, the history and the chat agree."""
        alice, _, chat = await pair(storage)
        done = False

        async def reader_task() -> None:
            while not done:
                await storage.read(agree)
                await trio.lowlevel.checkpoint()

        def agree(reader: Reader) -> None:
            stored = reader.chat(chat.id)
            assert stored is not None
            messages = reader.messages_before(chat.id, None, 1000)
            assert len(reader.log(chat.id, 0, 1000)) == stored.sequence == 1 + len(messages)
            assert stored.last_message_id == (messages[0].id if messages else None)

        async def contender(number: int) -> None:
            await storage.transact(lambda tx: add_message(tx, chat.id, alice.id, str(number)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader_task)
            await race(contender)
            done = True
        assert (await chat_of(storage, chat.id)).sequence == 1 + RACERS

    async def test_no_reader_of_a_log_misses_an_entry(self, storage: Storage) -> None:
        """A reader that follows a log by its last number sees every entry in order, despite many writers."""
        alice, _, chat = await pair(storage)
        last = 1 + 2 * RACERS

        async def follow() -> None:
            seen = 0
            while seen < last:
                entries = await storage.read(lambda reader, after=seen: reader.log(chat.id, after, 3))  # type: ignore[misc]
                assert [entry.sequence for entry in entries] == list(range(seen + 1, seen + 1 + len(entries)))
                seen += len(entries)

        async def contender(number: int) -> None:
            await storage.transact(lambda tx: add_message(tx, chat.id, alice.id, str(number)))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(follow)
            nursery.start_soon(race, contender, last - 1)

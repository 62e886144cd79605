"""The one suite that every storage passes: what `messaging_core.ports` says, a rule a test.

A storage's own test module derives from `StorageContract` and says how a fresh, empty storage is opened,
and how one that serves as the model is:

    class TestMemoryStorage(StorageContract):
        @pytest.fixture
        def open_storage(self) -> OpenStorage:
            return open_fresh_storage      # () -> async context manager of a Storage
"""

import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from attrs import evolve
from hypothesis import HealthCheck, Phase, given, settings

from messaging_core.chats import create_group, open_direct_chat
from messaging_core.commands import (
    CreateGroup,
    EditMessage,
    OpenDirectChat,
    RegisterUser,
    SendMessage,
)
from messaging_core.effects import (
    AdvanceChat,
    StoreAnswer,
    StoreChat,
    StoreMessage,
    StoreSession,
    StoreUser,
)
from messaging_core.errors import EmailTaken, Refused
from messaging_core.idempotency import keep, replayed
from messaging_core.ids import MAX_ID, ChatId, MessageId, SessionId, UserId
from messaging_core.messages import edit_message, send_message
from messaging_core.models import (
    Answer,
    Chat,
    IdempotencyKey,
    Member,
    Message,
    MessageType,
    Role,
    Session,
    User,
)
from messaging_core.ports import FORGOTTEN_AT_ONCE, Reader, Storage, Transaction
from messaging_core.testing.storage_programs import (
    LIMITS,
    NOW,
    OpenStorage,
    ProgramTransaction,
    compare,
    enact,
    programs,
)
from messaging_core.tokens import end_session, open_session, refresh_claims, rotate
from messaging_core.users import register

__all__ = ["OpenStorage", "StorageContract"]

RACERS = 32


class Abort(Exception):
    """Raised by an operation to have its transaction rolled back."""


def add_user(tx: Transaction, name: str) -> User:
    email = f"{name}@test.com"
    decision = register(
        RegisterUser(email, "password123", name.title()),
        known=tx.user_by_email(email),
        tag=name,
        user_id=tx.next_user_id(),
        password_hash=f"hash of {name}",
        now=NOW,
    )
    return enact(tx, decision)


def add_session(tx: Transaction, user: User, *, now: datetime = NOW) -> Session:
    session_id = tx.next_session_id()
    return enact(tx, open_session(user.id, session_id=session_id, device="a phone", now=now, limits=LIMITS))


def add_direct_chat(tx: Transaction, actor: UserId, other: UserId) -> Chat:
    decision = open_direct_chat(
        OpenDirectChat(other),
        actor=actor,
        other=tx.user(other),
        existing=tx.lock_direct_chat(actor, other),
        chat_id=tx.next_chat_id(),
        now=NOW,
    )
    return enact(tx, decision)


def add_group(tx: Transaction, owner: User, *others: User) -> Chat:
    member_ids = tuple(other.id for other in others)
    decision = create_group(
        CreateGroup("A group", member_ids),
        actor=owner.id,
        known=tx.users(member_ids),
        chat_id=tx.next_chat_id(),
        now=NOW,
        limits=LIMITS,
    )
    return enact(tx, decision)


def add_message(
    tx: Transaction,
    chat_id: ChatId,
    author: UserId,
    content: str | None = "hello",
    payload: Mapping[str, Any] | None = None,
    *,
    now: datetime = NOW,
) -> Message:
    chat = tx.lock_chat(chat_id)
    decision = send_message(
        chat,
        SendMessage(chat_id, MessageType.TEXT, content, payload),
        author=author,
        replied_to=None,
        message_id=tx.next_message_id(),
        now=now,
        limits=LIMITS,
    )
    return enact(tx, decision)


async def people(storage: Storage, *names: str) -> list[User]:
    return await storage.transact(lambda tx: [add_user(tx, name) for name in names])


async def pair(storage: Storage) -> tuple[User, User, Chat]:
    """Alice, Bob and their direct chat, just made."""
    alice, bob = await people(storage, "alice", "bob")
    return alice, bob, await storage.transact(lambda tx: add_direct_chat(tx, alice.id, bob.id))


async def chat_of(storage: Storage, chat_id: ChatId) -> Chat:
    chat = await storage.read(lambda reader: reader.chat(chat_id))
    assert chat is not None
    return chat


async def history_of(storage: Storage, chat_id: ChatId) -> Sequence[Message]:
    return await storage.read(lambda reader: reader.messages_before(chat_id, None, 10_000))


def idempotency_key(user: User | None, key: str = "one-request") -> IdempotencyKey:
    return IdempotencyKey(None if user is None else user.id, "POST", "/api/v1/messages", key)


async def race(contender: Callable[[int], Any], count: int = RACERS) -> None:
    """Run `contender(0)` to `contender(count - 1)` at once, each in its own task."""
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(contender, number)


class StorageContract:
    """Derive, name the class `Test…`, and give it two fixtures that return an `OpenStorage`.

    `open_storage` says how the storage under test is opened, `open_model` how the one that it is compared
    with is: the memory storage, usually.
    """

    programs = 100
    """How many programs the model-based test tries; each opens the storage anew."""

    @pytest.fixture
    async def storage(self, open_storage: OpenStorage) -> AsyncIterator[Storage]:
        async with open_storage() as storage:
            yield storage

    # --- looking up ----------------------------------------------------------------------------------------

    async def test_what_is_missing_is_none(self, storage: Storage) -> None:
        """Every look-up answers None, or nothing, for what does not exist, whatever its identifier."""

        def look(reader: Reader) -> list[object]:
            return [
                found
                for number in (1, 2, MAX_ID)
                for found in (
                    reader.user(UserId(number)),
                    reader.password_hash(UserId(number)),
                    reader.session(SessionId(number)),
                    reader.chat(ChatId(number)),
                    reader.direct_chat(UserId(number), UserId(3)),
                    reader.message(MessageId(number)),
                    reader.answer(IdempotencyKey(UserId(number), "POST", "/", "k")),
                    reader.user_by_email("nobody@test.com"),
                    reader.user_by_tag("nobody"),
                )
            ]

        def list_(reader: Reader) -> list[int]:
            return [
                len(reader.users([UserId(1), UserId(MAX_ID)])),
                len(reader.chats_of(UserId(1))),
                len(reader.positions([UserId(1), UserId(MAX_ID)])),
                len(reader.positions([])),
                len(reader.messages_before(ChatId(1), None, 10)),
                len(reader.messages_before(ChatId(1), MessageId(MAX_ID), 10)),
                len(reader.messages_after(ChatId(1), MessageId(1), 10)),
                len(reader.log(ChatId(1), 0, 10)),
            ]

        def lock(tx: Transaction) -> list[object]:
            return [
                tx.lock_chat(ChatId(1)),
                tx.lock_direct_chat(UserId(1), UserId(2)),
                tx.lock_session(SessionId(1)),
                tx.lock_answer(IdempotencyKey(None, "POST", "/", "k")),
                *look(tx),
            ]

        assert set(await storage.read(look)) == {None}
        assert set(await storage.read(list_)) == {0}
        assert set(await storage.transact(lock)) == {None}
        assert set(await storage.transact(list_)) == {0}

    async def test_users(self, storage: Storage) -> None:
        """A user is found by id, e-mail and tag, and the hash of the password by id alone."""
        alice, bob = await people(storage, "alice", "bob")

        def look(reader: Reader) -> None:
            assert reader.user(alice.id) == reader.user_by_email("alice@test.com") == alice
            assert reader.user_by_tag("bob") == bob
            assert reader.password_hash(alice.id) == "hash of alice"
            assert reader.users([bob.id, UserId(bob.id + 1), alice.id]) == {alice.id: alice, bob.id: bob}
            assert reader.users([]) == {}
            assert len(reader.users([alice.id, alice.id])) == 1

        await storage.read(look)

    async def test_keys_are_exact(self, storage: Storage) -> None:
        """E-mails and tags are compared as they are: normalising them is the core's affair."""
        await people(storage, "alice")
        for email in ("ALICE@test.com", "alice@test.com ", "alice_test.com", "a%", ""):
            assert await storage.read(lambda reader, email=email: reader.user_by_email(email)) is None  # type: ignore[misc]
        for tag in ("Alice", "alic", "alice%", "alicé", ""):
            assert await storage.read(lambda reader, tag=tag: reader.user_by_tag(tag)) is None  # type: ignore[misc]

    async def test_many_users_at_once(self, storage: Storage) -> None:
        """A look-up takes as many identifiers as a group has members."""
        [alice] = await people(storage, "alice")
        ids = [alice.id, *(UserId(alice.id + number) for number in range(1, LIMITS.group_members))]
        assert await storage.read(lambda reader: reader.users(ids)) == {alice.id: alice}

    async def test_sessions(self, storage: Storage) -> None:
        """A session is kept whole, and replaced whole."""
        [alice] = await people(storage, "alice")
        session = await storage.transact(lambda tx: add_session(tx, alice))
        assert await storage.read(lambda reader: reader.session(session.id)) == session
        changed = evolve(
            session,
            refreshed_at=NOW + timedelta(days=1),
            expires_at=NOW + timedelta(days=31),
            generation=session.generation + 1,
            confirmed=True,
            ended_at=NOW + timedelta(days=2),
        )
        await storage.transact(lambda tx: tx.apply(StoreSession(changed)))
        assert await storage.read(lambda reader: reader.session(session.id)) == changed
        assert await storage.transact(lambda tx: tx.lock_session(session.id)) == changed

    async def test_chats(self, storage: Storage) -> None:
        """A chat is kept whole: its members in their order, with roles and times of joining."""
        users = await people(storage, "carol", "alice", "bob")

        def operation(tx: Transaction) -> Chat:
            members = (
                Member(users[2].id, Role.OWNER, NOW),
                Member(users[0].id, Role.ADMIN, NOW + timedelta(seconds=5)),
                Member(users[1].id, Role.MEMBER, NOW + timedelta(seconds=3)),
            )
            chat = Chat(tx.next_chat_id(), "Title", True, NOW, members, 1, NOW + timedelta(days=1), None)
            tx.apply(StoreChat(chat))
            return chat

        chat = await storage.transact(operation)
        assert await chat_of(storage, chat.id) == chat
        assert await storage.transact(lambda tx: tx.lock_chat(chat.id)) == chat

    async def test_advancing_a_chat(self, storage: Storage) -> None:
        """Advancing changes the chat's sequence, last activity and last message, and nothing else of it."""
        alice, _, chat = await pair(storage)
        message = await storage.transact(lambda tx: add_message(tx, chat.id, alice.id))
        later = NOW + timedelta(hours=1)
        before = await chat_of(storage, chat.id)
        assert (before.sequence, before.last_message_id) == (2, message.id)
        stranger = evolve(
            before,
            title="no",
            members=(),
            created_at=later,
            sequence=7,
            active_at=later,
            last_message_id=None,
        )
        await storage.transact(lambda tx: tx.apply(AdvanceChat(stranger)))
        assert await chat_of(storage, chat.id) == evolve(
            before, sequence=7, active_at=later, last_message_id=None
        )

    async def test_direct_chats(self, storage: Storage) -> None:
        """A direct chat is found by its two people in either order; a group of two is not one."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")
        await storage.transact(lambda tx: add_group(tx, alice, bob))
        assert await storage.read(lambda reader: reader.direct_chat(alice.id, bob.id)) is None
        chat = await storage.transact(lambda tx: add_direct_chat(tx, bob.id, alice.id))

        def look(reader: Reader) -> None:
            kept = reader.chat(chat.id)
            assert kept is not None
            assert reader.direct_chat(alice.id, bob.id) == reader.direct_chat(bob.id, alice.id) == kept
            assert reader.direct_chat(alice.id, carol.id) is None
            assert reader.direct_chat(alice.id, alice.id) is None

        await storage.read(look)
        locked = await storage.transact(lambda tx: tx.lock_direct_chat(alice.id, bob.id))
        assert locked == await chat_of(storage, chat.id)

    async def test_chats_of_a_user(self, storage: Storage) -> None:
        """A user's chats are all those, and only those, that the user takes part in, each whole."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")

        def operation(tx: Transaction) -> tuple[ChatId, ChatId]:
            return add_direct_chat(tx, alice.id, bob.id).id, add_group(tx, bob, carol).id

        direct, group = await storage.transact(operation)
        for user, expected in ((alice, {direct}), (bob, {direct, group}), (carol, {group})):
            chats = await storage.read(lambda reader, user=user: reader.chats_of(user.id))  # type: ignore[misc]
            assert {chat.id for chat in chats} == expected
            for chat in chats:
                assert chat == await chat_of(storage, chat.id)

    async def test_positions(self, storage: Storage) -> None:
        """The positions of some users are those of every chat of any of them, once, and of no other."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")

        def operation(tx: Transaction) -> tuple[ChatId, ChatId]:
            direct, group = add_direct_chat(tx, alice.id, bob.id).id, add_group(tx, bob, carol).id
            for _ in range(3):
                add_message(tx, group, carol.id)
            return direct, group

        direct, group = await storage.transact(operation)
        for users, expected in (
            ([alice.id], {direct: 1}),
            ([bob.id], {direct: 1, group: 4}),
            ([carol.id, UserId(MAX_ID)], {group: 4}),
            ([alice.id, bob.id, carol.id, bob.id], {direct: 1, group: 4}),
        ):
            assert await storage.read(lambda reader, users=users: dict(reader.positions(users))) == expected  # type: ignore[misc]
            assert await storage.transact(lambda tx, users=users: dict(tx.positions(users))) == expected  # type: ignore[misc]

    async def test_messages(self, storage: Storage) -> None:
        """A message is kept whole, with every null; a changed one replaces it and keeps its place."""
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
        )
        await storage.transact(lambda tx: tx.apply(StoreMessage(changed)))
        assert await storage.read(lambda reader: reader.message(second.id)) == changed
        assert list(await history_of(storage, chat.id)) == [third, changed, first]

    @pytest.mark.parametrize("kind", list(MessageType))
    async def test_message_types(self, storage: Storage, kind: MessageType) -> None:
        """Every type of message comes back as itself."""
        alice, _, chat = await pair(storage)
        message = Message(MessageId(1), chat.id, alice.id, kind, "x", None, NOW, None, None, None)
        await storage.transact(lambda tx: tx.apply(StoreMessage(message)))
        kept = await storage.read(lambda reader: reader.message(message.id))
        assert kept == message
        assert kept is not None
        assert kept.type is kind

    async def test_history(self, storage: Storage) -> None:
        """History is cut exactly: the anchor, which need not exist, is left out, and at most count come."""
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

    async def test_answers(self, storage: Storage) -> None:
        """An answer is found by its whole key, in which no user is not any user; a new one replaces it."""
        alice, bob = await people(storage, "alice", "bob")
        key = IdempotencyKey(alice.id, "POST", "/api/v1/messages", "k")
        keys = [
            key,
            evolve(key, user_id=None),
            evolve(key, user_id=bob.id),
            evolve(key, method="PATCH"),
            evolve(key, path="/api/v1/messages/1"),
            evolve(key, key="K"),
        ]
        answers = [
            Answer(key, bytes([number]) * 16, 200 + number, bytes(range(256)), NOW)
            for number, key in enumerate(keys)
        ]
        for position, answer in enumerate(answers):
            for missing in keys[position:]:
                assert await storage.read(lambda reader, key=missing: reader.answer(key)) is None  # type: ignore[misc]
            await storage.transact(lambda tx, answer=answer: tx.apply(StoreAnswer(answer)))  # type: ignore[misc]
        newer = evolve(
            answers[1], fingerprint=b"n" * 16, status=299, body=b"", created_at=NOW + timedelta(days=2)
        )
        await storage.transact(lambda tx: tx.apply(StoreAnswer(newer)))
        kept = await storage.transact(lambda tx: [tx.lock_answer(key) for key in keys])
        assert kept == [answers[0], newer, *answers[2:]]

    async def test_forgetting(self, storage: Storage) -> None:
        """Forgetting drops exactly the answers kept, and the sessions over, before the times given."""
        [alice] = await people(storage, "alice")
        second = timedelta(seconds=1)

        def fill(tx: Transaction) -> tuple[dict[str, IdempotencyKey], dict[str, SessionId]]:
            answers = {
                name: Answer(idempotency_key(alice, name), b"f" * 16, 200, b"", at)
                for name, at in {"old": NOW - second, "new": NOW}.items()
            }
            for answer in answers.values():
                tx.apply(StoreAnswer(answer))
            session = Session(
                SessionId(1), alice.id, "", NOW - timedelta(days=60), NOW, NOW + second, 1, False, None
            )
            sessions = {
                name: evolve(session, id=tx.next_session_id(), expires_at=expires_at, ended_at=ended_at)
                for name, expires_at, ended_at in (
                    ("open", NOW + second, None),
                    ("expires now", NOW, None),
                    ("expired", NOW - second, None),
                    ("ended now", NOW + second, NOW),
                    ("ended", NOW + second, NOW - second),
                    ("expired, ended", NOW - second, NOW - second),
                )
            }
            for each in sessions.values():
                tx.apply(StoreSession(each))
            return (
                {name: answer.key for name, answer in answers.items()},
                {name: each.id for name, each in sessions.items()},
            )

        answers, sessions = await storage.transact(fill)

        def left(reader: Reader) -> set[str]:
            return {name for name, key in answers.items() if reader.answer(key)} | {
                name for name, session_id in sessions.items() if reader.session(session_id)
            }

        def forget(tx: Transaction) -> int:
            return tx.forget_before(answers=NOW, sessions=NOW)

        everything = await storage.read(left)
        assert (
            await storage.transact(lambda tx: tx.forget_before(answers=NOW - second, sessions=NOW - second))
            == 0
        )
        assert await storage.read(left) == everything
        assert await storage.transact(forget) == 4
        assert await storage.read(left) == {"new", "open", "expires now", "ended now"}
        assert await storage.transact(forget) == 0
        assert await storage.read(lambda reader: reader.user(alice.id)) == alice

    async def test_forgetting_by_parts(self, storage: Storage) -> None:
        """One transaction forgets a bounded part of what is old, so that nobody waits long for it."""
        [alice] = await people(storage, "alice")
        second = timedelta(seconds=1)
        surplus = 3

        def fill(tx: Transaction) -> list[IdempotencyKey]:
            keys = [idempotency_key(alice, str(n)) for n in range(FORGOTTEN_AT_ONCE + surplus)]
            for key in keys:
                tx.apply(StoreAnswer(Answer(key, b"f" * 16, 200, b"", NOW - second)))
                session = add_session(tx, alice)
                tx.apply(StoreSession(evolve(session, ended_at=NOW - second)))
            return keys

        def forget(tx: Transaction) -> int:
            return tx.forget_before(answers=NOW, sessions=NOW)

        keys = await storage.transact(fill)
        assert await storage.transact(forget) == 2 * FORGOTTEN_AT_ONCE
        assert await storage.read(lambda reader: sum(map(bool, map(reader.answer, keys)))) == surplus
        assert await storage.transact(forget) == 2 * surplus
        assert await storage.transact(forget) == 0

    async def test_log(self, storage: Storage) -> None:
        """A chat's log is read in its own order from beyond a number, each entry naming its message."""
        alice, bob, chat = await pair(storage)
        other = await storage.transact(lambda tx: add_group(tx, alice, bob))
        messages = []
        for _ in range(3):
            messages.append(await storage.transact(lambda tx: add_message(tx, chat.id, alice.id)))
            await storage.transact(lambda tx: add_message(tx, other.id, bob.id))
        await storage.transact(
            lambda tx: enact(
                tx,
                edit_message(
                    tx.lock_chat(chat.id),
                    tx.message(messages[0].id),
                    EditMessage(messages[0].id, "changed"),
                    editor=alice.id,
                    now=NOW + timedelta(seconds=9),
                    limits=LIMITS,
                ),
            )
        )

        def look(reader: Reader) -> None:
            entries = reader.log(chat.id, 0, 100)
            assert [(entry.sequence, entry.name, entry.message_id) for entry in entries] == [
                (1, "chat.created", None),
                *((number, "message.created", message.id) for number, message in enumerate(messages, 2)),
                (5, "message.updated", messages[0].id),
            ]
            assert {entry.chat_id for entry in entries} == {chat.id}
            assert [entry.at for entry in entries] == [NOW] * 4 + [NOW + timedelta(seconds=9)]
            assert list(reader.log(chat.id, 2, 2)) == list(entries[2:4])
            assert list(reader.log(chat.id, 4, 9)) == list(entries[4:])
            assert list(reader.log(chat.id, 5, 9)) == []

        await storage.read(look)
        await storage.transact(look)

    # --- values --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "text",
        [
            "\U0001f44b\U0001f3fd \U0001f469‍\U0001f4bb",  # emoji beyond the BMP, joined
            "שלום \u202eعليكم\u202c",  # right to left, with marks
            "e\u0301 \u00e9 n\u0303",  # combining marks, not to be normalised
            "İıßſΣς",  # what case folding changes
            "one\r\ntwo\tthree \\ \" ' % _ ; --",
            " around ",
            "𝄞" * 4000,
        ],
    )
    async def test_text(self, storage: Storage, text: str) -> None:
        """Text comes back code point by code point, wherever it stands."""
        alice, _, chat = await pair(storage)
        message = await storage.transact(
            lambda tx: add_message(tx, chat.id, alice.id, text, {text[:50]: text[:50]})
        )
        assert await storage.read(lambda reader: reader.message(message.id)) == message

        def operation(tx: Transaction) -> User:
            user = User(tx.next_user_id(), f"{text[:9]}@test.com", text[:64], "tag", None, NOW)
            tx.apply(StoreUser(user, "hash"))
            return user

        user = await storage.transact(operation)
        assert await storage.read(lambda reader: reader.user_by_email(user.email)) == user

    @pytest.mark.parametrize(
        "payload",
        [
            {},
            {"": None, "true": True, "list": [], "object": {}, "nested": [[{"a": [1, [2, {"b": None}]]}]]},
            {"largest": MAX_ID, "smallest": -MAX_ID, "zero": 0},
            {"tenth": 0.1, "tiny": 5e-324, "huge": 1.7976931348623157e308, "third": 1 / 3},
            {"ключ": "значение", "\U0001f511": "\u2028\u2029", 'quote"\\': "\x7f"},
        ],
    )
    async def test_payload(self, storage: Storage, payload: dict[str, Any]) -> None:
        """A payload comes back equal: nested, with numbers exact as far as JavaScript's are."""
        alice, _, chat = await pair(storage)
        message = await storage.transact(lambda tx: add_message(tx, chat.id, alice.id, None, payload))
        kept = await storage.read(lambda reader: reader.message(message.id))
        assert kept == message
        assert kept is not None
        assert kept.payload is not None
        assert dict(kept.payload) == payload

    async def test_times(self, storage: Storage) -> None:
        """Times come back aware, in UTC, to the second, from long ago to far ahead."""
        alice, _, chat = await pair(storage)
        for at in (
            datetime(1970, 1, 1, tzinfo=UTC),
            datetime(2024, 3, 31, 1, 59, 59, tzinfo=UTC),  # where summer time begins
            datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),  # past 32 bits
            datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC),
        ):
            message = await storage.transact(lambda tx, at=at: add_message(tx, chat.id, alice.id, now=at))  # type: ignore[misc]
            kept = await storage.read(lambda reader, m=message: reader.message(m.id))  # type: ignore[misc]
            assert kept is not None
            assert kept.ts == at
            assert kept.ts.utcoffset() == timedelta(0)
            assert (await chat_of(storage, chat.id)).active_at.utcoffset() == timedelta(0)

    # --- identifiers ---------------------------------------------------------------------------------------

    async def test_identifiers(self, storage: Storage) -> None:
        """New identifiers are positive, never alike, and greater than every one that was given before."""

        def draw(tx: Transaction) -> list[list[int]]:
            return [
                [int(draw_one()) for _ in range(3)]
                for draw_one in (tx.next_user_id, tx.next_session_id, tx.next_chat_id, tx.next_message_id)
            ]

        for drawn in await storage.transact(draw):
            assert 0 < drawn[0] < drawn[1] < drawn[2] <= MAX_ID
        alice, bob, chat = await pair(storage)
        session = await storage.transact(lambda tx: add_session(tx, alice))
        message = await storage.transact(lambda tx: add_message(tx, chat.id, alice.id))
        with pytest.raises(Abort):
            await storage.transact(lambda tx: _abort(draw(tx)))
        again = await storage.transact(draw)
        for taken, drawn in zip((bob.id, session.id, chat.id, message.id), again, strict=True):
            assert taken < drawn[0] < drawn[1] < drawn[2]

    async def test_identifiers_are_not_used_again(self, storage: Storage) -> None:
        """The identifier of a session that was forgotten is not given to another."""
        [alice] = await people(storage, "alice")
        session = await storage.transact(lambda tx: add_session(tx, alice))
        later = NOW + timedelta(days=1000)
        assert await storage.transact(lambda tx: tx.forget_before(answers=later, sessions=later)) == 1
        assert (await storage.transact(lambda tx: add_session(tx, alice))).id > session.id

    # --- atomicity -----------------------------------------------------------------------------------------

    async def test_an_exception_rolls_everything_back(self, storage: Storage) -> None:
        """An operation that raises has changed nothing, and its own exception comes out."""
        alice, bob, chat = await pair(storage)
        key = idempotency_key(alice)

        def prepare(tx: Transaction) -> tuple[Session, Message]:
            enact(tx, keep(key, b"f" * 16, status=201, body=b"first", now=NOW))
            return add_session(tx, alice), add_message(tx, chat.id, alice.id)

        session, message = await storage.transact(prepare)

        def snapshot(reader: Reader) -> list[object]:
            return [
                reader.user_by_email("carol@test.com"),
                reader.user_by_tag("carol"),
                reader.session(session.id),
                reader.chat(chat.id),
                sorted(each.id for each in reader.chats_of(alice.id)),
                list(reader.messages_before(chat.id, None, 10)),
                list(reader.log(chat.id, 0, 10)),
                reader.answer(key),
            ]

        before = await storage.read(snapshot)
        error = Abort()

        def operation(tx: Transaction) -> None:
            carol = add_user(tx, "carol")
            add_session(tx, carol)
            enact(tx, end_session(session, reason="session_revoked", now=NOW))
            add_direct_chat(tx, alice.id, carol.id)
            add_message(tx, chat.id, bob.id)
            tx.apply(StoreMessage(evolve(message, content="changed")))
            enact(tx, keep(key, b"g" * 16, status=200, body=b"second", now=NOW))
            tx.forget_before(answers=NOW + timedelta(days=1), sessions=NOW + timedelta(days=100))
            assert snapshot(tx) != before
            raise error

        with pytest.raises(Abort) as raised:
            await storage.transact(operation)
        assert raised.value is error
        assert await storage.read(snapshot) == before
        carol, *_ = await people(storage, "carol")
        assert await storage.read(lambda reader: reader.user_by_tag("carol")) == carol

    async def test_a_transaction_sees_its_own_changes(self, storage: Storage) -> None:
        """What a transaction has applied, it reads back before the commit."""

        def operation(tx: Transaction) -> None:
            alice, bob = add_user(tx, "alice"), add_user(tx, "bob")
            assert tx.user(alice.id) == tx.user_by_email(alice.email) == tx.user_by_tag("alice") == alice
            assert tx.password_hash(bob.id) == "hash of bob"
            session = add_session(tx, alice)
            assert tx.session(session.id) == tx.lock_session(session.id) == session
            chat = add_direct_chat(tx, alice.id, bob.id)
            kept = evolve(chat, sequence=1)
            assert tx.chat(chat.id) == tx.lock_chat(chat.id) == tx.direct_chat(bob.id, alice.id) == kept
            assert list(tx.chats_of(bob.id)) == [kept]
            message = add_message(tx, chat.id, alice.id)
            assert tx.message(message.id) == message
            assert list(tx.messages_before(chat.id, None, 9)) == [message]
            assert list(tx.messages_after(chat.id, MessageId(0), 9)) == [message]
            advanced = tx.lock_chat(chat.id)
            assert advanced == evolve(kept, sequence=2, last_message_id=message.id)
            assert [entry.sequence for entry in tx.log(chat.id, 0, 9)] == [1, 2]
            answer = enact(tx, keep(idempotency_key(alice), b"f" * 16, status=201, body=b"", now=NOW))
            assert tx.answer(answer.key) == tx.lock_answer(answer.key) == answer
            tx.apply(StoreMessage(evolve(message, content="changed")))
            again = tx.message(message.id)
            assert again is not None
            assert again.content == "changed"

        await storage.transact(operation)

    async def test_what_is_unique_stays_unique(self, storage: Storage) -> None:
        """A second user of an e-mail or tag, or direct chat of a pair, is an error that changes nothing."""
        alice, bob, chat = await pair(storage)

        def store(tx: Transaction, email: str, tag: str) -> None:
            tx.apply(StoreUser(evolve(alice, id=tx.next_user_id(), email=email, tag=tag), "hash"))

        for email, tag in ((alice.email, "new"), ("new@test.com", alice.tag)):
            with pytest.raises(Exception) as raised:  # noqa: PT011 - each storage has its own
                await storage.transact(lambda tx, email=email, tag=tag: store(tx, email, tag))  # type: ignore[misc]
            assert not isinstance(raised.value, Refused)
        swapped = evolve(chat, members=chat.members[::-1])
        with pytest.raises(Exception):  # noqa: B017, PT011
            await storage.transact(lambda tx: tx.apply(StoreChat(evolve(swapped, id=tx.next_chat_id()))))

        def look(reader: Reader) -> None:
            assert reader.user_by_email("new@test.com") is reader.user_by_tag("new") is None
            assert reader.user_by_email(alice.email) == reader.user_by_tag(alice.tag) == alice
            assert [each.id for each in reader.chats_of(bob.id)] == [chat.id]

        await storage.read(look)

    async def test_one_failing_operation_harms_no_other(self, storage: Storage) -> None:
        """Of operations that run at once, those that raise are rolled back alone."""
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
            kept = reader.chat(chat.id)
            assert kept is not None
            messages = reader.messages_before(chat.id, None, 1000)
            assert len(reader.log(chat.id, 0, 1000)) == kept.sequence == 1 + len(messages)
            assert kept.last_message_id == (messages[0].id if messages else None)

        async def contender(number: int) -> None:
            await storage.transact(lambda tx: add_message(tx, chat.id, alice.id, str(number)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader_task)
            await race(contender)
            done = True
        assert (await chat_of(storage, chat.id)).sequence == 1 + RACERS

    async def test_no_reader_of_a_log_misses_an_entry(self, storage: Storage) -> None:
        """Reading on from the last number that was seen, while many write, gives every entry, in order."""
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

    # --- committed -----------------------------------------------------------------------------------------

    async def test_committed_is_called_once_before_the_return(self, storage: Storage) -> None:
        """`committed` hears the result once, on the event loop, before `transact` returns."""
        calls: list[tuple[str, int]] = []
        result = await storage.transact(
            lambda _: "result", committed=lambda result: calls.append((result, threading.get_ident()))
        )
        assert calls == [(result, threading.get_ident())]

    async def test_committed_is_not_called_for_a_failure(self, storage: Storage) -> None:
        """What was rolled back was not committed."""
        calls: list[object] = []
        with pytest.raises(Abort):
            await storage.transact(_abort, committed=calls.append)
        assert calls == []

    async def test_what_committed_tells_is_committed(self, storage: Storage) -> None:
        """Whoever is told by `committed`, and reads, finds what it was told of."""
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
        """Callbacks come in the order of the commits: each chat's sequence, without gap, in every chat."""
        alice, bob, direct = await pair(storage)
        chats = [
            direct.id,
            *[(await storage.transact(lambda tx: add_group(tx, alice, bob))).id for _ in range(3)],
        ]
        heard: list[tuple[ChatId, int, MessageId]] = []

        async def contender(number: int) -> None:
            def operation(tx: Transaction) -> tuple[ChatId, int, MessageId]:
                message = add_message(tx, chats[number % 4], alice.id, str(number))
                chat = tx.chat(message.chat_id)
                assert chat is not None
                return chat.id, chat.sequence, message.id

            await storage.transact(operation, committed=heard.append)

        await race(contender, 4 * RACERS)
        for chat_id in chats:
            of_chat = [(sequence, message_id) for each, sequence, message_id in heard if each == chat_id]
            assert [sequence for sequence, _ in of_chat] == list(range(2, 2 + RACERS))
            log = await storage.read(lambda reader, chat_id=chat_id: reader.log(chat_id, 1, 1000))  # type: ignore[misc]
            assert of_chat == [(entry.sequence, entry.message_id) for entry in log]
            # Clients order by id: within a chat, that is the order of its sequence.
            assert [message_id for _, message_id in of_chat] == sorted(
                message_id for _, message_id in of_chat
            )

    async def test_a_chat_is_told_of_before_its_messages(self, storage: Storage) -> None:
        """Who finds a chat that another has just made, and writes into it, is told of after its making."""
        alice, bob = await people(storage, "alice", "bob")
        heard: list[tuple[ChatId, int]] = []

        async def write_at_once() -> None:
            found: Sequence[Chat] = ()
            while not found:
                found = await storage.read(lambda reader: reader.chats_of(bob.id))
            message = await storage.transact(
                lambda tx: add_message(tx, found[0].id, bob.id),
                committed=lambda message: heard.append((message.chat_id, 2)),
            )
            assert message.chat_id == heard[0][0]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_at_once)
            chat = await storage.transact(
                lambda tx: add_group(tx, alice, bob), committed=lambda chat: heard.append((chat.id, 1))
            )
        assert heard == [(chat.id, 1), (chat.id, 2)]

    async def test_a_caller_cancelled_before_it_began_has_changed_nothing(self, storage: Storage) -> None:
        """A cancelled caller whose operation has not begun never begins it."""
        calls: list[object] = []
        with trio.CancelScope() as scope:
            scope.cancel()
            await storage.transact(lambda tx: add_user(tx, "alice"), committed=calls.append)
        assert scope.cancelled_caught
        assert calls == []
        assert await storage.read(lambda reader: reader.user_by_tag("alice")) is None

    async def test_a_caller_cancelled_later_still_commits_and_tells(self, storage: Storage) -> None:
        """Cancelled once its operation runs, a caller loses neither the commit nor the call."""
        token = trio.lowlevel.current_trio_token()
        calls: list[User] = []
        with trio.CancelScope() as scope:

            def operation(tx: Transaction) -> User:
                token.run_sync_soon(scope.cancel)  # from whichever thread this is
                return add_user(tx, "alice")

            await storage.transact(operation, committed=calls.append)
        alice = await storage.read(lambda reader: reader.user_by_tag("alice"))
        assert calls == [alice]

    async def test_cancelled_callers_commit_and_tell_or_do_neither(self, storage: Storage) -> None:
        """However cancellations fall, `committed` is called for exactly what was committed."""
        alice, _, chat = await pair(storage)
        told: Counter[MessageId] = Counter()
        token = trio.lowlevel.current_trio_token()
        scopes = [trio.CancelScope() for _ in range(2 * RACERS)]

        async def contender(number: int) -> None:
            def operation(tx: Transaction) -> Message:
                # Each that runs cancels another: some have begun by then, some have not.
                token.run_sync_soon(scopes[number * 7 % len(scopes)].cancel)
                return add_message(tx, chat.id, alice.id, str(number))

            with scopes[number]:
                await storage.transact(operation, committed=lambda message: told.update([message.id]))

        await race(contender, len(scopes))
        messages = await history_of(storage, chat.id)
        assert told == Counter(message.id for message in messages)
        assert (await chat_of(storage, chat.id)).sequence == 1 + len(messages)

    # --- at once -------------------------------------------------------------------------------------------

    async def test_one_direct_chat_however_many_open_it(self, storage: Storage) -> None:
        """Two people who open their chat from both sides at once open one."""
        alice, bob = await people(storage, "alice", "bob")
        opened: list[ChatId] = []

        async def contender(number: int) -> None:
            actor, other = (alice, bob) if number % 2 else (bob, alice)
            chat = await storage.transact(lambda tx: add_direct_chat(tx, actor.id, other.id))
            opened.append(chat.id)

        await race(contender)
        assert len(opened) == RACERS
        assert len(set(opened)) == 1
        assert len(await storage.read(lambda reader: reader.chats_of(alice.id))) == 1
        assert len(await storage.read(lambda reader: reader.log(opened[0], 0, 100))) == 1

    async def test_one_message_however_often_its_key_comes(self, storage: Storage) -> None:
        """Requests with one Idempotency-Key make one message; the others are answered with its answer."""
        alice, _, chat = await pair(storage)
        key = idempotency_key(alice)
        bodies: list[tuple[bool, bytes]] = []

        async def contender(_: int) -> None:
            def operation(tx: Transaction) -> tuple[bool, bytes]:
                answer = replayed(tx.lock_answer(key), b"f" * 16, now=NOW, limits=LIMITS)
                if answer is not None:
                    return True, answer.body
                body = str(add_message(tx, chat.id, alice.id).id).encode()
                enact(tx, keep(key, b"f" * 16, status=201, body=body, now=NOW))
                return False, body

            bodies.append(await storage.transact(operation))

        await race(contender)
        [message] = await history_of(storage, chat.id)
        assert {body for _, body in bodies} == {str(message.id).encode()}
        assert [replay for replay, _ in bodies].count(False) == 1

    async def test_one_account_however_many_register_its_e_mail(self, storage: Storage) -> None:
        """Of registrations of one e-mail at once, one makes the account; the others meet it."""
        outcomes: Counter[str] = Counter()

        async def contender(_: int) -> None:
            try:
                await storage.transact(lambda tx: add_user(tx, "alice"))
            except EmailTaken as refused:
                outcomes[refused.code] += 1
            else:
                outcomes["registered"] += 1

        await race(contender)
        assert outcomes == {"registered": 1, "email_taken": RACERS - 1}

    async def test_one_successor_however_many_refresh(self, storage: Storage) -> None:
        """Refreshes with one token at once move the session on once, and all get the same successor."""
        [alice] = await people(storage, "alice")
        session = await storage.transact(lambda tx: add_session(tx, alice))
        claims = refresh_claims(session)
        successors: list[object] = []

        async def contender(_: int) -> None:
            def operation(tx: Transaction) -> object:
                return enact(tx, rotate(claims, tx.lock_session(session.id), now=NOW, limits=LIMITS))

            successors.append(await storage.transact(operation))

        await race(contender)
        moved_on = await storage.read(lambda reader: reader.session(session.id))
        assert moved_on is not None
        assert moved_on.generation == session.generation + 1
        assert successors == [moved_on] * RACERS

    # --- the model -----------------------------------------------------------------------------------------

    def test_like_the_model(self, open_storage: OpenStorage, open_model: OpenStorage) -> None:
        """After any program of transactions, committed or rolled back, every read agrees with the model's."""

        # Shrinking opens a storage per attempt; explaining would open as many again.
        @settings(
            deadline=None,
            max_examples=self.programs,
            phases=set(Phase) - {Phase.explain},
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(programs)
        def check(program: list[ProgramTransaction]) -> None:
            trio.run(compare, open_storage, open_model, program)

        check()


def _abort(_: object) -> None:
    raise Abort

"""Operations for the rules: they add users, chats and messages by the core's decisions."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import trio

from messaging_core.chats import create_group, open_direct_chat
from messaging_core.commands import CreateGroup, OpenDirectChat, RegisterUser, SendMessage
from messaging_core.effects import Decision
from messaging_core.events import Custom
from messaging_core.fanout import announce
from messaging_core.idempotency import IdempotentRequest
from messaging_core.ids import ChatId, UserId
from messaging_core.messages import send_message
from messaging_core.models import Chat, IdempotencyKey, Message, MessageType, Session, User
from messaging_core.ports import Reader, Storage, Transaction
from messaging_core.testing.storage_programs import LIMITS, NOW, enact
from messaging_core.tokens import NONCE_BYTES, open_session
from messaging_core.users import register

RACERS = 32


class Abort(Exception):
    """An operation raises this to roll its transaction back."""


def abort(_: object) -> None:
    raise Abort


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
    opened = open_session(
        user.id,
        session_id=session_id,
        nonce=session_id.to_bytes(NONCE_BYTES, "big"),
        device="a phone",
        now=now,
        limits=LIMITS,
    )
    return enact(tx, opened)


def add_direct_chat(tx: Transaction, actor: UserId, other: UserId) -> Chat:
    decision = open_direct_chat(
        OpenDirectChat(other),
        actor=actor,
        other=tx.user(other),
        existing=tx.lock_direct_chat(actor, other),
        created_before=tx.lock_chats_made_by(actor),
        chat_id=tx.next_chat_id(),
        now=NOW,
        limits=LIMITS,
    )
    return enact(tx, decision)


def add_group(tx: Transaction, owner: User, *others: User) -> Chat:
    member_ids = tuple(other.id for other in others)
    decision = create_group(
        CreateGroup("A group", member_ids),
        actor=owner.id,
        known=tx.users(member_ids),
        created_before=tx.lock_chats_made_by(owner.id),
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


def add_custom_event(
    tx: Transaction, chat_id: ChatId, name: str, data: Mapping[str, Any], *, now: datetime = NOW
) -> None:
    chat = tx.lock_chat(chat_id)
    assert chat is not None
    enact(tx, Decision(None, announce(chat, Custom(name, data), now=now)))


async def people(storage: Storage, *names: str) -> list[User]:
    return await storage.transact(lambda tx: [add_user(tx, name) for name in names])


async def pair(storage: Storage) -> tuple[User, User, Chat]:
    """Alice, Bob and their new direct chat."""
    alice, bob = await people(storage, "alice", "bob")
    return alice, bob, await storage.transact(lambda tx: add_direct_chat(tx, alice.id, bob.id))


async def chat_of(storage: Storage, chat_id: ChatId) -> Chat:
    chat = await storage.read(lambda reader: reader.chat(chat_id))
    assert chat is not None
    return chat


def chat_ids_of(reader: Reader, user: User) -> list[ChatId]:
    return [chat.id for chat in reader.chats_of(user.id, None, 10_000)]


async def history_of(storage: Storage, chat_id: ChatId) -> Sequence[Message]:
    return await storage.read(lambda reader: reader.messages_before(chat_id, None, 10_000))


def idempotent_request(user: User, fingerprint: bytes = b"f" * 16) -> IdempotentRequest:
    return IdempotentRequest(idempotency_key(user), fingerprint)


def idempotency_key(user: User, key: str = "one-request") -> IdempotencyKey:
    return IdempotencyKey(user.id, "POST", "/api/v1/messages", key)


async def race(contender: Callable[[int], Any], count: int = RACERS) -> None:
    """Run `contender(0)` to `contender(count - 1)` concurrently, each in its own task."""
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(contender, number)

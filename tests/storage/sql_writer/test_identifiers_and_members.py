"""Identifiers are never drawn twice, and members are cached as they were committed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.postgresql.members import MembersCache, Versioned
from adapters.storage_sql.sqlite.storage import SqliteStorage
from messaging_core.effects import ChangeMessage, StoreChat
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, Member, Message, Role
from messaging_core.ports import Reader, Transaction
from tests.storage.sql_writer.writing import ALICE, BOB, CHAT, NOW, Held, history, prepare, raw, send


async def test_identifiers_survive(tmp_path: Path) -> None:
    """An identifier is not drawn again after its row was deleted and the storage reopened."""
    path = tmp_path / "test.db"
    async with open_sqlite(path) as storage:
        await storage.transact(prepare)
        sent = [await storage.transact(send) for _ in range(3)]
        await storage.transact(lambda tx: raw(tx)("DELETE FROM messages"))
    async with open_sqlite(path) as storage:
        assert await storage.transact(send) == max(sent) + 1


async def test_identifiers_survive_a_crash(tmp_path: Path) -> None:
    """An identifier drawn before a crash is not drawn again, and a crash skips at most 255."""
    path = tmp_path / "test.db"
    async with open_sqlite(path) as storage:
        await storage.transact(prepare)
        sent = [await storage.transact(send) for _ in range(300)]
        for name in ("test.db", "test.db-wal"):  # the files that a crash would leave
            (tmp_path / f"crashed-{name}").write_bytes((tmp_path / name).read_bytes())
    with closing(sqlite3.connect(tmp_path / "crashed-test.db")) as connection:
        ((_, drawn),) = connection.execute("SELECT * FROM sequences WHERE kind = 'message'").fetchall()
    assert max(sent) <= drawn <= max(sent) + 255
    async with open_sqlite(tmp_path / "crashed-test.db") as storage:
        assert [message.id for message in await storage.read(whole_history)] == sent
        assert await storage.transact(send) > drawn


async def test_a_transaction_without_changes_needs_no_space(tmp_path: Path) -> None:
    """After a failed commit, as on a full disk, only a transaction with changes stores identifiers."""
    path = tmp_path / "test.db"
    async with open_sqlite(path) as storage:
        assert isinstance(storage, SqliteStorage)
        await storage.transact(prepare)
        writer = storage._writer

        def refuse(connection: sqlite3.Connection = storage._writing) -> None:
            vars(writer).pop("_commit")
            connection.execute("ROLLBACK")
            raise sqlite3.OperationalError

        vars(writer)["_commit"] = refuse
        with pytest.raises(sqlite3.OperationalError):
            await storage.transact(lambda tx: tx.next_user_id())
        statements: list[str] = []
        storage._writing.set_trace_callback(statements.append)
        assert await storage.transact(lambda tx: tx.user(ALICE)) is not None
        assert statements == ["BEGIN IMMEDIATE", "COMMIT"]
        assert await storage.transact(lambda tx: tx.next_user_id()) == BOB + 2, (
            "an identifier was drawn twice"
        )
    async with open_sqlite(path) as storage:
        assert await storage.transact(lambda tx: tx.next_user_id()) == BOB + 3


def whole_history(reader: Reader) -> list[Message]:
    return list(reader.messages_after(CHAT, MessageId(0), 100_000))


async def test_a_changed_message_keeps_its_position(storage: SqliteStorage) -> None:
    """A changed message stays where it was in the history."""
    first, second = [await storage.transact(send) for _ in range(2)]

    def change(tx: Transaction) -> None:
        message = tx.message(first)
        assert message is not None
        tx.apply(ChangeMessage(evolve(message, content="changed")))

    await storage.transact(change)
    assert await storage.read(history) == [first, second]


def test_members_are_cached_by_version() -> None:
    """The cache has one version of a chat's members, the last one; beyond its bound it evicts chats."""
    members = tuple(Member(UserId(number), Role.MEMBER, NOW) for number in range(1, 5))
    cache = MembersCache(max_members=16)
    cache.put(ChatId(1), Versioned(1, members))
    cache.put(ChatId(2), Versioned(1, members))
    cache.put(ChatId(2), Versioned(2, members[:3]))
    assert cache.get(ChatId(1), 1) is members
    assert cache.get(ChatId(2), 1) is None
    cache.put(ChatId(3), Versioned(1, members))
    assert cache.get(ChatId(1), 1) is None
    assert cache.get(ChatId(2), 2) == members[:3]
    assert cache.get(ChatId(3), 1) is members


async def test_members_of_a_failed_commit_are_not_cached(storage: SqliteStorage) -> None:
    """Members read in a transaction that was rolled back are not cached as committed."""
    groups: list[ChatId] = []

    def add_group(tx: Transaction, chat_id: ChatId, owner: UserId) -> Chat | None:
        members = (Member(owner, Role.OWNER, NOW),)
        tx.apply(StoreChat(Chat(chat_id, "", True, NOW, members, 0, NOW, None)))
        return tx.lock_chat(chat_id)

    def fail(tx: Transaction) -> None:
        groups.append(tx.next_chat_id())
        add_group(tx, groups[0], ALICE)
        raise Held

    def fail_at_commit(tx: Transaction) -> None:
        raw(tx)("PRAGMA defer_foreign_keys = ON")
        add_group(tx, groups[0], ALICE)
        send(tx, chat_id=ChatId(99))

    with pytest.raises(Held):
        await storage.transact(fail)
    with pytest.raises(sqlite3.IntegrityError):
        await storage.transact(fail_at_commit)
    chat = await storage.transact(lambda tx: add_group(tx, groups[0], BOB))
    assert chat is not None
    assert chat.member_ids == (BOB,)
    assert await storage.read(lambda reader: reader.chat(groups[0])) == chat
    assert await storage.transact(lambda tx: tx.lock_chat(groups[0])) == chat


async def test_members_are_read_once(storage: SqliteStorage) -> None:
    """Transactions and readers share one tuple of unchanged members."""
    locked = await storage.transact(lambda tx: tx.lock_chat(CHAT))
    statements: list[str] = []
    storage._writing.set_trace_callback(statements.append)
    again = await storage.transact(lambda tx: tx.lock_chat(CHAT))
    seen = await storage.read(lambda reader: reader.chat(CHAT))
    assert locked is not None
    assert again is not None
    assert seen is not None
    assert locked.members is again.members is seen.members
    assert not any("members.role" in statement for statement in statements)

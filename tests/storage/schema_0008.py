"""Chats of schema 0008, in which nobody joined or left, and what their members may do after the upgrade."""

from collections.abc import Callable

from adapters.storage_sql.driver import Row
from adapters.storage_sql.rows import moment
from messaging_core.effects import Decision, StorageEffect
from messaging_core.ids import ChatId, UserId
from messaging_core.members import add_member, delete_chat, remove_member
from messaging_core.models import History
from messaging_core.ports import Storage, Transaction
from messaging_core.positions import FOUNDER, Range, Reach

TABLES: dict[str, list[Row]] = {
    "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)": [
        (number, f"{number}@test.com", "Name", f"tag{number}", None, 5) for number in (7, 8, 9)
    ],
    "INSERT INTO chats VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)": [
        (1, "Direct Message", False, 5, 1, 5, None, 1, 2),
        (2, "Group", True, 5, 40, 5, None, 3, 2),
    ],
    "INSERT INTO members VALUES (?, ?, ?, ?, ?)": [
        (1, 1, 7, "member", 5),
        (1, 2, 8, "member", 5),
        (2, 1, 8, "owner", 5),
        (2, 2, 7, "member", 6),
    ],
    "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)": [
        (1, 1, "chat.created", None, 5, None),
        (2, 1, "chat.created", None, 5, None),
    ],
}


def fill_0008(execute_many: Callable[[str, list[Row]], object], mark: str) -> None:
    """Insert two chats into schema 0008; `mark` is the driver's placeholder."""
    for statement, rows in TABLES.items():
        execute_many(statement.replace("?", mark), rows)


def carry_out(tx: Transaction, decision: Decision[object]) -> None:
    for effect in decision.effects:
        if isinstance(effect, StorageEffect):
            tx.apply(effect)


async def check_0008(storage: Storage) -> None:
    """Everybody is a founder of their chats; people join, leave and join again, and chats are deleted."""
    for chat_id in (ChatId(1), ChatId(2)):
        chat = await storage.read(lambda reader, id_=chat_id: reader.chat(id_))  # type: ignore[misc]
        assert chat is not None
        assert [member.range is FOUNDER for member in chat.members] == [True, True]
        assert chat.history is (History.JOINED if chat.is_group else History.ALL)
        assert chat.avatar_url is None
        assert await storage.read(lambda reader, id_=chat.id: list(reader.ended_members(id_, 0))) == []  # type: ignore[misc]

    def change(tx: Transaction) -> None:
        group, now = ChatId(2), moment(7)
        carry_out(tx, add_member(tx.lock_chat(group), UserId(9), reads_all=False, now=now))
        carry_out(tx, remove_member(tx.lock_chat(group), UserId(7), now=now))
        carry_out(tx, add_member(tx.lock_chat(group), UserId(7), reads_all=True, now=now))
        changed = tx.chat(group)
        assert changed is not None
        assert [member.range for member in changed.members] == [FOUNDER, Range(41, 41), Range(43, 1)]
        carry_out(tx, delete_chat(tx.lock_chat(group), deleted_by=UserId(8), now=now))

    await storage.transact(change)
    reaches = await storage.read(lambda reader: reader.positions([UserId(7)]))
    assert reaches == {1: Reach(1, is_open=True), 2: Reach(44, is_open=False)}

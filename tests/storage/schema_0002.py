"""A database of schema 0002, whose log had a row for each message's creation, and its upgraded log."""

from collections.abc import Callable

from adapters.storage_sql.driver import Row
from adapters.storage_sql.rows import entry_row, message_of, message_row
from messaging_core.effects import StoreMessage
from messaging_core.events import creation
from messaging_core.ids import ChatId, UserId
from messaging_core.ports import Reader, Storage, Transaction

CHATS: list[Row] = [(1, "", False, 5, 5, 9, 3, 1), (2, "Group", True, 5, 3, 8, 4, 1)]
MESSAGES: list[Row] = [
    (1, 1, 7, "text", "hello", None, 6, None, None, None),
    (2, 2, None, "file", None, '{"a":1}', 7, None, 8, 9),
    (3, 1, 7, "text", "again", None, 9, 1, None, None),
    (4, 2, 7, "text", "hi", None, 8, None, None, None),
]
LOGS: list[Row] = [
    (1, 1, "chat.created", None, 5),
    (1, 2, "message.created", 1, 6),
    (1, 3, "message.updated", 1, 7),
    (1, 4, "message.created", 3, 9),
    (1, 5, "message.deleted", 3, 9),
    (2, 1, "chat.created", None, 5),
    (2, 2, "message.created", 2, 7),
    (2, 3, "message.created", 4, 8),
]
REVISIONS = {1: [(3, 4, 5), (1, 2, 3)], 2: [(4, 3, 3), (2, 2, 2)]}
"""Of each chat's messages, newest first: the id, the sequence, and the sequence of the last change."""
TABLES = {
    "INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)": [
        (7, "a@test.com", "A", "a", None, 5),
        (8, "b@test.com", "B", "b", None, 5),
    ],
    "INSERT INTO chats VALUES (?, ?, ?, ?, ?, ?, ?, ?)": CHATS,
    "INSERT INTO members VALUES (?, ?, ?, ?, ?)": [
        (1, 1, 7, "member", 5),
        (2, 1, 8, "owner", 5),
        (2, 3, 7, "member", 6),
    ],
    "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)": MESSAGES,
    "INSERT INTO events VALUES (?, ?, ?, ?, ?)": LOGS,
}


def fill_0002(execute_many: Callable[[str, list[Row]], object], mark: str) -> None:
    """Insert two chats with their logs into schema 0002; `mark` is the driver's placeholder."""
    for statement, rows in TABLES.items():
        execute_many(statement.replace("?", mark), rows)


async def check_0002(storage: Storage) -> None:
    """The upgraded logs and histories equal those of `fill_0002`, and new entries follow them."""

    def look(reader: Reader) -> None:
        for chat_id in (1, 2):
            log = [entry_row(entry)[:5] for entry in reader.log(ChatId(chat_id), 0, 100)]
            assert log == [row for row in LOGS if row[0] == chat_id]
            history = reader.messages_before(ChatId(chat_id), None, 9)
            rows = [message_row(each)[: len(MESSAGES[0])] for each in history]
            assert rows == [row for row in reversed(MESSAGES) if row[1] == chat_id]
            assert [(each.id, each.sequence, each.revision) for each in history] == REVISIONS[chat_id]
        assert [chat.member_count for chat in reader.chats_of(UserId(7), None, 9)] == [1, 2]

    await storage.read(look)

    def go_on(tx: Transaction) -> None:
        chat = tx.lock_chat(ChatId(1))
        assert chat is not None
        message = message_of((5, *MESSAGES[0][1:], chat.sequence + 1, None))
        tx.apply(StoreMessage(message, chat.message_count + 1))
        assert tx.log(ChatId(1), 5, 9) == [creation(message)]

    await storage.transact(go_on)

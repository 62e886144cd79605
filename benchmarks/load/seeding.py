"""Creates databases with the same users, chats and messages, in our schema and in the peers' schema."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trio

from adapters.storage_sql import open_sqlite
from benchmarks.load.population import CHATS, HISTORY, NONCE, PEOPLE
from messaging_core.effects import StoreChat, StoreSession, StoreUser
from messaging_core.ids import UserId
from messaging_core.models import Chat, Member, Role, Session, User
from messaging_core.ports import Transaction

PEERS_SCHEMA = Path(__file__).parents[1] / "peers" / "schema.sql"

CONTENT = (
    "'Message ' || i || ' of a long conversation, about as long as what people write to each other in chats.'"
)
NUMBERS = "WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < :count)"


def seed_ours(path: Path) -> None:
    """Create our database at `path`, with users and chats."""

    async def store() -> None:
        async with open_sqlite(path) as storage:
            await storage.transact(people_and_chats())

    trio.run(store)


def people_and_chats() -> Callable[[Transaction], None]:
    """An operation that stores the users and chats in an empty database."""
    now = datetime.now(UTC).replace(microsecond=0)
    then = now - timedelta(days=1)

    def operation(tx: Transaction) -> None:
        for number in range(1, PEOPLE + 1):
            user_id, session_id = tx.next_user_id(), tx.next_session_id()
            assert (user_id, session_id) == (number, number)
            user = User(user_id, f"u{number}@test.com", f"Person {number}", f"u{number}", None, then)
            tx.apply(StoreUser(user, "none", user.email))
            expires = now + timedelta(days=30)
            session = Session(
                session_id,
                user_id,
                "load",
                then,
                now,
                expires,
                1,
                confirmed=True,
                ended_at=None,
                nonce=NONCE,
            )
            tx.apply(StoreSession(session))
        for seeded in CHATS:
            chat_id = tx.next_chat_id()
            assert chat_id == seeded.id
            members = tuple(
                Member(UserId(number), Role(seeded.role(number)), then) for number in seeded.people
            )
            tx.apply(StoreChat(Chat(chat_id, seeded.title, seeded.is_group, then, members, 0, then, None)))

    return operation


def fill_ours(path: Path, messages: int) -> None:
    """Insert messages into the chat `HISTORY` of our database."""
    facts = _facts(messages)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"""{NUMBERS} INSERT INTO messages (id, chat_id, author_id, type, content, ts, sequence)
                SELECT i, :chat, iif(i % 2, :one, :other), 'text', {CONTENT}, :began + i, i FROM numbers""",
            facts,
        )
        connection.execute(
            """UPDATE chats SET sequence = :count, last_message_id = :count, active_at = :began + :count
               WHERE id = :chat""",
            facts,
        )
        connection.execute("REPLACE INTO sequences (kind, last) VALUES ('message', :count)", facts)


def seed_peers(path: Path) -> None:
    """Create a database at `path` with the same users and chats, in the peers' schema."""
    then = _text(datetime.now(UTC) - timedelta(days=1))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(PEERS_SCHEMA.read_text(encoding="utf-8"))
        connection.executemany(
            "INSERT INTO users VALUES (?, ?, ?, ?, NULL, ?)",
            ((n, f"u{n}@test.com", f"Person {n}", f"u{n}", then) for n in range(1, PEOPLE + 1)),
        )
        for chat in CHATS:
            connection.execute(
                "INSERT INTO chats VALUES (?, ?, ?, ?, ?, NULL)",
                (chat.id, chat.title, chat.is_group, then, then),
            )
            connection.executemany(
                "INSERT INTO members VALUES (?, ?, ?, ?)",
                ((chat.id, number, chat.role(number), then) for number in chat.people),
            )


def fill_peers(path: Path, messages: int) -> None:
    """Insert the same messages into a peers' database."""
    facts = _facts(messages)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"""{NUMBERS} INSERT INTO messages (id, chat_id, author_id, type, content, ts)
                SELECT i, :chat, iif(i % 2, :one, :other), 'text', {CONTENT},
                       strftime('%Y-%m-%dT%H:%M:%S.000Z', :began + i, 'unixepoch') FROM numbers""",
            facts,
        )
        connection.execute(
            """UPDATE chats SET last_message_id = :count,
                   active_at = (SELECT ts FROM messages WHERE id = :count) WHERE id = :chat""",
            facts,
        )


def _facts(messages: int) -> dict[str, int]:
    one, other = HISTORY.people
    began = int(datetime.now(UTC).timestamp()) - messages
    return {"count": messages, "chat": HISTORY.id, "one": one, "other": other, "began": began}


def _text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""The storage of the two hand-tuned peers: the sqlite3 driver with fixed statements.

- Reads run on the event loop, because a hop to a thread would cost more than the query.
- Messages that arrive together share one transaction, which is durable before the response to any of them.
  Statements run on the event loop, and so does the commit of a single message; the commit of several messages
  runs in a thread.
- The members of a chat are cached for ever, because nothing here changes them.
- SQLite encodes chats as JSON, orjson encodes history: the faster of the two in each case.
- There are no savepoints: an error other than a refusal, such as a full disk, fails the whole group.
"""

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any, NamedTuple

import orjson

LARGEST_ID = 2**53 - 1

SELECT_KEY = "SELECT fingerprint, body FROM idempotency_keys WHERE user_id = ? AND key = ?"
SELECT_MEMBERS = "SELECT user_id FROM members WHERE chat_id = ?"
SELECT_REPLIED_TO = "SELECT 1 FROM messages WHERE id = ? AND chat_id = ?"
INSERT_MESSAGE = """
    INSERT INTO messages (chat_id, author_id, type, content, payload, ts, reply_to_id)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
UPDATE_CHAT = "UPDATE chats SET last_message_id = ?, active_at = ? WHERE id = ?"
INSERT_KEY = "INSERT INTO idempotency_keys VALUES (?, ?, ?, 201, ?, ?)"
SELECT_HISTORY = """
    SELECT id, chat_id, author_id, type, content, payload, ts, reply_to_id, edited_at, deleted_at
    FROM messages WHERE chat_id = ? AND id < ? ORDER BY id DESC LIMIT ?
"""
SELECT_CHATS = """
    SELECT chats.id, title, is_group, chats.created_at, (
        SELECT json_group_array(json_object(
            'id', id, 'email', email, 'display_name', display_name, 'tag', tag, 'avatar_url', avatar_url,
            'created_at', created_at))
        FROM (
            SELECT users.* FROM members JOIN users ON id = user_id WHERE chat_id = chats.id ORDER BY user_id))
    FROM members AS mine JOIN chats ON chats.id = mine.chat_id
    WHERE mine.user_id = ? ORDER BY active_at DESC, last_message_id DESC, chats.id DESC
"""


class HttpRefusal(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class Draft(NamedTuple):
    author_id: int
    chat_id: int
    type: str
    content: str | None
    payload: dict[str, Any] | None
    reply_to_id: int | None
    key: str | None
    fingerprint: bytes | None
    """The hash of the body of a request with a key; None without a key."""


class Stored(NamedTuple):
    body: bytes
    event: bytes | None
    """The event for the members; None for a replay."""
    members: frozenset[int]


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def fingerprint_of(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()


class StoreReader:
    """Reads committed data as JSON."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._execute = db.execute
        self._members: dict[int, frozenset[int]] = {}

    def members(self, chat_id: int, reader_id: int) -> frozenset[int]:
        found = self._members.get(chat_id)
        if found is None:
            found = frozenset(row[0] for row in self._execute(SELECT_MEMBERS, (chat_id,)))
            if not found:
                raise HttpRefusal(404, "No such chat")
            self._members[chat_id] = found
        if reader_id not in found:
            raise HttpRefusal(403, "You are not in this chat")
        return found

    def page(self, reader_id: int, chat_id: int, before_id: int, limit: int) -> bytes:
        self.members(chat_id, reader_id)
        rows = self._execute(SELECT_HISTORY, (chat_id, before_id, limit + 1)).fetchall()
        has_more = len(rows) > limit
        messages = [
            {
                "id": row[0],
                "chat_id": row[1],
                "author_id": row[2],
                "type": row[3],
                "content": row[4],
                "payload": row[5] and orjson.Fragment(row[5]),
                "ts": row[6],
                "reply_to_id": row[7],
                "edited_at": row[8],
                "deleted_at": row[9],
            }
            for row in rows[:limit]
        ]
        cursor = messages[-1]["id"] if has_more else None
        return orjson.dumps({"messages": messages, "has_more": has_more, "next_cursor": cursor})

    def chats(self, user_id: int) -> bytes:
        return orjson.dumps(
            [
                {
                    "id": chat_id,
                    "title": title,
                    "is_group": is_group == 1,
                    "created_at": created_at,
                    "participants": orjson.Fragment(participants),
                    "participants_count": len(self.members(chat_id, user_id)),
                }
                for chat_id, title, is_group, created_at, participants in self._execute(
                    SELECT_CHATS, (user_id,)
                )
            ]
        )


class BatchWriter:
    """Stores drafts in groups: all drafts that arrive during a commit share the next one."""

    def __init__(
        self, db: sqlite3.Connection, reader: StoreReader, deliver: Callable[[Sequence[Stored]], None]
    ) -> None:
        """Calls `deliver` with the committed messages, in order, before the responses to their senders."""
        self._db = db
        self._reader = reader
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1)
        self._waiting: list[tuple[Draft, asyncio.Future[Stored]]] = []
        self._busy = False

    def store(self, draft: Draft) -> asyncio.Future[Stored]:
        future = self._loop.create_future()
        self._waiting.append((draft, future))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._write)
        return future

    def _write(self) -> None:
        group, self._waiting = self._waiting, []
        outcomes: list[Stored | HttpRefusal] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for draft, _ in group:
                try:
                    outcomes.append(self._insert(draft))
                except HttpRefusal as refusal:
                    outcomes.append(refusal)
            if len(group) > 1:
                commit = self._loop.run_in_executor(self._thread, self._db.execute, "COMMIT")
                commit.add_done_callback(lambda done: self._settle(group, outcomes, done.exception()))
                return
            self._db.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - every waiting sender must receive the error
            self._settle(group, outcomes, error)
        else:
            self._settle(group, outcomes, None)

    def _settle(
        self,
        group: list[tuple[Draft, asyncio.Future[Stored]]],
        outcomes: list[Stored | HttpRefusal],
        error: BaseException | None,
    ) -> None:
        if error is not None and self._db.in_transaction:
            self._db.execute("ROLLBACK")
        if error is None:
            self._deliver([outcome for outcome in outcomes if isinstance(outcome, Stored)])
        for (_, future), outcome in zip_longest(group, outcomes):
            if future.done():  # cancelled, because the server ends
                continue
            if error is not None:
                future.set_exception(error)
            elif isinstance(outcome, HttpRefusal):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        self._busy = bool(self._waiting)
        if self._busy:
            self._loop.call_soon(self._write)

    def _insert(self, draft: Draft) -> Stored:
        author_id, chat_id, type_, content, payload, reply_to_id, key, fingerprint = draft
        execute = self._db.execute
        if key is not None:
            stored = execute(SELECT_KEY, (author_id, key)).fetchone()
            if stored is not None:
                if stored[0] != fingerprint:
                    raise HttpRefusal(422, "This Idempotency-Key was used with another body")
                return Stored(stored[1], None, frozenset())
        members = self._reader.members(chat_id, author_id)
        if reply_to_id is not None and not execute(SELECT_REPLIED_TO, (reply_to_id, chat_id)).fetchone():
            raise HttpRefusal(422, "reply_to_id: no such message in this chat")
        ts = datetime.now(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
        text = None if payload is None else orjson.dumps(payload).decode()
        message_id = execute(
            INSERT_MESSAGE, (chat_id, author_id, type_, content, text, ts, reply_to_id)
        ).lastrowid
        execute(UPDATE_CHAT, (message_id, ts, chat_id))
        data = orjson.dumps(
            {
                "id": message_id,
                "chat_id": chat_id,
                "author_id": author_id,
                "type": type_,
                "content": content,
                "payload": payload,
                "ts": ts,
            }
        )
        reply = b"null" if reply_to_id is None else b"%d" % reply_to_id
        body = b'%b,"reply_to_id":%b,"edited_at":null,"deleted_at":null}' % (data[:-1], reply)
        if key is not None:
            execute(INSERT_KEY, (author_id, key, fingerprint, body, ts))
        return Stored(body, b'{"event":"message.created","data":%b}' % data, members)

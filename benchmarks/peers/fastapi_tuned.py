"""The plain FastAPI peer tuned by hand as far as it goes, at the price of most of what FastAPI is chosen for.

It stands for a team that has profiled for weeks and stays on FastAPI and uvicorn. What a reader could
dispute, as more than teams do:

- Hot routes are raw ASGI functions, called before any middleware; FastAPI serves what is left (here,
  /health).
- Bodies are checked by hand after orjson: nothing is documented, and an error names one field.
- Messages that arrive together share one transaction; it is durable before any of them is answered.
  Statements run on the event loop, and so does the commit of a lone message; that of several runs in a thread
  meanwhile.
- An event is encoded once, and so is its WebSocket frame; a subclass of uvicorn's protocol writes it as it
  is, together with others for the same chat. A reader so slow that 1 MiB waits for it is cut off.
- Verified tokens are kept, and who is in a chat for ever: nothing here changes a chat's members.
- Chats are made into JSON by SQLite, history by orjson: the quicker of the two in each case.
- There are no savepoints: what fails otherwise than by a refusal, a full disk say, fails for its whole group.
"""

import argparse
import asyncio
import gc
import hashlib
import os
import sqlite3
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import zip_longest
from time import time
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import jwt
import orjson
import uvicorn
import uvloop
from fastapi import FastAPI
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

SECRET = os.environ["BENCH_SECRET"].encode()
TOKENS_KEPT = 100_000
OUTBOX_BYTES = 1024 * 1024
BODY_BYTES = 64 * 1024
TYPES = frozenset({"text", "voice", "image", "video", "file"})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]


class Refused(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


# --- who asks -----------------------------------------------------------------------------------------------

tokens: dict[bytes, tuple[int, float]] = {}


def authenticated(header: bytes) -> int:
    """The user whom an Authorization header names."""
    kept = tokens.get(header)
    if kept is None:
        scheme, _, token = header.partition(b" ")
        try:
            claims = jwt.decode(
                token if scheme.lower() == b"bearer" else b"",
                SECRET,
                algorithms=["HS256"],
                options={"require": ["sub", "exp"]},
            )
            kept = int(claims["sub"]), claims["exp"]
        except (jwt.InvalidTokenError, ValueError):
            raise Refused(401, "Invalid token") from None
        if len(tokens) >= TOKENS_KEPT:
            tokens.clear()
        tokens[header] = kept
    user_id, expires = kept
    if expires <= time():
        raise Refused(401, "Expired token")
    return user_id


# --- what is asked ------------------------------------------------------------------------------------------


class Draft(NamedTuple):
    author_id: int
    chat_id: int
    type: str
    content: str | None
    payload: dict[str, Any] | None
    reply_to_id: int | None
    key: str | None
    fingerprint: bytes | None


def is_identifier(value: object) -> bool:
    return type(value) is int and 0 < value < 2**53


def parse_draft(author_id: int, body: bytes, key: bytes | None) -> Draft:
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refused(422, "The body is not JSON") from None
    if type(values) is not dict:
        raise Refused(422, "The body must be an object")
    get = values.get
    chat_id, type_, content = get("chat_id"), get("type"), get("content")
    payload, reply_to_id = get("payload"), get("reply_to_id")
    if not is_identifier(chat_id):
        raise Refused(422, "chat_id must be a positive integer")
    if type(type_) is not str or type_ not in TYPES:
        raise Refused(422, "type is unknown")
    if content is not None and (type(content) is not str or len(content) > 4000):
        raise Refused(422, "content must be a string of at most 4000 characters")
    if payload is not None and type(payload) is not dict:
        raise Refused(422, "payload must be an object")
    if reply_to_id is not None and not is_identifier(reply_to_id):
        raise Refused(422, "reply_to_id must be a positive integer")
    if payload is None and (content is None or not content.strip()):
        raise Refused(422, "give content, payload, or both")
    return Draft(author_id, chat_id, type_, content, payload, reply_to_id, *once(body, key))


def once(body: bytes, key: bytes | None) -> tuple[str, bytes] | tuple[None, None]:
    """The key of a request, and what tells its body from another's."""
    if key is None:
        return None, None
    if not 1 <= len(key) <= 255 or min(key) < 33 or max(key) > 126:
        raise Refused(422, "Idempotency-Key must be 1 to 255 visible ASCII characters")
    return key.decode(), hashlib.blake2b(body, digest_size=16).digest()


# --- the database -------------------------------------------------------------------------------------------

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


def connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


class Stored(NamedTuple):
    body: bytes
    frame: bytes | None
    """None for a replay."""
    members: frozenset[int]


class Reader:
    """What was committed; read on the event loop, where a hop to a thread would cost more than the query."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.execute = db.execute
        self._members: dict[int, frozenset[int]] = {}

    def members(self, chat_id: int, asked_by: int) -> frozenset[int]:
        found = self._members.get(chat_id)
        if found is None:
            found = frozenset(row[0] for row in self.execute(SELECT_MEMBERS, (chat_id,)))
            if not found:
                raise Refused(404, "No such chat")
            self._members[chat_id] = found
        if asked_by not in found:
            raise Refused(403, "You are not in this chat")
        return found


class Writer:
    """Stores drafts in groups: whatever arrived since the last commit began shares the next."""

    def __init__(self, db: sqlite3.Connection, reader: Reader) -> None:
        self._db = db
        self._reader = reader
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
        outcomes: list[Stored | Refused] = []
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for draft, _ in group:
                try:
                    outcomes.append(self._insert(draft))
                except Refused as refusal:
                    outcomes.append(refusal)
            if len(group) > 1:
                commit = self._loop.run_in_executor(self._thread, self._db.execute, "COMMIT")
                commit.add_done_callback(lambda done: self._settle(group, outcomes, done.exception()))
                return
            self._db.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it is, all who wait must hear of it
            self._settle(group, outcomes, error)
        else:
            self._settle(group, outcomes, None)

    def _settle(
        self,
        group: list[tuple[Draft, asyncio.Future[Stored]]],
        outcomes: list[Stored | Refused],
        error: BaseException | None,
    ) -> None:
        if error is not None and self._db.in_transaction:
            self._db.execute("ROLLBACK")
        if error is None:
            deliver(outcomes)
        for (_, future), outcome in zip_longest(group, outcomes):
            if future.done():  # cancelled, as the server ends
                continue
            if error is not None:
                future.set_exception(error)
            elif isinstance(outcome, Refused):
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
            kept = execute(SELECT_KEY, (author_id, key)).fetchone()
            if kept is not None:
                if kept[0] != fingerprint:
                    raise Refused(422, "This Idempotency-Key was used with another body")
                return Stored(kept[1], None, frozenset())
        members = self._reader.members(chat_id, author_id)
        if reply_to_id is not None and not execute(SELECT_REPLIED_TO, (reply_to_id, chat_id)).fetchone():
            raise Refused(422, "reply_to_id: no such message in this chat")
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
        return Stored(body, text_frame(b'{"event":"message.created","data":%b}' % data), members)


# --- sockets ------------------------------------------------------------------------------------------------


class Socket(WebSocketsSansIOProtocol):
    """Takes frames that are made once for many sockets; what waits in the transport is bounded."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if not self.handshake_complete:
            self.scope["extensions"]["socket"] = self

    def put(self, frame: bytes) -> None:
        if self.close_sent or self.transport.is_closing():
            return
        if not self.writable.is_set() and self.transport.get_write_buffer_size() > OUTBOX_BYTES:
            self.transport.abort()
        else:
            self.transport.write(frame)


def text_frame(payload: bytes) -> bytes:
    """RFC 6455 5.2: an unmasked text frame."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)


sockets: defaultdict[int, set[Socket]] = defaultdict(set)


def broadcast(user_ids: Iterable[int], frame: bytes) -> None:
    for user_id in user_ids:
        if user_id in sockets:
            for socket in sockets[user_id]:
                socket.put(frame)


def deliver(outcomes: Iterable[Stored | Refused]) -> None:
    """One write for all that a chat's sockets are to hear: each is a system call."""
    frames: defaultdict[frozenset[int], list[bytes]] = defaultdict(list)
    for outcome in outcomes:
        if isinstance(outcome, Stored) and outcome.frame is not None:
            frames[outcome.members].append(outcome.frame)
    for members, told in frames.items():
        broadcast(members, b"".join(told))


async def serve_socket(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    try:
        user_id = authenticated(b"Bearer " + query(scope).get("token", "").encode())
    except Refused:
        await send({"type": "websocket.close", "code": 1008, "reason": "token_invalid"})
        return
    socket = scope["extensions"]["socket"]
    sockets[user_id].add(socket)
    try:
        while (await receive())["type"] != "websocket.disconnect":
            pass
    finally:
        sockets[user_id].discard(socket)
        if not sockets[user_id]:
            del sockets[user_id]


# --- routes -------------------------------------------------------------------------------------------------


def query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope["query_string"].decode("latin-1")))


def header(scope: Scope, wanted: bytes) -> bytes | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return value  # type: ignore[no-any-return]
    return None


async def answer(send: Send, status: int, body: bytes, extra: Headers = ()) -> None:
    length = b"%d" % len(body)
    headers = ((b"content-type", b"application/json"), (b"content-length", length), *extra)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Api(FastAPI):
    """FastAPI, with the hot routes taken out in front of it."""

    def open(self, path: str) -> None:
        self._reader = Reader(connect(path))
        self._writer = Writer(connect(path), self._reader)
        self._hot = {
            ("POST", "/api/v1/messages"): self._send_message,
            ("GET", "/api/v1/messages"): self._list_messages,
            ("GET", "/api/v1/chats"): self._list_chats,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hot = self._hot.get((scope["method"], scope["path"]))
            if hot is None:
                await super().__call__(scope, receive, send)
                return
            try:
                await hot(authenticated(header(scope, b"authorization") or b""), scope, receive, send)
            except Refused as refusal:
                extra = ((b"www-authenticate", b"Bearer"),) if refusal.status == 401 else ()
                await answer(send, refusal.status, orjson.dumps({"detail": str(refusal)}), extra)
        elif scope["type"] == "websocket" and scope["path"] == "/ws":
            await serve_socket(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _send_message(self, user_id: int, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
            if len(body) > BODY_BYTES:
                raise Refused(413, "The body is too large")
        stored = await self._writer.store(parse_draft(user_id, body, header(scope, b"idempotency-key")))
        extra = ((b"idempotency-replayed", b"true"),) if stored.frame is None else ()
        await answer(send, 201, stored.body, extra)

    async def _list_messages(self, user_id: int, scope: Scope, _: Receive, send: Send) -> None:
        values = query(scope)
        try:
            chat_id, limit = int(values["chat_id"]), int(values.get("limit", 50))
            before_id = int(values.get("before_id", 2**53 - 1))
        except (KeyError, ValueError):
            raise Refused(422, "chat_id, limit and before_id must be integers") from None
        if not is_identifier(chat_id) or not is_identifier(before_id) or not 1 <= limit <= 200:
            raise Refused(422, "chat_id, limit or before_id is out of range")
        self._reader.members(chat_id, user_id)
        rows = self._reader.execute(SELECT_HISTORY, (chat_id, before_id, limit + 1)).fetchall()
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
        page = {"messages": messages, "has_more": has_more, "next_cursor": cursor}
        await answer(send, 200, orjson.dumps(page))

    async def _list_chats(self, user_id: int, _scope: Scope, _: Receive, send: Send) -> None:
        chats = [
            {
                "id": chat_id,
                "title": title,
                "is_group": is_group == 1,
                "created_at": created_at,
                "participants": orjson.Fragment(participants),
            }
            for chat_id, title, is_group, created_at, participants in self._reader.execute(
                SELECT_CHATS, (user_id,)
            )
        ]
        await answer(send, 200, orjson.dumps(chats))


app = Api()


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", required=True)
    options = parser.parse_args()
    app.open(options.database)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=options.port,
        http="httptools",
        ws=Socket,
        lifespan="off",
        proxy_headers=False,
        ws_per_message_deflate=False,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    # What is here now stays: the collector need not go through it again and again.
    gc.collect()
    gc.freeze()
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(main())

"""Plain Quart-Trio on stock Hypercorn, sqlite3 with fixed SQL in threads.

It is the stack of our server, used as its documentation shows: the trio worker, a hop to a thread for the
database, and for each socket a memory channel and a task that writes. Choices that a reader may dispute:

- A message is one hop: its whole transaction runs in the thread. One lock orders transactions and deliveries.
- Each reading thread has its own connection; trio reuses threads, so there are as many as concurrent reads.
- Pydantic validates bodies, which is fast; Quart itself has no validation.
- Every request verifies its token, and every message reads the members: there is no cache.
- JSON comes from the standard library, as everywhere in Quart; a frame is encoded once per event.
- The garbage collector has its defaults: with a thousand open sockets it uses about half of the time.
"""

import argparse
import hashlib
import json
import os
import signal
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any, Literal, Self

import jwt
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, model_validator
from quart import Response, abort, g, request, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException

SECRET = os.environ["BENCH_SECRET"].encode()
OUTBOX_FRAMES = 1000
EVENT_KEYS = ("id", "chat_id", "author_id", "type", "content", "payload", "ts")
MESSAGE_KEYS = (*EVENT_KEYS, "reply_to_id", "edited_at", "deleted_at")
USER_KEYS = ("id", "email", "display_name", "tag", "avatar_url", "created_at")


def encode(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- requests -----------------------------------------------------------------------------------------------

Identifier = Annotated[int, Field(strict=True, ge=1, lt=2**53)]


class NewMessage(BaseModel):
    chat_id: Identifier
    type: Literal["text", "voice", "image", "video", "file"]
    content: Annotated[str, Field(max_length=4000)] | None = None
    payload: dict[str, Any] | None = None
    reply_to_id: Identifier | None = None

    @model_validator(mode="after")
    def has_substance(self) -> Self:
        if self.payload is None and not (self.content or "").strip():
            raise ValueError("give content, payload, or both")
        return self


class History(BaseModel):
    chat_id: Annotated[int, Field(ge=1, lt=2**53)]
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before_id: Annotated[int, Field(ge=1, le=2**53)] = 2**53


idempotency_key = TypeAdapter(Annotated[str, Field(pattern="^[!-~]{1,255}$")] | None)


# --- the database, which runs in threads --------------------------------------------------------------------

COLUMNS = ", ".join(MESSAGE_KEYS)
SELECT_KEY = "SELECT fingerprint, status, body FROM idempotency_keys WHERE user_id = ? AND key = ?"
SELECT_MEMBERS = "SELECT user_id FROM members WHERE chat_id = ?"
SELECT_MEMBER = "SELECT 1 FROM members WHERE chat_id = ? AND user_id = ?"
SELECT_CHAT = "SELECT 1 FROM chats WHERE id = ?"
SELECT_REPLIED_TO = "SELECT 1 FROM messages WHERE id = ? AND chat_id = ?"
INSERT_MESSAGE = """
    INSERT INTO messages (chat_id, author_id, type, content, payload, ts, reply_to_id)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
UPDATE_CHAT = "UPDATE chats SET last_message_id = ?, active_at = ? WHERE id = ?"
INSERT_KEY = "INSERT INTO idempotency_keys VALUES (?, ?, ?, ?, ?, ?)"
SELECT_HISTORY = f"SELECT {COLUMNS} FROM messages WHERE chat_id = ? AND id < ? ORDER BY id DESC LIMIT ?"
SELECT_CHATS = """
    SELECT chats.id, title, is_group, chats.created_at FROM members JOIN chats ON chats.id = chat_id
    WHERE user_id = ? ORDER BY active_at DESC, last_message_id DESC, chats.id DESC
"""
SELECT_PARTICIPANTS = f"""
    SELECT others.chat_id, {", ".join(f"users.{key}" for key in USER_KEYS)} FROM members AS mine
    JOIN members AS others ON others.chat_id = mine.chat_id JOIN users ON users.id = others.user_id
    WHERE mine.user_id = ? ORDER BY others.chat_id, others.user_id
"""


class ThreadedDatabase:
    _path: str
    _writer: sqlite3.Connection

    def __init__(self) -> None:
        self._local = threading.local()

    def open(self, path: str) -> None:
        self._path = path
        self._writer = self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    @property
    def _reader(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._connect()
        connection: sqlite3.Connection = self._local.connection
        return connection

    def send(
        self, user_id: int, draft: NewMessage, key: str | None, fingerprint: bytes
    ) -> tuple[int, str, bool, tuple[dict[str, Any], list[int]] | None]:
        """Store a message; only one thread at a time may call this.

        Returns the status, the body, whether it is a replay, and the message with its members or None.
        """
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        try:
            if key is not None:
                stored = db.execute(SELECT_KEY, (user_id, key)).fetchone()
                if stored is not None:
                    if stored[0] != fingerprint:
                        abort(422, "This Idempotency-Key was used with another body")
                    return stored[1], stored[2].decode(), True, None
            members = [row[0] for row in db.execute(SELECT_MEMBERS, (draft.chat_id,))]
            if user_id not in members:
                self._refuse(db, draft.chat_id)
            replied_to = (draft.reply_to_id, draft.chat_id)
            if draft.reply_to_id is not None and db.execute(SELECT_REPLIED_TO, replied_to).fetchone() is None:
                abort(422, "reply_to_id: no such message in this chat")
            ts = now()
            payload = None if draft.payload is None else encode(draft.payload)
            written = (draft.chat_id, user_id, draft.type, draft.content, payload, ts, draft.reply_to_id)
            message_id = db.execute(INSERT_MESSAGE, written).lastrowid
            db.execute(UPDATE_CHAT, (message_id, ts, draft.chat_id))
            values = (message_id, *written[:4], draft.payload, ts, draft.reply_to_id, None, None)
            message = dict(zip(MESSAGE_KEYS, values, strict=True))
            body = encode(message)
            if key is not None:
                db.execute(INSERT_KEY, (user_id, key, fingerprint, 201, body.encode(), ts))
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
        return 201, body, False, (message, members)

    def history(self, user_id: int, wanted: History) -> dict[str, Any]:
        db = self._reader
        if db.execute(SELECT_MEMBER, (wanted.chat_id, user_id)).fetchone() is None:
            self._refuse(db, wanted.chat_id)
        rows = db.execute(SELECT_HISTORY, (wanted.chat_id, wanted.before_id, wanted.limit + 1)).fetchall()
        messages = [dict(zip(MESSAGE_KEYS, row, strict=True)) for row in rows[: wanted.limit]]
        for message in messages:
            if message["payload"] is not None:
                message["payload"] = json.loads(message["payload"])
        has_more = len(rows) > wanted.limit
        return {
            "messages": messages,
            "has_more": has_more,
            "next_cursor": messages[-1]["id"] if has_more else None,
        }

    def chats(self, user_id: int) -> list[dict[str, Any]]:
        db = self._reader
        participants: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
        for chat_id, *user in db.execute(SELECT_PARTICIPANTS, (user_id,)):
            participants[chat_id].append(dict(zip(USER_KEYS, user, strict=True)))
        return [
            {
                "id": chat_id,
                "title": title,
                "is_group": bool(is_group),
                "created_at": created_at,
                "participants": participants[chat_id],
                "participants_count": len(participants[chat_id]),
            }
            for chat_id, title, is_group, created_at in db.execute(SELECT_CHATS, (user_id,))
        ]

    @staticmethod
    def _refuse(db: sqlite3.Connection, chat_id: int) -> None:
        if db.execute(SELECT_CHAT, (chat_id,)).fetchone() is None:
            abort(404, "No such chat")
        abort(403, "You are not in this chat")


# --- sockets ------------------------------------------------------------------------------------------------


class SocketOutbox:
    """One socket's queue of frames, and the scope of the task that serves it."""

    def __init__(self) -> None:
        self._put, self.frames = trio.open_memory_channel[str](OUTBOX_FRAMES)
        self.scope = trio.CancelScope()

    def put(self, frame: str) -> None:
        try:
            self._put.send_nowait(frame)
        except trio.WouldBlock:
            self.scope.cancel()  # a slow consumer


class Connections:
    """The open sockets of each user."""

    def __init__(self) -> None:
        self._open: defaultdict[int, set[SocketOutbox]] = defaultdict(set)

    @contextmanager
    def connected(self, user_id: int) -> Iterator[SocketOutbox]:
        connection = SocketOutbox()
        self._open[user_id].add(connection)
        try:
            yield connection
        finally:
            self._open[user_id].discard(connection)
            if not self._open[user_id]:
                del self._open[user_id]

    def broadcast(self, user_ids: Iterable[int], frame: str) -> None:
        for user_id in user_ids:
            for connection in self._open.get(user_id, ()):
                connection.put(frame)


# --- the application ----------------------------------------------------------------------------------------

app = QuartTrio(__name__)
connections = Connections()
writing = trio.Lock()
database = ThreadedDatabase()


def read_token(token: str) -> int:
    """The user id in a token. Raises `jwt.InvalidTokenError`."""
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["sub", "exp"]})
    try:
        return int(claims["sub"])
    except ValueError as error:
        raise jwt.InvalidTokenError from error


def authenticated(view: Callable[[], Awaitable[Response]]) -> Callable[[], Awaitable[Response]]:
    @wraps(view)
    async def guarded() -> Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            g.user_id = read_token(token if scheme.lower() == "bearer" else "")
        except jwt.InvalidTokenError:
            abort(401, "Invalid token")
        return await view()

    return guarded


def respond(body: str, status: int = 200) -> Response:
    return Response(body, status, content_type="application/json")


@app.errorhandler(HTTPException)
async def http_error(error: HTTPException) -> Response:
    response = respond(encode({"detail": error.description}), error.code or 500)
    if error.code == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


@app.errorhandler(ValidationError)
async def invalid(error: ValidationError) -> Response:
    details = error.json(include_url=False, include_context=False, include_input=False)
    return respond(f'{{"detail":{details}}}', 422)


@app.get("/health")
async def health() -> Response:
    return respond(encode({"status": "ok"}))


@app.post("/api/v1/messages")
@authenticated
async def send_message() -> Response:
    body = await request.get_data()
    draft = NewMessage.model_validate_json(body)
    key = idempotency_key.validate_python(request.headers.get("Idempotency-Key"))
    fingerprint = hashlib.sha256(body).digest()
    async with writing:
        status, body, replayed, created = await trio.to_thread.run_sync(
            database.send, g.user_id, draft, key, fingerprint
        )
        if created is not None:
            message, members = created
            data = {name: message[name] for name in EVENT_KEYS}
            connections.broadcast(members, encode({"event": "message.created", "data": data}))
    response = respond(body, status)
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return response


@app.get("/api/v1/messages")
@authenticated
async def list_messages() -> Response:
    wanted = History.model_validate(request.args.to_dict())
    return respond(encode(await trio.to_thread.run_sync(database.history, g.user_id, wanted)))


@app.get("/api/v1/chats")
@authenticated
async def list_chats() -> Response:
    return respond(encode(await trio.to_thread.run_sync(database.chats, g.user_id)))


@app.websocket("/ws")
async def events() -> None:
    await websocket.accept()
    try:
        user_id = read_token(websocket.args.get("token", ""))
    except jwt.InvalidTokenError:
        await websocket.close(1008, "token_invalid")
        return
    with connections.connected(user_id) as connection, connection.scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            async for frame in connection.frames:
                await websocket.send(frame)


async def drain() -> None:
    """Read and discard the client's frames."""
    while True:
        await websocket.receive()


# --- starting -----------------------------------------------------------------------------------------------


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", required=True)
    options = parser.parse_args()
    database.open(options.database)
    config = Config()
    config.bind = [f"127.0.0.1:{options.port}"]
    config.loglevel = "WARNING"
    config.graceful_timeout = 2
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        await serve(app, config, shutdown_trigger=signals.__anext__)


if __name__ == "__main__":
    trio.run(main)

"""FastAPI on uvicorn, SQLAlchemy's async ORM on aiosqlite, Pydantic models: what most teams would write.

It is a careful version of the checklist's sample (a ConnectionManager: user id -> sockets): no N+1 queries,
one transaction a message, events in order, and a slow reader delays no other. Choices that a reader may
dispute:

- One lock covers the transaction of each message and its deliveries. SQLite has one writer anyway; without
  the lock, waiting senders would poll the file's lock, and deliveries could overtake each other.
- Each socket has a bounded queue and a writer task; the sample awaits `send_text` for one socket after the
  other.
- Every request verifies its token, and every message reads the members: there is no cache.
- Times are text in the shared schema, and stay text here: a conversion would cost time and change nothing.
- SQLAlchemy's dialect for aiosqlite goes to a thread and back three or four times a statement, 19 times a
  message. With the ORM's own work that is most of a message's cost, and it is part of this stack.
"""

import argparse
import asyncio
import hashlib
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NoReturn, Self

import jwt
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response, WebSocket
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import JSON, ForeignKey, event, select, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship, selectinload

SECRET = os.environ["BENCH_SECRET"].encode()
OUTBOX_FRAMES = 1000


# --- the schema as the ORM sees it --------------------------------------------------------------------------


class Base(DeclarativeBase):
    pass


class UserRow(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    display_name: Mapped[str]
    tag: Mapped[str]
    avatar_url: Mapped[str | None]
    created_at: Mapped[str]


class ChatRow(Base):
    __tablename__ = "chats"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    is_group: Mapped[bool]
    created_at: Mapped[str]
    active_at: Mapped[str]
    last_message_id: Mapped[int | None]
    participants: Mapped[list[UserRow]] = relationship(
        secondary="members", order_by="MemberRow.user_id", viewonly=True
    )

    @property
    def participants_count(self) -> int:
        return len(self.participants)


class MemberRow(Base):
    __tablename__ = "members"

    chat_id: Mapped[int] = mapped_column(ForeignKey("chats.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), primary_key=True)
    role: Mapped[str]
    joined_at: Mapped[str]


class MessageRow(Base):
    __tablename__ = "messages"

    id: Mapped[int] = mapped_column(primary_key=True)
    chat_id: Mapped[int] = mapped_column(ForeignKey("chats.id"))
    author_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))
    type: Mapped[str]
    content: Mapped[str | None]
    payload: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    ts: Mapped[str]
    reply_to_id: Mapped[int | None]
    edited_at: Mapped[str | None]
    deleted_at: Mapped[str | None]


class IdempotencyKeyRow(Base):
    __tablename__ = "idempotency_keys"

    user_id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes]
    status: Mapped[int]
    body: Mapped[bytes]
    created_at: Mapped[str]


# --- requests and responses ---------------------------------------------------------------------------------

Identifier = Annotated[int, Field(strict=True, ge=1, lt=2**53)]


class MessageIn(BaseModel):
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


class FromRow(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class EventData(FromRow):
    id: int
    chat_id: int
    author_id: int | None
    type: str
    content: str | None
    payload: dict[str, Any] | None
    ts: str


class MessageOut(EventData):
    reply_to_id: int | None
    edited_at: str | None
    deleted_at: str | None


class MessageCreatedEvent(BaseModel):
    event: Literal["message.created"] = "message.created"
    data: EventData


class MessagePage(BaseModel):
    messages: list[MessageOut]
    has_more: bool
    next_cursor: int | None


class UserOut(FromRow):
    id: int
    email: str
    display_name: str
    tag: str
    avatar_url: str | None
    created_at: str


class ChatOut(FromRow):
    id: int
    title: str
    is_group: bool
    created_at: str
    participants: list[UserOut]
    participants_count: int


# --- sockets ------------------------------------------------------------------------------------------------


class ManagedSocket:
    """One socket and its queue of frames; a full queue drops the socket as a slow consumer."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._outbox: asyncio.Queue[str] = asyncio.Queue(OUTBOX_FRAMES)
        self._tasks: list[asyncio.Task[None]] = []

    def put(self, frame: str) -> None:
        try:
            self._outbox.put_nowait(frame)
        except asyncio.QueueFull:
            self.drop()

    def drop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def run(self) -> None:
        """Serve the socket until either side ends it."""
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.drop()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self) -> None:
        while True:
            await self._socket.send_text(await self._outbox.get())

    async def _read(self) -> None:
        while (await self._socket.receive())["type"] != "websocket.disconnect":
            pass


class ConnectionManager:
    """The open sockets of each user."""

    def __init__(self) -> None:
        self._connections: defaultdict[int, set[ManagedSocket]] = defaultdict(set)

    @contextmanager
    def connected(self, user_id: int, socket: WebSocket) -> Iterator[ManagedSocket]:
        connection = ManagedSocket(socket)
        self._connections[user_id].add(connection)
        try:
            yield connection
        finally:
            self._connections[user_id].discard(connection)
            if not self._connections[user_id]:
                del self._connections[user_id]

    def broadcast(self, user_ids: Iterable[int], frame: str) -> None:
        for user_id in user_ids:
            for connection in self._connections.get(user_id, ()):
                connection.put(frame)


# --- the application ----------------------------------------------------------------------------------------

bearer = HTTPBearer()
manager = ConnectionManager()
writing = asyncio.Lock()
sessions = async_sessionmaker(expire_on_commit=False)
app = FastAPI()


def read_token(token: str) -> int:
    """The user id in a token. Raises `jwt.InvalidTokenError`."""
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["sub", "exp"]})
    try:
        return int(claims["sub"])
    except ValueError as error:
        raise jwt.InvalidTokenError from error


async def authenticated(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> int:
    try:
        return read_token(credentials.credentials)
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "Invalid token", {"WWW-Authenticate": "Bearer"}) from error


async def database() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


UserId = Annotated[int, Depends(authenticated)]
Database = Annotated[AsyncSession, Depends(database)]


async def refuse_access(session: AsyncSession, chat_id: int) -> NoReturn:
    if await session.get(ChatRow, chat_id) is None:
        raise HTTPException(404, "No such chat")
    raise HTTPException(403, "You are not in this chat")


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/api/v1/messages", status_code=201, response_model=MessageOut)
async def send_message(
    draft: MessageIn,
    request: Request,
    user_id: UserId,
    session: Database,
    idempotency_key: Annotated[str | None, Header(pattern="^[!-~]{1,255}$")] = None,
) -> Response:
    fingerprint = hashlib.sha256(await request.body()).digest()
    async with writing:
        if idempotency_key is not None:
            stored = await session.get(IdempotencyKeyRow, (user_id, idempotency_key))
            if stored is not None:
                return replay(stored, fingerprint)
        members = (
            await session.scalars(select(MemberRow.user_id).where(MemberRow.chat_id == draft.chat_id))
        ).all()
        if user_id not in members:
            await refuse_access(session, draft.chat_id)
        if draft.reply_to_id is not None:
            replied_to = await session.get(MessageRow, draft.reply_to_id)
            if replied_to is None or replied_to.chat_id != draft.chat_id:
                raise HTTPException(422, "reply_to_id: no such message in this chat")
        message = MessageRow(**draft.model_dump(), author_id=user_id, ts=now())
        session.add(message)
        await session.flush()
        await session.execute(
            update(ChatRow)
            .where(ChatRow.id == draft.chat_id)
            .values(last_message_id=message.id, active_at=message.ts)
        )
        body = MessageOut.model_validate(message).model_dump_json().encode()
        if idempotency_key is not None:
            session.add(
                IdempotencyKeyRow(
                    user_id=user_id,
                    key=idempotency_key,
                    fingerprint=fingerprint,
                    status=201,
                    body=body,
                    created_at=message.ts,
                )
            )
        await session.commit()
        manager.broadcast(
            members, MessageCreatedEvent(data=EventData.model_validate(message)).model_dump_json()
        )
    return Response(body, 201, media_type="application/json")


def replay(stored: IdempotencyKeyRow, fingerprint: bytes) -> Response:
    if stored.fingerprint != fingerprint:
        raise HTTPException(422, "This Idempotency-Key was used with another body")
    headers = {"Idempotency-Replayed": "true"}
    return Response(stored.body, stored.status, headers, media_type="application/json")


@app.get("/api/v1/messages")
async def list_messages(
    chat_id: Annotated[int, Query(ge=1, lt=2**53)],
    user_id: UserId,
    session: Database,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before_id: Annotated[int | None, Query(ge=1, lt=2**53)] = None,
) -> MessagePage:
    if await session.get(MemberRow, (chat_id, user_id)) is None:
        await refuse_access(session, chat_id)
    query = (
        select(MessageRow)
        .where(MessageRow.chat_id == chat_id)
        .order_by(MessageRow.id.desc())
        .limit(limit + 1)
    )
    if before_id is not None:
        query = query.where(MessageRow.id < before_id)
    found = (await session.scalars(query)).all()
    has_more = len(found) > limit
    return MessagePage(
        messages=[MessageOut.model_validate(message) for message in found[:limit]],
        has_more=has_more,
        next_cursor=found[limit - 1].id if has_more else None,
    )


@app.get("/api/v1/chats")
async def list_chats(user_id: UserId, session: Database) -> list[ChatOut]:
    query = (
        select(ChatRow)
        .join(MemberRow, MemberRow.chat_id == ChatRow.id)
        .where(MemberRow.user_id == user_id)
        .order_by(ChatRow.active_at.desc(), ChatRow.last_message_id.desc(), ChatRow.id.desc())
        .options(selectinload(ChatRow.participants))
    )
    return [ChatOut.model_validate(chat) for chat in (await session.scalars(query)).all()]


@app.websocket("/ws")
async def events(socket: WebSocket, token: str = "") -> None:
    await socket.accept()
    try:
        user_id = read_token(token)
    except jwt.InvalidTokenError:
        await socket.close(1008, "token_invalid")
        return
    with manager.connected(user_id, socket) as connection:
        await connection.run()


# --- starting -----------------------------------------------------------------------------------------------


def open_database(path: str) -> None:
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        connect_args={"isolation_level": "IMMEDIATE"},
        max_overflow=0,  # otherwise connections beyond the pool are opened and closed all the time
    )

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    sessions.configure(bind=engine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", required=True)
    options = parser.parse_args()
    open_database(options.database)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=options.port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()

"""FastAPI, tuned by hand as far as possible, with FastAPI's routing, dependencies and WebSocket routes.

It represents a team that has profiled for weeks and keeps the framework. Choices that a reader may dispute:

- Path operations receive the request and parse its headers, query and body themselves: declaring the three
  parameters of a page would raise FastAPI's cost by half. msgspec validates bodies; their size is left to the
  proxy in front, because FastAPI's limit costs time too.
- Responses are bytes in a `Response`, and are not validated.
- So there is nothing to document, and there are no routes for documentation. Telemetry is off, because it
  looks for its providers at every request.
- The user still comes from a dependency, which is a third of FastAPI's cost: a team would keep that.
- Verified tokens are cached.
- The choices in sqlite_store.py and uvicorn_sockets.py: messages share commits, frames go past ASGI.

asgi_raw.py is the same without FastAPI.
"""

import argparse
import gc
import os
import re
from functools import lru_cache
from time import time
from typing import Annotated, Any, Literal

import jwt
import msgspec
import uvicorn
import uvloop
from fastapi import Depends, FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from sqlite_store import LARGEST_ID, BatchWriter, Draft, HttpRefusal, StoreReader, connect, fingerprint_of
from uvicorn_sockets import Sockets, UvicornSocket

SECRET = os.environ["BENCH_SECRET"].encode()
CACHED_TOKENS = 100_000
KEY = re.compile("[!-~]{1,255}")

app = FastAPI(openapi_url=None, telemetry={"tracing": False, "metrics": False, "logs": False})
sockets = Sockets()


class TunedDatabase:
    reader: StoreReader
    writer: BatchWriter

    def open(self, path: str) -> None:
        self.reader = StoreReader(connect(path))
        self.writer = BatchWriter(connect(path), self.reader, sockets.deliver)


database = TunedDatabase()


# --- the caller ---------------------------------------------------------------------------------------------


@lru_cache(CACHED_TOKENS)
def verified(token: str) -> tuple[int, float]:
    """The user id and the expiry in a token. Raises `jwt.InvalidTokenError`, which is not cached."""
    claims = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["sub", "exp"]})
    try:
        return int(claims["sub"]), claims["exp"]
    except ValueError as error:
        raise jwt.InvalidTokenError from error


def read_token(token: str) -> int:
    user_id, expires = verified(token)
    if expires <= time():
        raise jwt.ExpiredSignatureError
    return user_id


async def authenticated(request: Request) -> int:
    """Async although it awaits nothing, because FastAPI would run a plain function in a thread."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    try:
        return read_token(token if scheme.lower() == "bearer" else "")
    except jwt.InvalidTokenError as error:
        raise HTTPException(401, "Invalid token", {"WWW-Authenticate": "Bearer"}) from error


UserId = Annotated[int, Depends(authenticated)]


# --- requests and responses ---------------------------------------------------------------------------------

Identifier = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_ID)]


class MessageBody(msgspec.Struct):
    chat_id: Identifier
    type: Literal["text", "voice", "image", "video", "file"]
    content: Annotated[str, msgspec.Meta(max_length=4000)] | None = None
    payload: dict[str, Any] | None = None
    reply_to_id: Identifier | None = None

    def __post_init__(self) -> None:
        if self.payload is None and not (self.content or "").strip():
            raise ValueError("give content, payload, or both")


decode = msgspec.json.Decoder(MessageBody).decode


class Json(Response):
    media_type = "application/json"


@app.exception_handler(HttpRefusal)
async def refused(_: Request, refusal: HttpRefusal) -> Response:
    return JSONResponse({"detail": str(refusal)}, refusal.status)


# --- routes -------------------------------------------------------------------------------------------------


@app.post("/api/v1/messages")
async def send_message(request: Request, user_id: UserId) -> Response:
    body = await request.body()
    try:
        sent = decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HTTPException(422, str(error)) from error
    key = request.headers.get("idempotency-key")
    if key is not None and not KEY.fullmatch(key):
        raise HTTPException(422, "Idempotency-Key must be 1 to 255 visible ASCII characters")
    draft = Draft(
        user_id,
        sent.chat_id,
        sent.type,
        sent.content,
        sent.payload,
        sent.reply_to_id,
        key,
        None if key is None else fingerprint_of(body),
    )
    stored = await database.writer.store(draft)
    return Json(stored.body, 201, {"Idempotency-Replayed": "true"} if stored.event is None else None)


@app.get("/api/v1/messages")
async def list_messages(request: Request, user_id: UserId) -> Response:
    values = request.query_params
    try:
        chat_id, limit = int(values["chat_id"]), int(values.get("limit", 50))
        before_id = int(values.get("before_id", LARGEST_ID))
    except (KeyError, ValueError) as error:
        raise HTTPException(422, "chat_id, limit and before_id must be integers") from error
    if not 1 <= chat_id <= LARGEST_ID or not 1 <= before_id <= LARGEST_ID or not 1 <= limit <= 200:
        raise HTTPException(422, "chat_id, limit or before_id is out of range")
    return Json(database.reader.page(user_id, chat_id, before_id, limit))


@app.get("/api/v1/chats")
async def list_chats(user_id: UserId) -> Response:
    return Json(database.reader.chats(user_id))


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.websocket("/ws")
async def events(socket: WebSocket) -> None:
    await socket.accept()
    try:
        user_id = read_token(socket.query_params.get("token", ""))
    except jwt.InvalidTokenError:
        await socket.close(1008, "token_invalid")
        return
    with sockets.connected(user_id, socket.scope["extensions"]["socket"]):
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass


# --- starting -----------------------------------------------------------------------------------------------


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", required=True)
    options = parser.parse_args()
    database.open(options.database)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=options.port,
        http="httptools",
        ws=UvicornSocket,
        lifespan="off",
        proxy_headers=False,
        ws_per_message_deflate=False,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    # These objects are permanent, so the collector need not scan them again.
    gc.collect()
    gc.freeze()
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(main())

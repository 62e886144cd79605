"""ASGI by hand: uvicorn with uvloop and httptools, without a framework between it and sqlite3.

No team writes this. It is the ceiling of the stack below the FastAPI peers, and shows which part of their
figures is FastAPI's. Choices that a reader may dispute, because teams do less:

- There is no framework: hand-written code parses paths, headers, queries and bodies, there is no
  documentation, and an error names one field.
- Verified tokens are cached.
- The choices in sqlite_store.py and uvicorn_sockets.py: messages share commits, frames go past ASGI.
"""

import argparse
import gc
import os
from collections.abc import Awaitable, Callable, MutableMapping
from time import time
from typing import Any
from urllib.parse import parse_qsl

import jwt
import orjson
import uvicorn
import uvloop
from sqlite_store import LARGEST_ID, BatchWriter, Draft, HttpRefusal, StoreReader, connect, fingerprint_of
from uvicorn_sockets import Sockets, UvicornSocket

SECRET = os.environ["BENCH_SECRET"].encode()
CACHED_TOKENS = 100_000
BODY_BYTES = 64 * 1024
TYPES = frozenset({"text", "voice", "image", "video", "file"})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]


# --- the caller ---------------------------------------------------------------------------------------------

tokens: dict[bytes, tuple[int, float]] = {}


def authenticated(header: bytes) -> int:
    """The user id in an Authorization header. Raises `HttpRefusal`."""
    verified = tokens.get(header)
    if verified is None:
        scheme, _, token = header.partition(b" ")
        try:
            claims = jwt.decode(
                token if scheme.lower() == b"bearer" else b"",
                SECRET,
                algorithms=["HS256"],
                options={"require": ["sub", "exp"]},
            )
            verified = int(claims["sub"]), claims["exp"]
        except (jwt.InvalidTokenError, ValueError):
            raise HttpRefusal(401, "Invalid token") from None
        if len(tokens) >= CACHED_TOKENS:
            tokens.clear()
        tokens[header] = verified
    user_id, expires = verified
    if expires <= time():
        raise HttpRefusal(401, "Expired token")
    return user_id


# --- the request --------------------------------------------------------------------------------------------


def query(scope: Scope) -> dict[str, str]:
    return dict(parse_qsl(scope["query_string"].decode("latin-1")))


def header(scope: Scope, wanted: bytes) -> bytes | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return value  # type: ignore[no-any-return]
    return None


def is_identifier(value: object) -> bool:
    return type(value) is int and 0 < value <= LARGEST_ID


def parse_draft(author_id: int, body: bytes, key: bytes | None) -> Draft:
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise HttpRefusal(422, "The body is not JSON") from None
    if type(values) is not dict:
        raise HttpRefusal(422, "The body must be an object")
    get = values.get
    chat_id, type_, content = get("chat_id"), get("type"), get("content")
    payload, reply_to_id = get("payload"), get("reply_to_id")
    if not is_identifier(chat_id):
        raise HttpRefusal(422, "chat_id must be a positive integer")
    if type(type_) is not str or type_ not in TYPES:
        raise HttpRefusal(422, "type is unknown")
    if content is not None and (type(content) is not str or len(content) > 4000):
        raise HttpRefusal(422, "content must be a string of at most 4000 characters")
    if payload is not None and type(payload) is not dict:
        raise HttpRefusal(422, "payload must be an object")
    if reply_to_id is not None and not is_identifier(reply_to_id):
        raise HttpRefusal(422, "reply_to_id must be a positive integer")
    if payload is None and (content is None or not content.strip()):
        raise HttpRefusal(422, "give content, payload, or both")
    return Draft(author_id, chat_id, type_, content, payload, reply_to_id, *once(body, key))


def once(body: bytes, key: bytes | None) -> tuple[str, bytes] | tuple[None, None]:
    """The Idempotency-Key of a request, and the fingerprint of its body."""
    if key is None:
        return None, None
    if not 1 <= len(key) <= 255 or min(key) < 33 or max(key) > 126:
        raise HttpRefusal(422, "Idempotency-Key must be 1 to 255 visible ASCII characters")
    return key.decode(), fingerprint_of(body)


# --- the application ----------------------------------------------------------------------------------------


class RawApplication:
    def __init__(self, path: str) -> None:
        self._sockets = Sockets()
        self._reader = StoreReader(connect(path))
        self._writer = BatchWriter(connect(path), self._reader, self._sockets.deliver)
        self._routes = {
            ("POST", "/api/v1/messages"): self._send_message,
            ("GET", "/api/v1/messages"): self._list_messages,
            ("GET", "/api/v1/chats"): self._list_chats,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._respond(scope, receive, send)
        elif scope["path"] == "/ws":
            await self._serve_socket(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            await respond_to_anyone(scope["path"], send)
            return
        try:
            await route(authenticated(header(scope, b"authorization") or b""), scope, receive, send)
        except HttpRefusal as refusal:
            extra = ((b"www-authenticate", b"Bearer"),) if refusal.status == 401 else ()
            await respond(send, refusal.status, orjson.dumps({"detail": str(refusal)}), extra)

    async def _send_message(self, user_id: int, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
            if len(body) > BODY_BYTES:
                raise HttpRefusal(413, "The body is too large")
        stored = await self._writer.store(parse_draft(user_id, body, header(scope, b"idempotency-key")))
        extra = ((b"idempotency-replayed", b"true"),) if stored.event is None else ()
        await respond(send, 201, stored.body, extra)

    async def _list_messages(self, user_id: int, scope: Scope, _: Receive, send: Send) -> None:
        values = query(scope)
        try:
            chat_id, limit = int(values["chat_id"]), int(values.get("limit", 50))
            before_id = int(values.get("before_id", LARGEST_ID))
        except (KeyError, ValueError):
            raise HttpRefusal(422, "chat_id, limit and before_id must be integers") from None
        if not is_identifier(chat_id) or not is_identifier(before_id) or not 1 <= limit <= 200:
            raise HttpRefusal(422, "chat_id, limit or before_id is out of range")
        await respond(send, 200, self._reader.page(user_id, chat_id, before_id, limit))

    async def _list_chats(self, user_id: int, _scope: Scope, _: Receive, send: Send) -> None:
        await respond(send, 200, self._reader.chats(user_id))

    async def _serve_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            user_id = authenticated(b"Bearer " + query(scope).get("token", "").encode())
        except HttpRefusal:
            await send({"type": "websocket.close", "code": 1008, "reason": "token_invalid"})
            return
        with self._sockets.connected(user_id, scope["extensions"]["socket"]):
            while (await receive())["type"] != "websocket.disconnect":
                pass


async def respond_to_anyone(path: str, send: Send) -> None:
    if path == "/health":
        await respond(send, 200, b'{"status":"ok"}')
    else:
        await respond(send, 404, b'{"detail":"Not Found"}')


async def respond(send: Send, status: int, body: bytes, extra: Headers = ()) -> None:
    length = b"%d" % len(body)
    headers = ((b"content-type", b"application/json"), (b"content-length", length), *extra)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


# --- starting -----------------------------------------------------------------------------------------------


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", required=True)
    options = parser.parse_args()
    config = uvicorn.Config(
        RawApplication(options.database),
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

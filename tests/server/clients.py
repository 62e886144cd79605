"""Clients of the server: people with a browser each, and what every answer owes all of them."""

import gc
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol
from uuid import uuid4

import httpx
import pytest
import trio
from attrs import frozen
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection, open_websocket_url

from tests.patience import PATIENCE

ORIGIN = "http://localhost:5173"
"""Where the frontend's own development server is."""
PASSWORD = "password123"
USER_KEYS = ["id", "email", "display_name", "tag", "avatar_url", "created_at"]
CHAT_KEYS = ["id", "title", "is_group", "created_at", "participants", "participants_count"]
MESSAGE_KEYS = ["id", "chat_id", "author_id", "type", "content", "payload", "ts"]
PROBLEM_KEYS = ["type", "title", "status", "detail", "code", "request_id", "errors"]


class Served(Protocol):
    """Whatever has a server's address."""

    @property
    def address(self) -> str: ...


FAULTS_EXPECTED = {"faults_expected": True}
"""Extensions of a request in a test that breaks the server on purpose."""


def obeys_the_laws(response: httpx.Response) -> None:
    """What holds for every answer to every request, wherever in these tests it is sent from."""
    request = response.request
    told = f"{request.method} {request.url}: {response.status_code} {response.text[:500]}"
    assert response.status_code < 500 or request.extensions.get("faults_expected"), told
    assert response.headers.get_list("X-Request-ID"), told
    if "Origin" in request.headers:
        assert response.headers.get_list("Access-Control-Allow-Origin") == [request.headers["Origin"]], told
        assert "Origin" in response.headers["Vary"], told
    assert "Server" not in response.headers, told
    if response.status_code >= 400:
        assert response.headers["Content-Type"] == "application/problem+json", told
        if request.method != "HEAD":
            is_a_problem(response)
    if response.status_code == 204:
        assert response.content == b"", told
        assert "Content-Type" not in response.headers, told
    if response.status_code == 401:
        assert response.headers["WWW-Authenticate"].startswith("Bearer"), told
    if response.status_code in {429, 503}:
        assert int(response.headers["Retry-After"]) >= 1, told


def is_a_problem(response: httpx.Response) -> None:
    """The error's body has all of its keys, each of its type, and repeats no secret."""
    body = response.json()
    assert list(body) == PROBLEM_KEYS
    for key in ("type", "title", "detail", "code", "request_id"):
        assert isinstance(body[key], str), body
        assert body[key], body
    assert body["status"] == response.status_code
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert isinstance(body["errors"], list)
    for error in body["errors"]:
        assert list(error) == ["field", "code", "message"]
        assert all(isinstance(part, str) for part in error.values())
    assert PASSWORD not in response.text


def shows_cors(response: httpx.Response, origin: str = ORIGIN) -> None:
    """A browser lets the page of this origin read the answer, sent with credentials or without."""
    assert response.headers.get_list("Access-Control-Allow-Origin") == [origin]
    assert response.headers.get_list("Access-Control-Allow-Credentials") == ["true"]
    assert "Origin" in [name.strip() for name in response.headers["Vary"].split(",")]


def is_user(user: Any) -> None:
    assert list(user) == USER_KEYS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", user["created_at"])


def is_chat(chat: Any) -> None:
    assert list(chat) == CHAT_KEYS
    assert chat["participants"]
    for user in chat["participants"]:
        is_user(user)


BROKEN_OFF = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
"""For tests in which the server leaves in the midst of a request: httpx leaves its body's iterator behind."""


def collect_what_was_broken_off() -> None:
    """Have it found now, and not during a test that would take it for a fault."""
    gc.collect()


async def _obeys_the_laws(response: httpx.Response) -> None:
    await response.aread()
    obeys_the_laws(response)


@asynccontextmanager
async def browser(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API on a page of another origin; every answer that it gets is held to the laws."""
    async with httpx.AsyncClient(
        base_url=f"{server.address}/api/v1",
        headers={"Origin": ORIGIN},
        event_hooks={"response": [_obeys_the_laws]},
        timeout=PATIENCE,
        trust_env=False,
        verify=False,  # noqa: S501 - there is no TLS; a context with certificates takes 20 ms to make
        limits=httpx.Limits(max_connections=None),
    ) as client:
        yield client


def expect(response: httpx.Response, status: int, code: str | None = None) -> Any:
    """The body of an answer that must have this status, and as an error this code."""
    assert response.status_code == status, f"{response.request.url}: {response.status_code} {response.text}"
    body: Any = response.json() if response.content else None
    if code is not None:
        assert body["code"] == code
    return body


def new_key() -> str:
    """An Idempotency-Key as the checklist's clients make it."""
    return str(uuid4())


@frozen
class Person:
    """Somebody who is signed in, with the tokens of that sign-in."""

    server: Served
    http: httpx.AsyncClient
    user: dict[str, Any]
    access_token: str
    refresh_token: str

    @property
    def id(self) -> int:
        return int(self.user["id"])

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, **more: Any
    ) -> httpx.Response:
        """A request with this person's access token, and an Idempotency-Key where one is given."""
        headers = {"Authorization": f"Bearer {self.access_token}", **more.pop("headers", {})}
        if key is not None:
            headers["Idempotency-Key"] = key
        if body is not None:
            more["json"] = body
        return await self.http.request(method, path, headers=headers, **more)

    async def direct_chat_with(self, other: "Person") -> int:
        chat = expect(await self.ask("POST", "/chats/direct", {"user_id": other.id}, key=new_key()), 200)
        return int(chat["id"])

    async def send(self, chat_id: int, content: str = "Hello!", *, key: str | None = None) -> Any:
        """Send a text message; the message."""
        body = {"chat_id": chat_id, "type": "text", "content": content}
        return expect(await self.ask("POST", "/messages", body, key=key), 201)

    @asynccontextmanager
    async def socket(self) -> AsyncIterator["Socket"]:
        """A socket of this person's, opened as the checklist's client opens it."""
        async with open_socket(self.server, f"?token={self.access_token}") as socket:
            yield socket


async def register(server: Served, http: httpx.AsyncClient, name: str, *, key: str | None = None) -> Person:
    """A new account for `name` at test.com, signed in."""
    body = {"email": f"{name.lower()}@test.com", "password": PASSWORD, "display_name": name}
    headers = {"Idempotency-Key": key or new_key()}
    return person(server, http, expect(await http.post("/auth/register", json=body, headers=headers), 201))


async def log_in(server: Served, http: httpx.AsyncClient, name: str) -> Person:
    """Another session of somebody who has an account."""
    body = {"email": f"{name.lower()}@test.com", "password": PASSWORD}
    return person(server, http, expect(await http.post("/auth/login", json=body), 200))


def person(server: Served, http: httpx.AsyncClient, signed_in: Any) -> Person:
    return Person(server, http, signed_in["user"], signed_in["access_token"], signed_in["refresh_token"])


@frozen
class Socket:
    """An open WebSocket."""

    connection: WebSocketConnection

    async def text(self, within: float = PATIENCE) -> str:
        """The next frame, which must be one of text."""
        with trio.fail_after(within):
            frame = await self.connection.get_message()
        assert isinstance(frame, str)
        return frame

    async def frame(self, within: float = PATIENCE) -> Any:
        """The next frame's JSON, whose keys' order is kept."""
        return json.loads(await self.text(within))

    async def message(self, within: float = PATIENCE) -> Any:
        """The message that the next frame tells of."""
        return (await self.frame(within))["data"]

    async def closed(self) -> tuple[int, str]:
        """How the server closes this socket, which must be the next thing that it does."""
        with trio.fail_after(PATIENCE):
            with pytest.raises(ConnectionClosed) as raised:
                await self.connection.get_message()
        reason = raised.value.reason
        assert isinstance(reason, CloseReason)
        return reason.code, reason.reason or ""


@asynccontextmanager
async def open_socket(
    server: Served,
    query: str,
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    subprotocols: Sequence[str] = (),
) -> AsyncIterator[Socket]:
    """A socket at `/ws`; raises where the handshake is refused, as a browser would report by 1006."""
    address = server.address.replace("http", "ws", 1) + f"/ws{query}"
    connection = None
    with unpacked(), trio.CancelScope() as scope:
        try:
            async with open_websocket_url(
                address, extra_headers=list(headers), subprotocols=list(subprotocols)
            ) as connection:
                yield Socket(connection)
                scope.deadline = trio.current_time() + PATIENCE
        finally:
            if connection is not None:
                await (
                    connection._stream.aclose()
                )  # which the library leaves open when the server closes first
    assert not scope.cancelled_caught, "the server has not ended the connection"


@contextmanager
def unpacked() -> Iterator[None]:
    """An exception that stands alone in groups is raised by itself."""
    try:
        yield
    except BaseExceptionGroup as group:
        alone: BaseException = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        raise alone from None

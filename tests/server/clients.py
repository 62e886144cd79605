"""Clients of the server: users with a browser each, and the rules that every response must keep."""

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

from tests.frames import check_frame
from tests.patience import PATIENCE

ORIGIN = "http://localhost:5173"
"""The origin of the frontend's development server."""
PASSWORD = "password123"
USER_KEYS = ["id", "email", "display_name", "tag", "avatar_url", "created_at"]
CHAT_KEYS = [
    *("id", "title", "is_group", "created_at", "participants", "participants_count"),
    *("my_role", "last_message", "unread_count", "read_up_to", "others_read_up_to"),
    *("sequence", "updated_at", "history", "avatar_url"),
]
MESSAGE_KEYS = ["id", "chat_id", "author_id", "type", "content", "payload", "ts"]
PROBLEM_KEYS = ["type", "title", "status", "detail", "code", "request_id", "errors"]


class Served(Protocol):
    """A server with an address."""

    @property
    def address(self) -> str: ...


FAULTS_EXPECTED = {"faults_expected": True}
"""Extensions of a request for which the test makes the server fail."""


def keeps_the_rules(response: httpx.Response) -> None:
    """Check the rules that hold for every response to every request."""
    request = response.request
    description = f"{request.method} {request.url}: {response.status_code} {response.text[:500]}"
    assert response.status_code < 500 or request.extensions.get("faults_expected"), description
    assert response.headers.get_list("X-Request-ID"), description
    if "Origin" in request.headers:
        assert response.headers.get_list("Access-Control-Allow-Origin") == [request.headers["Origin"]], (
            description
        )
        assert "Origin" in response.headers["Vary"], description
    assert "Server" not in response.headers, description
    if response.status_code >= 400:
        assert response.headers["Content-Type"] == "application/problem+json", description
        if request.method != "HEAD":
            is_a_problem(response)
    if response.status_code == 204:
        assert response.content == b"", description
        assert "Content-Type" not in response.headers, description
    if response.status_code == 401:
        assert response.headers["WWW-Authenticate"].startswith("Bearer"), description
    if response.status_code in {429, 503}:
        assert int(response.headers["Retry-After"]) >= 1, description


def is_a_problem(response: httpx.Response) -> None:
    """Check that the error's body has all of its keys, each of its type, and repeats no secret."""
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
    """Check that a browser lets the page of this origin read the response, with credentials or without."""
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


OPEN_ITERATORS = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
"""For tests in which the server closes during a request: httpx then leaves the body's iterator open."""


def collect_open_iterators() -> None:
    """Collect the iterators now, and not during a later test, which would fail."""
    gc.collect()


async def _keeps_the_rules(response: httpx.Response) -> None:
    await response.aread()
    keeps_the_rules(response)


@asynccontextmanager
async def browser(server: Served) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API on a page of another origin, which checks the rules for each response."""
    async with httpx.AsyncClient(
        base_url=f"{server.address}/api/v1",
        headers={"Origin": ORIGIN},
        event_hooks={"response": [_keeps_the_rules]},
        timeout=PATIENCE,
        trust_env=False,
        verify=False,  # noqa: S501 - there is no TLS, and to load certificates takes 20 ms
        limits=httpx.Limits(max_connections=None),
    ) as client:
        yield client


@asynccontextmanager
async def calling_from(server: Served, address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API with this address, one of 127.0.0.0/8."""
    async with httpx.AsyncClient(
        base_url=f"{server.address}/api/v1",
        transport=httpx.AsyncHTTPTransport(local_address=address),
        trust_env=False,
        timeout=PATIENCE,
    ) as client:
        yield client


def expect(response: httpx.Response, status: int, code: str | None = None) -> Any:
    """The body of a response that must have this status, and, if it is an error, this code."""
    assert response.status_code == status, f"{response.request.url}: {response.status_code} {response.text}"
    body: Any = response.json() if response.content else None
    if code is not None:
        assert body["code"] == code
    return body


def new_key() -> str:
    """An Idempotency-Key in the form of the checklist's clients."""
    return str(uuid4())


@frozen
class Person:
    """A logged-in user, with the tokens of one session."""

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
        """A request with this user's access token, and with an Idempotency-Key if one is given."""
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
        """Send a text message; returns the message."""
        body = {"chat_id": chat_id, "type": "text", "content": content}
        return expect(await self.ask("POST", "/messages", body, key=key), 201)

    @asynccontextmanager
    async def full_socket(self, more: str = "") -> AsyncIterator[tuple["Socket", dict[str, Any]]]:
        """A socket of profile 2, and the data of its `hello`."""
        async with open_socket(self.server, f"?token={self.access_token}&profile=2{more}") as socket:
            hello = await socket.frame()
            assert (list(hello), hello["event"]) == (["event", "data"], "hello")
            yield socket, hello["data"]

    @asynccontextmanager
    async def socket(self) -> AsyncIterator["Socket"]:
        """A socket of this user, opened in the way of the checklist's client."""
        async with open_socket(self.server, f"?token={self.access_token}") as socket:
            yield socket


async def register(server: Served, http: httpx.AsyncClient, name: str, *, key: str | None = None) -> Person:
    """A new account for `name` at test.com, logged in."""
    body = {"email": f"{name.lower()}@test.com", "password": PASSWORD, "display_name": name}
    headers = {"Idempotency-Key": key or new_key()}
    return person(server, http, expect(await http.post("/auth/register", json=body, headers=headers), 201))


async def log_in(server: Served, http: httpx.AsyncClient, name: str) -> Person:
    """A further session of an existing account."""
    body = {"email": f"{name.lower()}@test.com", "password": PASSWORD}
    return person(server, http, expect(await http.post("/auth/login", json=body), 200))


def person(server: Served, http: httpx.AsyncClient, signed_in: Any) -> Person:
    return Person(server, http, signed_in["user"], signed_in["access_token"], signed_in["refresh_token"])


@frozen
class Socket:
    """An open WebSocket, which checks that each frame is as `/asyncapi.json` describes it."""

    connection: WebSocketConnection
    channel: str

    async def text(self, within: float = PATIENCE) -> str:
        """The next frame, which must be a text."""
        with trio.fail_after(within):
            frame = await self.connection.get_message()
        assert isinstance(frame, str)
        check_frame(frame, channel=self.channel)
        return frame

    async def frame(self, within: float = PATIENCE) -> Any:
        """The next frame's JSON, with its keys in order."""
        return json.loads(await self.text(within))

    async def next_of(self, event: str, within: float = PATIENCE) -> dict[str, Any]:
        """The next frame, which must show this event."""
        frame: dict[str, Any] = await self.frame(within)
        assert frame["event"] == event, frame
        return frame

    async def ask(self, event: str, **data: Any) -> None:
        """Send a message of profile 2."""
        await self.connection.send_message(json.dumps({"event": event, "data": data}))

    async def message(self, within: float = PATIENCE) -> Any:
        """The message in the next frame."""
        return (await self.frame(within))["data"]

    async def closed(self) -> tuple[int, str]:
        """The code and reason with which the server closes this socket; no frame may precede the close."""
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
    profile: str | None = None,
) -> AsyncIterator[Socket]:
    """A socket at `/ws`; raises if the handshake is refused, which a browser would report as 1006.

    `profile` is the one that the server speaks where the query names none; by default 1.
    """
    is_full = "profile=2" in query or profile == "2"
    address = server.address.replace("http", "ws", 1) + f"/ws{query}"
    connection = None
    with unpacked(), trio.CancelScope() as scope:
        try:
            async with open_websocket_url(
                address, extra_headers=list(headers), subprotocols=list(subprotocols)
            ) as connection:
                yield Socket(connection, "full" if is_full else "plain")
                scope.deadline = trio.current_time() + PATIENCE
        finally:
            if connection is not None:
                await connection._stream.aclose()  # the library leaves it open if the server closes first
    assert not scope.cancelled_caught, "the server has not ended the connection"


@contextmanager
def unpacked() -> Iterator[None]:
    """Raise an exception that is alone in its groups without them."""
    try:
        yield
    except BaseExceptionGroup as group:
        alone: BaseException = group
        while isinstance(alone, BaseExceptionGroup) and len(alone.exceptions) == 1:
            alone = alone.exceptions[0]
        raise alone from None

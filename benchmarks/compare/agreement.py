"""Checks that the servers give the same responses, because only servers that do the same work compare."""

import json
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any

import jwt
from attrs import frozen

from benchmarks.load.client import open_sockets
from benchmarks.load.population import DIRECT_CHATS, GROUPS, HISTORY, KID, READER, SECRET, token_of
from benchmarks.load.processes import RunningServer
from benchmarks.load.wire import upgrade, walk

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z")
EXTRA = frozenset(
    {
        *("revision", "my_role", "last_message", "unread_count", "read_up_to", "others_read_up_to"),
        *("sequence", "updated_at", "history", "avatar_url"),
    }
)
"""Keys that this server sends and the peers do not: more work for this server, which the ratios include."""
SEEDED = 1000
"""Messages in the seeded database; a message with a greater id is new."""


@frozen
class Observation:
    """A server's reaction to one step."""

    step: str
    reaction: str


@frozen
class Disagreement:
    step: str
    ours: str
    theirs: str


def disagreements(ours: list[Observation], theirs: list[Observation]) -> list[Disagreement]:
    """The steps to which the other server reacted differently."""
    return [
        Disagreement(one.step, one.reaction, other.reaction)
        for one, other in zip(ours, theirs, strict=True)
        if one != other
    ]


def alike(value: Any, key: str | None = None) -> Any:
    """The JSON value without what may differ between servers: times, the ids of new messages, and `EXTRA`."""
    match value:
        case dict():
            return {name: alike(item, name) for name, item in value.items() if name not in EXTRA}
        case list():
            return [alike(item) for item in value]
        case str() if TIME.fullmatch(value):
            return "a time"
        case int() if key in {"id", "next_cursor"} and value > SEEDED:
            return "a new id"
        case _:
            return value


def observe(server: RunningServer) -> list[Observation]:
    """A server's reactions to the requests of the load, and to requests that it must refuse.

    Of a refusal, only the status counts, and that the body is JSON.
    """
    with ExitStack() as stack:
        http = HTTPConnection("127.0.0.1", server.port, timeout=30)
        stack.callback(http.close)
        return [*_sending(http, server.port, stack), *_reading(http), *_refusing(http, server.port)]


def _sending(http: HTTPConnection, port: int, stack: ExitStack) -> Iterator[Observation]:
    chat = DIRECT_CHATS[0]
    author, other = chat.people
    sockets = [stack.enter_context(sock) for sock in open_sockets(port, [token_of(author), token_of(other)])]
    draft = {"chat_id": chat.id, "type": "text", "content": 'Привет! "Hello" \\ 👋'}
    key = {"Idempotency-Key": "the-first-key"}
    yield _request("a send", http, "POST", "/api/v1/messages", author, body=draft, headers=key)
    for sock in sockets:
        yield Observation("its frame", _frame(sock))
    yield _request("its repeat", http, "POST", "/api/v1/messages", author, body=draft, headers=key)
    changed = {**draft, "content": "Something else"}
    yield _request(
        "its key with another body", http, "POST", "/api/v1/messages", author, body=changed, headers=key
    )
    picture = {
        "chat_id": chat.id,
        "type": "image",
        "content": None,
        "payload": {"url": "a.png", "size": [1, 2]},
    }
    reply = {**picture, "reply_to_id": None}
    yield _request("a send without a key", http, "POST", "/api/v1/messages", other, body=reply)
    for sock in sockets:  # the server delivered neither the repeat nor the refused send before it
        yield Observation("the frame after a repeat", _frame(sock))


def _reading(http: HTTPConnection) -> Iterator[Observation]:
    page = f"/api/v1/messages?chat_id={HISTORY.id}&limit=50"
    yield _request("the newest page", http, "GET", page, READER)
    yield _request("the next page", http, "GET", f"{page}&before_id={SEEDED - 49}", READER)
    yield _request("the last page", http, "GET", f"{page}&before_id=21", READER)
    sent = f"/api/v1/messages?chat_id={DIRECT_CHATS[0].id}&limit=50"
    yield _request("the sent messages", http, "GET", sent, DIRECT_CHATS[0].people[1])
    yield _request("the chats", http, "GET", "/api/v1/chats", READER)
    yield _request("the chats of a group's member", http, "GET", "/api/v1/chats", GROUPS[100].people[0])
    yield _request("the health", http, "GET", "/health", None)


def _refusing(http: HTTPConnection, port: int) -> Iterator[Observation]:
    stranger = GROUPS[100].people[0]
    chat = DIRECT_CHATS[0]
    good = {"chat_id": chat.id, "type": "text", "content": "Hello"}
    bad_tokens = {
        "no token": None,
        "a malformed token": "a.b.c",
        "a token of another key": jwt.encode(_claims(3600), "x" * 40, "HS256", headers={"kid": KID}),
        "an expired token": jwt.encode(_claims(-3600), SECRET, "HS256", headers={"kid": KID}),
    }
    for step, token in bad_tokens.items():
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        yield _request(step, http, "GET", "/api/v1/chats", None, headers=headers)
        yield _request(f"{step}, sending", http, "POST", "/api/v1/messages", None, body=good, headers=headers)
    yield _request("a stranger's send", http, "POST", "/api/v1/messages", stranger, body=good)
    page = f"/api/v1/messages?chat_id={chat.id}&limit=50"
    yield _request("a stranger's read", http, "GET", page, stranger)
    bad_bodies: Mapping[str, Mapping[str, Any]] = {
        "no such chat": {"chat_id": 999_999},
        "a chat's id as text": {"chat_id": "one"},
        "an unknown type": {"type": "song"},
        "a number for content": {"content": 5},
        "too long a content": {"content": "x" * 4001},
        "a list for payload": {"payload": [1]},
    }
    for step, wrong in bad_bodies.items():
        yield _request(step, http, "POST", "/api/v1/messages", chat.people[0], body={**good, **wrong})
    yield Observation("a socket with a wrong token", _close_code(port, bad_tokens["an expired token"]))


def _claims(seconds: int) -> dict[str, Any]:
    now = int(time.time())
    claims = {"sub": "1", "sid": 1, "gen": 1, "typ": "access"}
    return {**claims, "iat": now - 7200, "exp": now + seconds}


def _request(
    step: str,
    http: HTTPConnection,
    method: str,
    path: str,
    person: int | None,
    *,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Observation:
    fields = dict(headers or {})
    if person is not None:
        fields["Authorization"] = f"Bearer {token_of(person)}"
    if body is not None:
        fields["Content-Type"] = "application/json"
    http.request(method, path, None if body is None else json.dumps(body), fields)
    response = http.getresponse()
    content = json.loads(response.read())
    if response.status >= 400:
        return Observation(step, f"{response.status} with JSON")
    replayed = response.getheader("Idempotency-Replayed")
    reaction = f"{response.status} {json.dumps(alike(content), ensure_ascii=False)}"
    return Observation(step, f"{reaction} replayed: {replayed}" if replayed else reaction)


def _frame(sock: socket.socket) -> str:
    """The opcode and the payload of the next frame."""
    sock.settimeout(5)
    data = b""
    while not (frames := list(walk(data))):
        more = sock.recv(4096)
        if not more:
            return "the end"
        data += more
    opcode, _, payload, end = frames[0]
    frame = f"{opcode} {json.dumps(alike(json.loads(data[payload:end])), ensure_ascii=False)}"
    return frame if end == len(data) else f"{frame} and more"


def _close_code(port: int, token: str | None) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        sock.sendall(upgrade(token or ""))
        data = b""
        while more := sock.recv(4096):
            data += more
            head, _, rest = data.partition(b"\r\n\r\n")
            frames = list(walk(rest))
            if frames:
                opcode, _, payload, _ = frames[0]
                return f"{head[9:12].decode()} {opcode} {int.from_bytes(rest[payload : payload + 2])}"
        return f"the end after {data[:100]!r}"

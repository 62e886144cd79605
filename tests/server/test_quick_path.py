"""Turning the quick path off changes no answer: each request is sent both ways, the bytes are compared."""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
import trio
import trio.testing
from attrs import define, evolve, field, frozen

from adapters.listener import ListenerConfig
from adapters.quart_app.endpoints import API, Auth, Endpoint
from adapters.quart_app.quick_path import QuickPath
from adapters.quart_app.routes import ENDPOINTS
from messaging_core.limits import Limits, Rate
from tests.listener.harness import Peer
from tests.server.calls import CALLS, Scene
from tests.server.clients import ORIGIN, PASSWORD, Person, browser, expect, log_in, new_key, register
from tests.server.servers import ServerHere, serving

Fields = tuple[tuple[str, str], ...]

ANOTHER_FORM = ("Connection", "keep-alive, x")
"""Means the same, and is not for the quick path."""
ID = ("X-Request-ID", "r-1")


@frozen
class Asks:
    """A request, byte for byte."""

    method: str
    target: str
    fields: Fields = ()
    body: bytes = b""

    def but(self, *fields: tuple[str, str], **changes: Any) -> "Asks":
        """With more fields, or other parts."""
        return evolve(self, fields=(*self.fields, *fields), **changes)

    def written(self, *more: tuple[str, str]) -> bytes:
        length = (("Content-Length", str(len(self.body))),) if self.body else ()
        fields = (("Host", "test"), *self.fields, *length, *more)
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


@frozen
class Came:
    """An answer, byte for byte, but for the Date's value."""

    line: bytes
    fields: tuple[bytes, ...]
    body: bytes

    @property
    def status(self) -> int:
        return int(self.line.split(b" ")[1])

    def value(self, name: bytes) -> bytes | None:
        """A field's value; its name is spelt as it comes."""
        values = [line.partition(b": ")[2] for line in self.fields if line.partition(b":")[0] == name]
        assert len(values) <= 1
        return values[0] if values else None


@define
class Line:
    """A connection on which requests are sent both ways."""

    peer: Peer
    quick: list[str] = field(factory=list)
    """The requests that have taken the quick path."""

    async def answer(self, asked: Asks, *more: tuple[str, str]) -> Came:
        await self.peer.send(asked.written(*more))
        line, *fields = (await self.peer.until(b"\r\n\r\n"))[:-4].split(b"\r\n")
        dateless = tuple(b"date" if told.startswith(b"date: ") else told for told in fields)
        came = Came(line, dateless, b"")
        if asked.method == "HEAD" or came.status == 204:
            return came
        return evolve(came, body=await self.peer.exactly(int(came.value(b"content-length") or b"")))

    async def both(self, asked: Asks, *, quick: bool = True) -> Came:
        """The answer to the plain form, which must be the same as the other's; `quick` is its way."""
        plain, other = await self.answers(asked, quick=quick)
        assert shown(plain) == shown(other)
        return plain

    async def answers(self, asked: Asks, *, quick: bool = True) -> tuple[Came, Came]:
        """The answers to the plain form, whose way is `quick`, and to the other, whose way is the long."""
        before = len(self.quick)
        plain = await self.answer(asked)
        assert len(self.quick) == before + quick, f"the way of {asked}"
        other = await self.answer(asked, ANOTHER_FORM)
        assert len(self.quick) == before + quick, f"the way of {asked} in the other form"
        return plain, other

    async def all(self, asked: Mapping[str, Asks], *, quick: bool = True) -> dict[str, Came]:
        """The answers to all of these, each of which must be the same both ways."""
        came = {name: await self.answers(one, quick=quick) for name, one in asked.items()}
        plain = {name: shown(ways[0]) for name, ways in came.items()}
        other = {name: shown(ways[1]) for name, ways in came.items()}
        assert {name: (plain[name], other[name]) for name in came if plain[name] != other[name]} == {}
        return {name: ways[0] for name, ways in came.items()}


TOKENS = re.compile(rb'"eyJ[-\w.]+"')
OUR_IDS = re.compile(rb"\b[0-9a-f]{16}\b")


def shown(came: Came) -> Came:
    """What must be the same: tokens, and the ids that the server gives to requests, are each time others."""
    fields = tuple(
        OUR_IDS.sub(b"ours", line) if line.startswith(b"x-request-id") else line for line in came.fields
    )
    body = TOKENS.sub(b'"token"', came.body)
    return evolve(came, fields=fields, body=re.sub(rb'(?<="request_id":")[0-9a-f]{16}"', b'ours"', body))


@pytest.fixture
def quick() -> Iterator[list[str]]:
    """The requests that take the quick path."""
    taken, answer = list[str](), QuickPath._answer

    async def noted(path: QuickPath, endpoint: Any, values: Any, asked: Any) -> Any:
        taken.append(f"{asked.method} {asked.path}")
        return await answer(path, endpoint, values, asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QuickPath, "_answer", noted)
        yield taken


@asynccontextmanager
async def line_to(server: ServerHere, quick: list[str]) -> AsyncIterator[Line]:
    host, _, port = server.address.removeprefix("http://").partition(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        yield Line(Peer(stream), quick)


@pytest.fixture
async def line(server: ServerHere, quick: list[str]) -> AsyncIterator[Line]:
    async with line_to(server, quick) as line:
        yield line


def bearer(person: Person) -> tuple[str, str]:
    return ("Authorization", f"Bearer {person.access_token}")


def get(person: Person, target: str) -> Asks:
    return Asks("GET", API + target, (ID, bearer(person)))


def sent(method: str, target: str, body: Any, *fields: tuple[str, str]) -> Asks:
    """A request with JSON, or with these bytes."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Asks(method, API + target, (ID, ("Content-Type", "application/json"), *fields), raw)


def granted(scene: Scene, endpoint: Endpoint) -> Asks:
    """The call of `CALLS`, as its endpoint's declaration says."""
    values = dict(CALLS[endpoint.name](scene))
    target = endpoint.path
    for name in endpoint.path_names:
        target = target.replace(f"{{{name}}}", str(values.pop(name)))
    if endpoint.method == "GET" and values:
        target += f"?{urlencode(values)}"
    fields: Fields = (ID,)
    if endpoint.auth is Auth.SESSION:
        fields += (bearer(scene.alice),)
    if endpoint.takes_key:
        fields += (("Idempotency-Key", new_key()),)
    asked = Asks(endpoint.method, target, fields)
    if endpoint.has_body:
        asked = asked.but(("Content-Type", "application/json"), body=json.dumps(values).encode())
    return asked


# --- what is granted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
async def test_every_endpoint_answers_the_same(line: Line, scene: Scene, endpoint: Endpoint) -> None:
    """Whether it reads, or writes, which is repeated with its key; for a page of another origin too."""
    asked = granted(scene, endpoint)
    if endpoint.name == "LogOut":
        await both_log_out(line, scene, asked)
        return
    if endpoint.takes_key:
        first = await line.answer(asked)
        assert (first.status, first.value(b"idempotency-replayed")) == (endpoint.status, None)
    for origin in (None, ORIGIN):
        came = await line.both(asked if origin is None else asked.but(("Origin", origin)))
        assert came.status == endpoint.status
        assert (came.value(b"idempotency-replayed") == b"true") == endpoint.takes_key
        assert came.value(b"x-request-id") == b"r-1"
        assert (came.value(b"access-control-allow-origin") or b"").decode() == (origin or "")


async def both_log_out(line: Line, scene: Scene, asked: Asks) -> None:
    """Of a session each; afterwards neither's token is good any more, either way."""
    other = await log_in(scene.alice.server, scene.http, "Alice")
    fields = tuple(field for field in asked.fields if field[0] != "Authorization")
    before = len(line.quick)
    plain = await line.answer(evolve(asked, fields=(*fields, bearer(scene.alice))))
    assert len(line.quick) == before + 1
    keyless = tuple(field for field in fields if field[0] != "Idempotency-Key")
    told = await line.answer(evolve(asked, fields=(*keyless, bearer(other))), ANOTHER_FORM)
    assert len(line.quick) == before + 1
    assert plain.status == 204
    for person in (scene.alice, other):
        assert (await line.both(get(person, "/users/me"))).status == 401
    assert plain == told


# --- what is refused ----------------------------------------------------------------------------------------

Asking = Callable[[Scene], Asks]
JSON = ("Content-Type", "application/json")


def to_bob(scene: Scene, *fields: tuple[str, str], body: Any = None, **values: Any) -> Asks:
    told = {"chat_id": scene.chat, "type": "text", "content": "Hello!", **values}
    return sent("POST", "/messages", told if body is None else body, bearer(scene.alice), *fields)


def log_in_with(**values: Any) -> Asks:
    return sent("POST", "/auth/login", {"email": "alice@test.com", "password": PASSWORD, **values})


def to_login(body: bytes, *fields: tuple[str, str]) -> Asks:
    return Asks("POST", f"{API}/auth/login", (ID, *fields), body)


def as_nobody(*fields: tuple[str, str]) -> Asks:
    return Asks("GET", f"{API}/users/me", (ID, *fields))


REFUSED: dict[str, tuple[int, str, Asking]] = {
    "malformed JSON": (400, "malformed_json", lambda scene: to_bob(scene, body=b'{"chat_id": 1')),
    "no body": (400, "malformed_json", lambda _: to_login(b"", JSON)),
    "a body that is not UTF-8": (400, "malformed_json", lambda scene: to_bob(scene, body=b'{"a": "\xff"}')),
    "nested too deeply": (400, "malformed_json", lambda scene: to_bob(scene, body=b"[" * 5000)),
    "with oneself": (
        400,
        "direct_chat_with_self",
        lambda scene: sent("POST", "/chats/direct", {"user_id": scene.alice.id}, bearer(scene.alice)),
    ),
    "a key that is none": (
        400,
        "idempotency_key_invalid",
        lambda scene: to_bob(scene, ("Idempotency-Key", "k" * 300)),
    ),
    "a key beyond ASCII": (
        400,
        "idempotency_key_invalid",
        lambda scene: to_bob(scene, ("Idempotency-Key", "\xe4")),
    ),
    "no token": (401, "token_missing", lambda _: as_nobody()),
    "an empty token": (401, "token_invalid", lambda _: as_nobody(("Authorization", ""))),
    "no scheme": (401, "token_invalid", lambda _: as_nobody(("Authorization", "abc"))),
    "another scheme": (401, "token_invalid", lambda _: as_nobody(("Authorization", "Basic YTpi"))),
    "a token that is none": (401, "token_invalid", lambda _: as_nobody(("Authorization", "Bearer x"))),
    "a token beyond ASCII": (401, "token_invalid", lambda _: as_nobody(("Authorization", "Bearer \xff"))),
    "a refresh token": (
        401,
        "token_invalid",
        lambda scene: as_nobody(("Authorization", f"Bearer {scene.alice.refresh_token}")),
    ),
    "the wrong password": (401, "invalid_credentials", lambda _: log_in_with(password="wrong-password")),
    "an unknown e-mail": (401, "invalid_credentials", lambda _: log_in_with(email="x@test.com")),
    "an access token to refresh": (
        401,
        "refresh_token_invalid",
        lambda scene: sent("POST", "/auth/refresh", {"refresh_token": scene.alice.access_token}),
    ),
    "history of others": (403, "not_a_participant", lambda scene: get(scene.alice, "/messages?chat_id=2")),
    "another's message": (
        403,
        "not_the_author",
        lambda scene: Asks("DELETE", f"{API}/messages/{scene.message}", (ID, bearer(scene.bob))),
    ),
    "an unknown user": (404, "user_not_found", lambda scene: get(scene.alice, "/users/999")),
    "an unknown tag": (404, "user_not_found", lambda scene: get(scene.alice, "/users/search?tag=nobody")),
    "an unknown chat": (404, "chat_not_found", lambda scene: get(scene.alice, "/chats/999")),
    "an unknown message": (
        404,
        "message_not_found",
        lambda scene: Asks("DELETE", f"{API}/messages/999", (ID, bearer(scene.alice))),
    ),
    "an e-mail that is taken": (
        409,
        "email_taken",
        lambda _: sent(
            "POST",
            "/auth/register",
            {"email": "bob@test.com", "password": PASSWORD, "display_name": "Bob"},
        ),
    ),
    "a form": (
        415,
        "unsupported_media_type",
        lambda _: to_login(b"a=b", ("Content-Type", "application/x-www-form-urlencoded")),
    ),
    "a kind without end": (
        415,
        "unsupported_media_type",
        lambda _: to_login(b"{}", ("Content-Type", "text/" + "x" * 500)),
    ),
    "an empty kind": (415, "unsupported_media_type", lambda _: to_login(b"{}", ("Content-Type", ""))),
    "fields that are missing": (422, "validation_failed", lambda _: to_login(b"{}", JSON)),
    "no object": (422, "validation_failed", lambda _: to_login(b"[1]", JSON)),
    "a field that is wrong": (422, "validation_failed", lambda scene: to_bob(scene, chat_id="1")),
    "a name in the path": (422, "validation_failed", lambda scene: get(scene.alice, "/users/abc")),
    "nobody's number": (422, "validation_failed", lambda scene: get(scene.alice, "/users/0")),
    "a number below": (422, "validation_failed", lambda scene: get(scene.alice, "/users/-1")),
    "dots": (422, "validation_failed", lambda scene: get(scene.alice, "/users/..")),
    "a tilde": (422, "validation_failed", lambda scene: get(scene.alice, "/chats/~")),
    "another's path": (422, "validation_failed", lambda scene: get(scene.alice, "/chats/direct")),
}


@pytest.mark.parametrize("origin", [None, ORIGIN], ids=["of no page", "of a page"])
async def test_every_refusal_is_the_same(line: Line, scene: Scene, origin: str | None) -> None:
    """Its status, its header fields, its words; and its place in the log, by the id of the request."""
    carol = await register(scene.alice.server, scene.http, "Carol")
    assert await carol.direct_chat_with(scene.bob) == 2
    asked = {name: asking(scene) for name, (_, _, asking) in REFUSED.items()}
    if origin is not None:
        asked = {name: one.but(("Origin", origin)) for name, one in asked.items()}
    came = await line.all(asked)
    told = {name: (one.status, json.loads(one.body)["code"]) for name, one in came.items()}
    assert told == {name: (status, code) for name, (status, code, _) in REFUSED.items()}
    for one in came.values():
        assert json.loads(one.body)["request_id"] == "r-1"
        assert one.value(b"content-type") == b"application/problem+json"


async def test_a_deleted_message_is_a_conflict(line: Line, scene: Scene) -> None:
    """409 for its author, who edits it."""
    path = f"/messages/{scene.message}"
    expect(await scene.alice.ask("DELETE", path), 204)
    came = await line.both(sent("PATCH", path, {"content": "x"}, bearer(scene.alice)))
    assert (came.status, json.loads(came.body)["code"]) == (409, "message_deleted")


async def test_a_key_for_another_request_is_refused(line: Line, scene: Scene) -> None:
    """422, whichever way the key was first used."""
    for way in ((), (ANOTHER_FORM,)):
        key = ("Idempotency-Key", new_key())
        assert (await line.answer(to_bob(scene, key), *way)).status == 201
        came = await line.both(to_bob(scene, key, content="Another"))
        assert (came.status, json.loads(came.body)["code"]) == (422, "idempotency_key_reused")


async def test_a_key_of_one_way_is_known_to_the_other(line: Line, scene: Scene) -> None:
    """What was done one way is replayed the other."""
    for first, second in (((), (ANOTHER_FORM,)), ((ANOTHER_FORM,), ())):
        asked = to_bob(scene, ("Idempotency-Key", new_key()))
        done = await line.answer(asked, *first)
        replayed = await line.answer(asked, *second)
        assert (done.status, replayed.status) == (201, 201)
        assert replayed.body == done.body
        assert replayed.value(b"idempotency-replayed") == b"true"


async def test_a_token_that_has_been_good_is_refused_the_same(
    server: ServerHere, line: Line, scene: Scene
) -> None:
    """Expired, or of a session that has ended, which two 401s tell apart."""
    asked = get(scene.alice, "/users/me")
    assert (await line.both(asked)).status == 200
    other = await log_in(server, scene.http, "Bob")
    expect(await scene.alice.ask("POST", "/auth/logout"), 204)
    came = await line.both(asked)
    assert (came.status, json.loads(came.body)["code"]) == (401, "session_revoked")
    server.clock.advance(hours=1)
    came = await line.both(get(other, "/users/me"))
    assert (came.status, json.loads(came.body)["code"]) == (401, "token_expired")


async def test_too_many_requests_are_refused_the_same(quick: list[str]) -> None:
    """429 with Retry-After; the two ways take from one bucket."""
    limits = Limits(request_rate=Rate(0.01, 2), login_rate=Rate(0.01, 1))
    async with (
        serving(limits, rate_limits=True) as server,
        browser(server) as http,
        line_to(server, quick) as line,
    ):
        alice = await register(server, http, "Alice")
        asked = get(alice, "/users/me")
        assert (await line.both(asked)).status == 200
        for refused in (asked, asked.but(("Origin", ORIGIN))):
            came = await refused_both_ways(line, refused)
            assert (came.status, json.loads(came.body)["code"]) == (429, "too_many_requests")
            assert 90 <= int(came.value(b"retry-after") or b"") <= 100
        assert (await line.answer(log_in_with())).status == 200
        assert (await refused_both_ways(line, log_in_with())).status == 429


async def refused_both_ways(line: Line, asked: Asks) -> Came:
    """The same both ways, but for the time that has passed in between."""

    def timeless(came: Came) -> Came:
        lengthless = tuple(
            told for told in came.fields if not told.startswith((b"content-length", b"retry-"))
        )
        return evolve(came, fields=lengthless, body=re.sub(rb"in [0-9.]+ s", b"soon", came.body))

    plain, other = await line.answers(asked)
    assert shown(timeless(plain)) == shown(timeless(other))
    return plain


@pytest.mark.parametrize("status", [500, 503])
async def test_our_own_faults_look_the_same(
    server: ServerHere, line: Line, scene: Scene, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The connection goes on after either."""
    asked = get(scene.alice, "/chats").but(("Origin", ORIGIN))
    with monkeypatch.context() as patch:
        if status == 500:
            patch.setattr(server.messaging, "read", None)
            came = await line.both(asked)
        else:
            server.messaging.hub.draining = True
            came = await line.both(Asks("GET", "/ready", (ID, ("Origin", ORIGIN))))
            server.messaging.hub.draining = False
        assert came.status == status
        assert came.value(b"connection") is None
    assert (await line.both(asked)).status == 200


# --- what callers vary --------------------------------------------------------------------------------------

QUERIES = [
    "/users/search?tag=bob",
    "/users/search?tag=%40bob",
    "/users/search?tag=%62%6F%62",
    "/users/search?tag=@BOB",
    "/users/search?tag=b+o+b",
    "/users/search?tag=%20bob%20",
    "/users/search?tag=%D0%B1%D0%BE%D0%B1",
    "/users/search?tag=%FF",
    "/users/search?tag=%zz",
    "/users/search?tag=%",
    "/users/search?tag=%00",
    "/users/search?tag=%0D%0Aset-cookie:%20a",
    "/users/search?tag=",
    "/users/search?tag",
    "/users/search?",
    "/users/search",
    "/users/search?tag=bob&tag=alice",
    "/users/search?&&tag=bob&",
    "/users/search?tag=bob;x=y",
    "/users/search?t%61g=bob",
    "/users/search?tag=bob&unknown=1",
    "/users/search?tag=a=b",
    "/messages?chat_id=1",
    "/messages?chat_id=%31",
    "/messages?chat_id=+1",
    "/messages?chat_id=01",
    "/messages?chat_id=1.0",
    "/messages?chat_id=x",
    "/messages?chat_id=1&limit=1&before_id=5",
    "/messages?chat_id=1&limit=-1",
    "/messages?chat_id=1&limit=99999999999999999999",
    "/messages?chat_id=1&around_id=1&limit=3",
    "/users/me?x=%C3%A4",
]


async def test_queries_are_read_the_same(line: Line, scene: Scene) -> None:
    """Escapes, repetitions, what is missing, what is nonsense."""
    came = await line.all({target: get(scene.alice, target) for target in QUERIES})
    assert {one.status for one in came.values()} == {200, 404, 422}


IDS = ["r-2", "A.b_c-9", "x" * 64, "x" * 65, "", "a b", "a,b", "\xe4", '"', "<script>", "a;b", "r\t1"]


async def test_ids_of_requests_are_taken_the_same(line: Line, scene: Scene) -> None:
    """One that is fit to be one is told back; for another the server gives one of its own."""
    for target in ("/users/me", "/users/999"):
        asked = {
            told: Asks("GET", API + target, (("X-Request-ID", told), bearer(scene.alice))) for told in IDS
        }
        for told, came in (await line.all(asked)).items():
            given = (came.value(b"x-request-id") or b"").decode()
            if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", told):
                assert given == told
            else:
                assert re.fullmatch("[0-9a-f]{16}", given)


VARIED: dict[str, Callable[[Scene], Fields]] = {
    "no id": lambda _: (),
    "two ids": lambda _: (ID, ("X-Request-ID", "r-2")),
    "two ids, one of them empty": lambda _: (ID, ("X-Request-ID", "")),
    "two tokens": lambda scene: (ID, bearer(scene.bob)),
    "two origins": lambda _: (ID, ("Origin", ORIGIN), ("Origin", "https://other.example")),
    "an origin twice": lambda _: (ID, ("Origin", ORIGIN), ("Origin", ORIGIN)),
    "an empty origin": lambda _: (ID, ("Origin", "")),
    "an opaque origin": lambda _: (ID, ("Origin", "null")),
    "an origin beyond ASCII": lambda _: (ID, ("Origin", "http://\xe4\xff")),
    "an origin with a tab": lambda _: (ID, ("Origin", "http://a\tb")),
    "names in capitals": lambda _: (("X-REQUEST-ID", "r-1"), ("ORIGIN", ORIGIN)),
    "a kept connection": lambda _: (ID, ("Keep-Alive", "timeout=5")),
    "cookies": lambda _: (ID, ("Cookie", "a=b"), ("Cookie", "c=d")),
    "what a proxy adds": lambda _: (
        ID,
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=1.2.3.4"),
    ),
    "another method": lambda _: (ID, ("X-HTTP-Method-Override", "DELETE")),
    "conditions": lambda _: (
        ID,
        ("If-None-Match", "*"),
        ("If-Modified-Since", "Mon, 04 Nov 2024 00:00:00 GMT"),
    ),
    "a range": lambda _: (ID, ("Range", "bytes=0-1")),
    "what it takes": lambda _: (ID, ("Accept", "text/html"), ("Accept-Encoding", "gzip, br")),
}


async def test_header_fields_are_read_the_same(line: Line, scene: Scene) -> None:
    """Repeated, empty, unusual, or meant for somebody else."""
    for target in ("/users/me", "/users/999"):
        asked = Asks("GET", API + target, (bearer(scene.alice),))
        await line.all({name: asked.but(*fields(scene)) for name, fields in VARIED.items()})


BODIES: dict[str, tuple[Fields, bytes]] = {
    "a character set": ((("Content-Type", "application/json; charset=utf-8"),), b"{}"),
    "capitals": ((("Content-Type", "APPLICATION/JSON"),), b"{}"),
    "a kind of JSON": ((("Content-Type", "application/problem+json"),), b"{}"),
    "no kind": ((), b"{}"),
    "two kinds": ((JSON, ("Content-Type", "text/plain")), b"{}"),
    "two times one kind": ((JSON, JSON), b"{}"),
    "white space": ((JSON,), b" \r\n\t{} \r\n"),
    "a byte order mark": ((JSON,), b"\xef\xbb\xbf{}"),
    "a name twice": ((JSON,), b'{"email": "a@b.c", "email": 1}'),
    "half a surrogate pair": ((JSON,), b'{"email": "\\ud800", "password": "xxxxxxxx"}'),
    "a null character": ((JSON,), b'{"email": "\\u0000", "password": "xxxxxxxx"}'),
    "a large one": ((JSON,), b'{"email": "' + b"x" * 60_000 + b'"}'),
    "a compressed one": ((JSON, ("Content-Encoding", "gzip")), b"\x1f\x8b\x08\x00"),
    "two keys": ((JSON, ("Idempotency-Key", "a"), ("Idempotency-Key", "b")), b"{}"),
    "an address of the sender's": ((JSON, ("User-Agent", "\xff" * 300)), b"{}"),
}


@pytest.mark.parametrize("path", ["/auth/login", "/auth/register", "/auth/refresh"])
async def test_bodies_are_read_the_same(line: Line, path: str) -> None:
    """Whatever they say they are, and whatever they are."""
    asked = {name: Asks("POST", API + path, (ID, *fields), body) for name, (fields, body) in BODIES.items()}
    came = await line.all(asked)
    assert {one.status for one in came.values()} == {400, 415, 422}


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_a_body_that_is_not_asked_for_is_ignored_the_same(
    line: Line, scene: Scene, method: str
) -> None:
    """By a reading endpoint, a deleting one, and one that takes no body."""
    path = {"GET": "/users/me", "DELETE": f"/messages/{scene.message}", "POST": "/auth/logout"}[method]
    person = scene.alice if method != "POST" else scene.bob
    asked = Asks(method, API + path, (ID, bearer(person), ("Idempotency-Key", "k")), b"{nonsense")
    came = await line.answer(asked)
    assert came.status == (200 if method == "GET" else 204)
    if method != "POST":  # by then the session has ended
        came = await line.both(asked)
    assert (await line.both(get(scene.alice, "/users/me"))).status == 200


# --- what is the framework's --------------------------------------------------------------------------------

FRAMEWORKS: dict[str, tuple[int, Asks]] = {
    "HEAD of an endpoint": (200, Asks("HEAD", "/health", (ID,))),
    "HEAD without a token": (401, Asks("HEAD", f"{API}/users/me", (ID,))),
    "OPTIONS": (200, Asks("OPTIONS", f"{API}/chats", (ID,))),
    "a preflight": (
        204,
        Asks("OPTIONS", f"{API}/chats", (ID, ("Origin", ORIGIN), ("Access-Control-Request-Method", "POST"))),
    ),
    "an unknown path": (404, Asks("GET", "/nothing", (ID,))),
    "an unknown path of the API": (404, Asks("GET", f"{API}/nothing", (ID,))),
    "a slash at the end": (404, Asks("GET", f"{API}/chats/", (ID,))),
    "a slash after a parent": (404, Asks("GET", f"{API}/users/", (ID,))),
    "two parts for a variable": (404, Asks("GET", f"{API}/users/1/2", (ID,))),
    "another case": (404, Asks("GET", "/HEALTH", (ID,))),
    "the wrong method": (405, Asks("DELETE", f"{API}/chats", (ID,))),
    "the wrong method on a variable": (405, Asks("PUT", f"{API}/messages/1", (ID,), b"{}")),
    "an unknown method": (405, Asks("BREW", "/health", (ID,))),
    "the socket's path": (404, Asks("GET", "/ws", (ID,))),
    "the description": (200, Asks("GET", "/openapi.json", (ID,))),
    "the client": (200, Asks("GET", "/", (ID,))),
    "a variable as it is declared": (401, Asks("GET", f"{API}/users/%7Buser_id%7D", (ID,))),
    "a path with escapes": (200, Asks("GET", "/%68ealth", (ID,))),
}


async def test_everything_else_is_left_to_the_framework(line: Line) -> None:
    """The quick path takes what is an endpoint's and nothing else, not even nearly."""
    came = await line.all({name: asked for name, (_, asked) in FRAMEWORKS.items()}, quick=False)
    assert {name: one.status for name, one in came.items()} == {
        name: status for name, (status, _) in FRAMEWORKS.items()
    }


async def test_a_body_that_is_too_large_is_left_to_the_framework(line: Line) -> None:
    """413 for one beyond the bound, and through ASGI what is larger than a whole request's."""
    large = Asks("POST", f"{API}/auth/login", (ID, JSON), b" " * 70_000)
    assert (await line.both(large, quick=False)).status == 400


# --- at the end, and turned off -----------------------------------------------------------------------------


async def test_a_last_request_is_answered_the_same(
    server: ServerHere, quick: list[str], scene: Scene
) -> None:
    """One with `Connection: close`, as probes send it, takes the quick path, and no byte differs."""
    asked = get(scene.alice, "/users/me")
    quick.clear()
    async with line_to(server, quick) as one, line_to(server, quick) as two:
        plain = await one.answer(asked, ("Connection", "close"))
        other = await two.answer(asked, ("Connection", "close, x"))
        assert (await one.peer.end(), await two.peer.end()) == (b"", b"")
    assert quick == ["GET /api/v1/users/me"]
    assert plain.value(b"Connection") == b"close"
    assert plain == other


async def test_at_the_end_the_answers_are_the_same(
    server: ServerHere, quick: list[str], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request in flight is answered with `connection: close`, in the same place."""
    asked = get(scene.alice, "/users/me")
    expect(await scene.alice.ask("GET", "/users/me"), 200)
    quick.clear()
    going_on, begun, read = trio.Event(), list[int](), server.messaging.read

    async def slow(query: Any) -> Any:
        begun.append(1)
        await going_on.wait()
        return await read(query)

    monkeypatch.setattr(server.messaging, "read", slow)
    came = dict[str, Came]()

    async def ask(way: str, line: Line, *more: tuple[str, str]) -> None:
        came[way] = await line.answer(asked, *more)

    async with line_to(server, quick) as one, line_to(server, quick) as two, trio.open_nursery() as nursery:
        nursery.start_soon(ask, "plain", one)
        nursery.start_soon(ask, "other", two, ANOTHER_FORM)
        while len(begun) < 2:
            await trio.lowlevel.checkpoint()
        server.shutdown.set()
        await trio.testing.wait_all_tasks_blocked()
        going_on.set()
    assert len(quick) == 1
    assert came["plain"].value(b"connection") == b"close"
    assert came["plain"] == came["other"]


async def test_it_can_be_turned_off(quick: list[str]) -> None:
    """`quick_path` off: not one request takes it, and all are answered."""
    async with (
        serving(listener=ListenerConfig(quick_path=False)) as server,
        browser(server) as http,
        line_to(server, quick) as line,
    ):
        alice = await register(server, http, "Alice")
        assert (await line.answer(get(alice, "/users/me"))).status == 200
        async with alice.socket() as socket:
            bob = await register(server, http, "Bob")
            await bob.send(await bob.direct_chat_with(alice))
            assert (await socket.frame())["event"] == "message.created"
    assert not quick

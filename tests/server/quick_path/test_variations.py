"""Variations of requests are parsed equally on both ways."""

import re
from collections.abc import Callable

import pytest

from adapters.http_api.endpoints import API
from tests.server.calls import Scene
from tests.server.clients import ORIGIN
from tests.server.quick_path.both_ways import ID, JSON, ExactRequest, Fields, Line, bearer, get

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
    "/users/me?_x=%C3%A4",
]


async def test_queries_are_parsed_equally(line: Line, scene: Scene) -> None:
    """Escapes, repetitions, missing and malformed parameters."""
    responses = await line.all({target: get(scene.alice, target) for target in QUERIES})
    assert {one.status for one in responses.values()} == {200, 404, 422}


IDS = ["r-2", "A.b_c-9", "x" * 64, "x" * 65, "", "a b", "a,b", "\xe4", '"', "<script>", "a;b", "r\t1"]


async def test_request_ids_are_handled_equally(line: Line, scene: Scene) -> None:
    """A valid id is returned; for any other the server generates one."""
    for target in ("/users/me", "/users/999"):
        requests = {
            request_id: ExactRequest("GET", API + target, (("X-Request-ID", request_id), bearer(scene.alice)))
            for request_id in IDS
        }
        for request_id, response in (await line.all(requests)).items():
            returned = (response.value(b"x-request-id") or b"").decode()
            if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", request_id):
                assert returned == request_id
            else:
                assert re.fullmatch("[0-9a-f]{16}", returned)


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


async def test_header_fields_are_parsed_equally(line: Line, scene: Scene) -> None:
    """Repeated, empty, unusual and irrelevant header fields."""
    for target in ("/users/me", "/users/999"):
        request = ExactRequest("GET", API + target, (bearer(scene.alice),))
        await line.all({name: request.but(*fields(scene)) for name, fields in VARIED.items()})


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
    "one that says that it is not": ((JSON, ("Content-Encoding", "Identity, ,")), b"{}"),
    "two keys": ((JSON, ("Idempotency-Key", "a"), ("Idempotency-Key", "b")), b"{}"),
    "an address of the sender's": ((JSON, ("User-Agent", "\xff" * 300)), b"{}"),
}


@pytest.mark.parametrize("path", ["/auth/login", "/auth/register", "/auth/refresh"])
async def test_bodies_are_parsed_equally(line: Line, path: str) -> None:
    """Bodies of any content type and any contents."""
    requests = {
        name: ExactRequest("POST", API + path, (ID, *fields), body) for name, (fields, body) in BODIES.items()
    }
    responses = await line.all(requests)
    assert {one.status for one in responses.values()} == {400, 415, 422}


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_an_unneeded_body_is_ignored_equally(line: Line, scene: Scene, method: str) -> None:
    """By endpoints that read, that delete, and that have no body."""
    path = {"GET": "/users/me", "DELETE": f"/messages/{scene.message}", "POST": "/auth/logout"}[method]
    person = scene.alice if method != "POST" else scene.bob
    request = ExactRequest(method, API + path, (ID, bearer(person), ("Idempotency-Key", "k")), b"{nonsense")
    response = await line.response(request)
    assert response.status == (200 if method == "GET" else 204)
    if method != "POST":  # by then the session has ended
        response = await line.both(request)
    assert (await line.both(get(scene.alice, "/users/me"))).status == 200

"""Whatever comes in, the answer is a clear refusal, nothing is half-done, and the server goes on.

That no answer is a 5xx, and that each error has its form, is checked of every answer by `clients.browser`.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio
from jsonschema import Draft202012Validator

from adapters.quart_app.endpoints import Auth, Endpoint
from adapters.quart_app.openapi import describe
from adapters.quart_app.routes import ENDPOINTS
from messaging_core.limits import Limits
from tests.server.calls import CALLS, Scene
from tests.server.clients import (
    BROKEN_OFF,
    PROBLEM_KEYS,
    Person,
    collect_what_was_broken_off,
    expect,
    new_key,
)
from tests.server.servers import PATIENCE, ServerHere

DESCRIPTION = describe(ENDPOINTS, Limits())


@pytest.fixture
async def scene(alice: Person, bob: Person, chat: int) -> Scene:
    sent = await alice.send(chat)
    expect(await bob.ask("GET", "/users/me"), 200)  # what the first use of a token changes has changed
    return Scene(alice, bob, chat, sent["id"])


# --- values of every kind in every field of every body ------------------------------------------------------


def nested(levels: int, opening: str = "[", closing: str = "]", innermost: str = "") -> str:
    return opening * levels + innermost + closing * levels


VALUES = [
    *("null", "true", "false", "[]", "{}", "[1]", '["x"]', '{"a":1}', "[null]", "[[1]]", '[{"id":1}]'),
    *("0", "-0", "1", "-1", "0.0", "1.0", "1.5", "1e0", "1e308", "-1e308", "1e400", "1e-400"),
    *(str(number) for number in (2**31, 2**53, 2**53 - 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400)),
    *('""', '" "', '"1"', '"true"', '"null"', '"x"', '"\\u0000"', '"a\\u0000b"', '"\\n"', '"\\u2028"'),
    *('"\\ud800"', '"\\udfff\\ud800"', '"a\\ud83d"', '"\\ud83d\\ude00"', '"\\u202e"', '"ß"', '"@"', '"a@b"'),
    *(f'"{"x" * length}"' for length in (129, 255, 4001, 40_000, 500_000)),
    *('"a@\\u0000"', '"https://"', '"javascript:alert(1)"', '"http://\\ud800"', '"http://a b"'),
    *(nested(levels) for levels in (33, 500, 1_500, 100_000)),
    *(nested(levels, '{"a":', "}", "1") for levels in (31, 32, 33, 500, 1_500, 100_000)),
    *(f'{{"a":{value}}}' for value in ("1e400", "10" * 200, str(2**64), str(-(2**63) - 1), str(2**64 - 1))),
    *('{"a":"\\ud800"}', '{"\\ud800":1}', '{"\\u0000":1}', '{"":{"":[]}}', '{"a":1,"a":2}', '{"a":-0.0}'),
    *('{"a":"%s"}' % (piece * 16_380) for piece in ("xx", "ж", "\\u00e9", "\\n", "\\ud83d\\ude00")),
    json.dumps(list(range(1, 1200))),
    json.dumps([1] * 1200),
    *("NaN", "Infinity", "-Infinity", "undefined", "'x'", "01", "+1", ".5", "1.", "0x10", "1_000", '"\t"'),
    *('"\\x41"', '"\\u12"', '"unclosed', "[1,]", '{"a":}', "//", "tru", "1 2", '{"a" 1}', "{a:1}"),
]
RAW_VALUES = [
    *(value.encode() for value in VALUES),
    *(
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xc0\xaf"',
        b'"\xf5\x80\x80\x80"',
        b'"\xe2\x82"',
        b'"\x00"',
        b"\xef\xbb\xbf1",
    ),
]

WITH_BODY = [endpoint for endpoint in ENDPOINTS if endpoint.has_body]
FIELDS = [(endpoint, name) for endpoint in WITH_BODY for name in endpoint.body_fields]


def schema_of(endpoint: Endpoint, name: str) -> Draft202012Validator:
    operation = DESCRIPTION["paths"][endpoint.path][endpoint.method.lower()]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]["properties"][name]
    return Draft202012Validator({**schema, "components": DESCRIPTION["components"]})


def must_be_refused(schema: Draft202012Validator, raw: bytes) -> bool:
    """Whether the value is no JSON, or none that the schema of its field takes."""
    try:
        value = json.loads(raw, parse_constant=lambda _: pytest.fail)
    except (ValueError, RecursionError):
        return True
    if isinstance(value, float):  # to JSON Schema 1.0 is an integer; to this API it is not
        return True
    return not schema.is_valid(value)


def path_of(endpoint: Endpoint, values: dict[str, Any]) -> str:
    path = endpoint.path
    for name in endpoint.path_names:
        path = path.replace(f"{{{name}}}", str(values.pop(name)))
    return path


@pytest.mark.parametrize(("endpoint", "field"), FIELDS, ids=[f"{e.name}-{name}" for e, name in FIELDS])
async def test_every_value_in_every_field(
    server: ServerHere, scene: Scene, endpoint: Endpoint, field: str
) -> None:
    """A value that the field's schema does not take is refused, by the field's name, and changes nothing."""
    schema = schema_of(endpoint, field)
    for raw in RAW_VALUES:
        values = dict(CALLS[endpoint.name](scene))
        path = path_of(endpoint, values)
        body = json.dumps({**values, field: "@@"}).encode().replace(b'"@@"', raw)
        headers = {"Content-Type": "application/json", "Idempotency-Key": new_key()}
        if endpoint.auth is Auth.SESSION:
            headers["Authorization"] = f"Bearer {scene.alice.access_token}"
        before = server.state()
        response = await scene.http.request(
            endpoint.method, f"{server.address}{path}", content=body, headers=headers
        )
        told = f"{raw[:100]!r}: {response.status_code} {response.text[:200]}"
        if response.status_code >= 400:
            assert server.state() == before, told
        if must_be_refused(schema, raw):
            assert response.status_code in {400, 422}, told
        if response.status_code == 422:
            named = {error["field"].partition(".")[0] for error in response.json()["errors"]}
            assert named == {field}, told
    await reads_well(scene)


async def reads_well(scene: Scene) -> None:
    """What has been stored on the way can be read by everybody whom it concerns."""
    for person in (scene.alice, scene.bob):
        for path in ("/users/me", "/chats", f"/messages?chat_id={scene.chat}"):
            expect(await person.ask("GET", path), 200)


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=lambda endpoint: endpoint.name)
async def test_every_field_left_out(server: ServerHere, scene: Scene, endpoint: Endpoint) -> None:
    """A required field that is missing is named; all that are missing are named at once."""
    schema = DESCRIPTION["paths"][endpoint.path][endpoint.method.lower()]["requestBody"]
    required = schema["content"]["application/json"]["schema"]["required"]
    values = dict(CALLS[endpoint.name](scene))
    path = path_of(endpoint, values)
    headers = {"Authorization": f"Bearer {scene.alice.access_token}"}
    address = f"{server.address}{path}"
    before = server.state()
    for name in required:
        left = {key: value for key, value in values.items() if key != name}
        body = expect(await scene.http.request(endpoint.method, address, json=left, headers=headers), 422)
        assert [(error["field"], error["code"]) for error in body["errors"]] == [(name, "required")]
    if required:
        body = expect(await scene.http.request(endpoint.method, address, json={}, headers=headers), 422)
        assert {error["field"] for error in body["errors"]} == set(required)
    assert server.state() == before


# --- bodies that are wrong as a whole -----------------------------------------------------------------------

BODIES = [
    *(b"", b" ", b"\x00", b"{", b"}", b"[", b"null", b"true", b"1", b'"x"', b"[]", b"[{}]", b"{}{}", b"{},"),
    *(
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"\xff":1}',
        "{}".encode("utf-16"),
        "{}".encode("utf-32"),
        b"email=a&b=c",
    ),
    *(nested(levels).encode() for levels in (10, 1_000, 10_000, 500_000)),
    *(nested(levels, '{"a":', "}", "1").encode() for levels in (1_000, 100_000)),
    b"[" * 1_000_000,
    b"1" * 1_000_000,
    b'"' + b"x" * 1_000_000 + b'"',
    b"<?xml version='1.0'?><a/>",
]


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=lambda endpoint: endpoint.name)
async def test_bodies_that_are_no_object(server: ServerHere, scene: Scene, endpoint: Endpoint) -> None:
    """No JSON is a 400, JSON that is no object a 422; nothing is changed."""
    headers = {"Authorization": f"Bearer {scene.alice.access_token}", "Content-Type": "application/json"}
    path = path_of(endpoint, dict(CALLS[endpoint.name](scene)))
    before = server.state()
    for content in BODIES:
        response = await scene.http.request(
            endpoint.method, f"{server.address}{path}", content=content, headers=headers
        )
        assert response.status_code in {400, 422}, (content[:20], response.text[:200])
    assert server.state() == before


@pytest.mark.parametrize(
    "kind",
    [
        *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png"),
        *("application/xml", "/", ";", "json", "application/json-seq", "text/json", '"application/json"'),
    ],
)
async def test_wrong_content_types(server: ServerHere, scene: Scene, kind: str) -> None:
    """What does not say that it is JSON is a 415, though it may look like it."""
    body = json.dumps({"chat_id": scene.chat, "type": "text", "content": "x"}).encode()
    headers = {"Authorization": f"Bearer {scene.alice.access_token}", "Content-Type": kind}
    before = server.state()
    response = await scene.http.post("/messages", content=body, headers=headers)
    expect(response, 415, "unsupported_media_type")
    assert server.state() == before


@pytest.mark.parametrize(
    "kind",
    [
        *("application/json", "application/json; charset=utf-8", "APPLICATION/JSON;charset=UTF-8", None),
        *("application/json; charset=nonsense", "application/problem+json", "application/json;"),
    ],
)
async def test_content_types_of_json(scene: Scene, kind: str | None) -> None:
    """JSON is UTF-8 (RFC 8259 8.1) whatever the parameter says; a body without a type is taken for JSON."""
    body = '{"chat_id": %d, "type": "text", "content": "ж"}' % scene.chat  # noqa: UP031 - braces
    headers = {"Authorization": f"Bearer {scene.alice.access_token}"}
    if kind is not None:
        headers["Content-Type"] = kind
    sent = expect(await scene.http.post("/messages", content=body.encode(), headers=headers), 201)
    assert sent["content"] == "ж"


class Pieces(httpx.AsyncByteStream):
    """A body in pieces, which ends well when the server has heard enough."""

    def __init__(self, size: int, piece: int = 65_536) -> None:
        self._left = size
        self._piece = piece

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._left <= 0:
            raise StopAsyncIteration
        taken = min(self._left, self._piece)
        self._left -= taken
        return b" " * taken


@BROKEN_OFF
@pytest.mark.parametrize("told", [True, False], ids=["content-length", "chunked"])
@pytest.mark.parametrize("size", [1_048_577, 3_000_000, 20_000_000])
async def test_bodies_over_a_mebibyte(server: ServerHere, scene: Scene, size: int, told: bool) -> None:
    """413, which a client that is still sending gets to see; nothing is changed."""
    headers = {"Authorization": f"Bearer {scene.alice.access_token}", "Content-Type": "application/json"}
    if told:
        headers["Content-Length"] = str(size)
    before = server.state()
    response = await scene.http.post("/messages", content=Pieces(size), headers=headers)
    collect_what_was_broken_off()
    expect(response, 413, "body_too_large")
    assert server.state() == before
    expect(await scene.alice.ask("GET", "/users/me"), 200)


async def test_a_body_of_just_a_mebibyte(scene: Scene) -> None:
    """The limit itself is allowed."""
    body = json.dumps({"chat_id": scene.chat, "type": "text", "content": "x"}).encode()
    headers = {"Authorization": f"Bearer {scene.alice.access_token}", "Content-Type": "application/json"}
    expect(await scene.http.post("/messages", content=body.ljust(1_048_576), headers=headers), 201)


async def test_unknown_fields_are_ignored(scene: Scene) -> None:
    """A client may be newer than its server, or send what it likes besides."""
    body = {"chat_id": scene.chat, "type": "text", "content": "x", "author_id": 2, "id": 7, "constructor": {}}
    sent = expect(await scene.alice.ask("POST", "/messages", body), 201)
    assert sent["author_id"] == scene.alice.id
    assert sent["id"] != 7


@pytest.mark.parametrize("field", ["email", "password"])
async def test_text_that_is_slow_to_normalise(scene: Scene, field: str) -> None:
    """Unicode orders a run of accents in time by the square of its length: no log-in may stop the server."""
    body = {"email": "alice@test.com", "password": "x", field: "e" + "\u0300\u0316" * 100_000}
    with trio.fail_after(PATIENCE / 2):  # undisturbed: some milliseconds; normalised: half a minute
        expect(await scene.http.post("/auth/login", json=body), 422, "validation_failed")


# --- paths, queries, headers --------------------------------------------------------------------------------

NUMBERS = [
    *(
        "0",
        "-1",
        "-0",
        "+1",
        "1.0",
        "1e3",
        "0x1",
        "01",
        "1_000",
        "abc",
        "true",
        "null",
        "NaN",
        "Infinity",
        "%C2%BD",
    ),
    *(str(number) for number in (2**53, 2**63, 2**64, 10**30, -(2**63), 10**400)),
    *(
        "%00",
        "1%00",
        "%ff",
        "%c0%af",
        "%ed%a0%80",
        "%zz",
        "%",
        "%1",
        "%20",
        "1%20",
        "%0a1",
        "%D9%A1",
        "%EF%BC%91",
    ),
    *("' OR 1=1--", "%27", "<script>", "%2e%2e%2f", "a" * 5000, "1;2", "1,2", "[1]", "{1}", "*"),
]
PATHS = [endpoint for endpoint in ENDPOINTS if endpoint.path_names]
QUERIES = [
    (endpoint, name) for endpoint in ENDPOINTS if endpoint.method == "GET" for name in endpoint.body_fields
]


@pytest.mark.parametrize("endpoint", PATHS, ids=lambda endpoint: endpoint.name)
async def test_every_value_in_every_path(server: ServerHere, scene: Scene, endpoint: Endpoint) -> None:
    """What is no identifier is a 422, what nobody has a 404; nothing is changed."""
    headers = {"Authorization": f"Bearer {scene.alice.access_token}"}
    before = server.state()
    for value in NUMBERS:
        if value == "01":
            continue  # the first of them all, with a nought before it
        (name,) = endpoint.path_names
        path = endpoint.path.replace(f"{{{name}}}", value)
        body = {"content": "x"} if endpoint.has_body else None
        address = httpx.URL(server.address).copy_with(raw_path=path.encode())
        response = await scene.http.request(endpoint.method, address, json=body, headers=headers)
        assert response.status_code in {404, 405, 422}, (value, response.text[:200])
    assert server.state() == before


@pytest.mark.parametrize(("endpoint", "name"), QUERIES, ids=[f"{e.name}-{name}" for e, name in QUERIES])
async def test_every_value_in_every_query(
    server: ServerHere, scene: Scene, endpoint: Endpoint, name: str
) -> None:
    """A parameter that is not what it should be is a 422 with its name; a tag that nobody has a 404."""
    for value in [*NUMBERS, "", "x" * 8_000]:
        if value == "01":
            continue
        told = {**CALLS[endpoint.name](scene)}
        for other in ("limit", "before_id"):  # only the parameter in question, and what is required
            told.pop(other, None)
        told.pop(name, None)
        query = "&".join([f"{name}={value}", *(f"{key}={kept}" for key, kept in told.items())])
        address = httpx.URL(server.address).copy_with(raw_path=f"{endpoint.path}?{query}".encode())
        headers = {"Authorization": f"Bearer {scene.alice.access_token}"}
        response = await scene.http.get(address, headers=headers)
        if name == "tag":
            assert response.status_code in {404, 422}, (value, response.text[:200])
        else:
            expect(response, 422, "validation_failed")
            assert [error["field"] for error in response.json()["errors"]] == [name]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("?", 422),
        ("?x", 422),
        ("?chat_id", 422),
        ("?chat_id=", 422),
        ("?%", 422),
        ("?%zz=%zz&%ff=%00", 422),
        ("?=&&&==&", 422),
        ("?chat_id[]=1", 422),
        ("?chat_id=1&x", 200),
        ("?chat_id=1&", 200),
        ("?chat_id=1&chat_id=1", 200),
        ("?chat_id=1&unknown=%ff%00", 200),
        ("?chat_id=1&limit=1&limit=2", 200),
        ("?chat_id=1&limit=0", 422),
        ("?chat_id=1&limit=200", 200),
        ("?chat_id=1&limit=201", 422),
        ("?chat_id=1&before_id=1&after_id=1", 422),
        ("?chat_id=1&before_id=9007199254740991", 200),
        ("?chat_id=1&after_id=9007199254740991", 200),
        ("?chat_id=1&around_id=9007199254740991", 200),
        ("?chat_id=1&" + "a=1&" * 2_000, 200),
        ("?chat_id=1#fragment", 200),
        ("?chat%5Fid=1", 200),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_queries_as_a_whole(server: ServerHere, scene: Scene, query: str, status: int) -> None:
    """Queries that are no pairs, name a thing twice, or bring more than is known."""
    address = f"{server.address}/api/v1/messages{query}"
    expect(
        await scene.http.get(address, headers={"Authorization": f"Bearer {scene.alice.access_token}"}), status
    )


@pytest.mark.parametrize(
    "value",
    [
        *("", "Bearer", "bearer", "Bearerx", "Basic dTpw", "Digest", "Bearer null", "Bearer undefined"),
        *(
            "Bearer a b",
            "Bearer ..",
            "Bearer a.b.c",
            "Bearer eyJhbGciOiJub25lIn0.e30.",
            "token",
            "Bearer " + "a" * 8_000,
        ),
        *(
            b"\xff\xfe",
            "Bearer ключ".encode(),
            b"Bearer\tx",
            "Bearer %00",
            "Bearer eyJ9.e30.AA==",
        ),
        "Bearer eyJhbGciOiJIUzI1NiIsImtpZCI6WzFdfQ.e30.AA",
        "Bearer eyJhbGciOiJIUzI1NiIsImtpZCI6e319.e30.AA",
        "Bearer W10.W10.AA",
        "Bearer bnVsbA.bnVsbA.AA",
    ],
    ids=lambda value: str(value)[:60],
)
async def test_bad_authorization(server: ServerHere, scene: Scene, value: str | bytes) -> None:
    """Whatever stands there instead of a token is a 401."""
    before = server.state()
    expect(
        await scene.http.get("/chats", headers=[(b"Authorization", as_bytes(value))]), 401, "token_invalid"
    )
    assert server.state() == before


def as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


async def test_headers_that_come_twice(scene: Scene) -> None:
    """Two Authorization headers are one that is malformed; two keys are no key."""
    bearer = ("Authorization", f"Bearer {scene.alice.access_token}")
    expect(await scene.http.get("/chats", headers=[bearer, bearer]), 401, "token_invalid")
    body = json.dumps({"chat_id": scene.chat, "type": "text", "content": "x"})
    keys = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = await scene.http.post("/messages", content=body, headers=[bearer, *keys])
    expect(response, 400, "idempotency_key_invalid")


@pytest.mark.parametrize("request_id", ["x" * 65, "a b", "a\tb", "é".encode(), b"\xff", "", '{"a":1}', "%0a"])
async def test_request_ids_that_cannot_be_logged(http: httpx.AsyncClient, request_id: str | bytes) -> None:
    """A caller's request id comes back where it is a plain word; anything else is replaced."""
    response = await http.get("/users/me", headers=[(b"X-Request-ID", as_bytes(request_id))])
    assert response.headers["X-Request-ID"].isalnum()
    response = await http.get("/users/me", headers={"X-Request-ID": "my-id_1.2"})
    assert response.headers["X-Request-ID"] == "my-id_1.2"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"params": {"a": "a" * 20_000}}, 414),
        ({"headers": {"Authorization": "a" * 20_000}}, 431),
        ({"headers": {f"X-{number}": "a" for number in range(200)}}, 431),
        ({"headers": {"Idempotency-Key": "\x7f"}}, 400),
    ],
    ids=["query", "header", "headers", "control character"],
)
async def test_heads_that_are_too_much(server: ServerHere, sent: dict[str, Any], status: int) -> None:
    """A head that no application should see is refused in the same form, and its connection closed."""
    async with httpx.AsyncClient(verify=False) as client:  # noqa: S501
        response = await client.get(f"{server.address}/api/v1/chats", **sent)
        assert response.status_code == status
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.headers["Connection"] == "close"
        assert response.headers["Access-Control-Allow-Origin"] == "*"  # its Origin was never read
        assert list(response.json()) == PROBLEM_KEYS
        assert (await client.get(f"{server.address}/health")).status_code == 200


# --- bytes that no well-behaved client sends ----------------------------------------------------------------

HANDSHAKE = (
    b"GET /ws?token=x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
LOGIN = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
HOSTILE = {
    "nothing": b"",
    "line noise": b"\x00\xff\x16\x03\x01\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303"),
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 64,
    "HTTP/2 upgrade": UPGRADE + b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "a length below zero": LOGIN + b"Content-Length: -1\r\n\r\n",
    "two lengths": LOGIN + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "length and chunks": LOGIN + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunks": LOGIN + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    "a body that stops": LOGIN + b"Content-Length: 100\r\n\r\n{",
    "endless headers": b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 20_000,
    "an endless line": b"GET /" + b"a" * 200_000,
    "an endless query": b"GET /health?" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in a header": b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
    "bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "an absolute address": b"GET http://x/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bad absolute address": b"GET http://[x/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bad host": b"GET /api/v1/chats HTTP/1.1\r\nHost: \xff[::\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"FROB /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "handshake with bytes in a header": HANDSHAKE + b"X-A: \xff\xfe\r\n\r\n",
    "handshake with bytes in the origin": HANDSHAKE + b"Origin: \xff\xfe\r\n\r\n",
    "handshake with bytes in the subprotocol": HANDSHAKE + b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
    "handshake with bytes in the query": HANDSHAKE.replace(b"token=x", b"token=\xff") + b"\r\n",
    "handshake, then data at once": HANDSHAKE + b"\r\n" + b"\x81\x85\x00\x00\x00\x00hello" * 100,
    "handshake, then noise": HANDSHAKE + b"\r\n" + b"\xff" * 1000,
    "handshake elsewhere": HANDSHAKE.replace(b"/ws?", b"/api/v1/chats?") + b"\r\n",
    "handshake nowhere": HANDSHAKE.replace(b"/ws?", b"/nothing?") + b"\r\n",
    "handshake of another version": HANDSHAKE.replace(b"13", b"8") + b"\r\n",
    "handshake without a key": HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X-Key") + b"\r\n",
    "handshake by POST": HANDSHAKE.replace(b"GET", b"POST") + b"\r\n",
    "no handshake": b"GET /ws?token=x HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_the_server_survives(server: ServerHere, scene: Scene, name: str) -> None:
    """The worst that a peer can reach is the end of its own connection; the fault is told to be its own."""
    url = httpx.URL(server.address)
    for leaves_at_once in (False, True):
        stream = await trio.open_tcp_stream(url.host, url.port or 80)
        async with stream:
            answer = b""
            with trio.move_on_after(PATIENCE):
                try:
                    await stream.send_all(HOSTILE[name])
                    if not leaves_at_once:
                        await stream.send_eof()
                        answer = b"".join([piece async for piece in stream])
                except trio.BrokenResourceError:
                    pass  # the server has left
        assert answer[9:12] not in {b"500", b"503"}, answer[:500]
    expect(await scene.alice.ask("GET", "/users/me"), 200)
    async with scene.alice.socket() as socket:
        sent = await scene.bob.send(scene.chat)
        assert (await socket.message())["id"] == sent["id"]

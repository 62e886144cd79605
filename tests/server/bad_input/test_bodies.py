"""Malformed bodies: their form, their content type, their size."""

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from adapters.http_api.endpoints import Endpoint
from tests.server.bad_input.bodies import WITH_BODY, is_too_large, nested
from tests.server.calls import CALLS, Scene, path_of
from tests.server.clients import OPEN_ITERATORS, collect_open_iterators, expect
from tests.server.servers import ServerHere

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
    """A body that is not JSON is a 400, one that is no object a 422, one over its bound a 413."""
    headers = {"Authorization": f"Bearer {scene.alice.access_token}", "Content-Type": "application/json"}
    path = path_of(endpoint, dict(CALLS[endpoint.name](scene)))
    before = server.state()
    for content in BODIES:
        if content == b"" and not endpoint.needs_body:
            continue
        response = await scene.http.request(
            endpoint.method, f"{server.address}{path}", content=content, headers=headers
        )
        statuses = {413} if is_too_large(endpoint, content) else {400, 422}
        assert response.status_code in statuses, (content[:20], response.text[:200])
    assert server.state() == before


@pytest.mark.parametrize(
    "kind",
    [
        *("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/png"),
        *("application/xml", "/", ";", "json", "application/json-seq", "text/json", '"application/json"'),
    ],
)
async def test_content_types_other_than_json(server: ServerHere, scene: Scene, kind: str) -> None:
    """A content type other than JSON is a 415, also if the body is JSON."""
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
    """JSON is UTF-8 (RFC 8259 8.1) whatever its charset; a body without a content type counts as JSON."""
    body = '{"chat_id": %d, "type": "text", "content": "ж"}' % scene.chat  # noqa: UP031 - braces
    headers = {"Authorization": f"Bearer {scene.alice.access_token}"}
    if kind is not None:
        headers["Content-Type"] = kind
    sent = expect(await scene.http.post("/messages", content=body.encode(), headers=headers), 201)
    assert sent["content"] == "ж"


class Pieces(httpx.AsyncByteStream):
    """A body in pieces; the server may stop reading before its end."""

    def __init__(self, size: int, piece: int = 65_536) -> None:
        self._left = size
        self._piece = piece

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._left <= 0:
            raise StopAsyncIteration
        size_of_piece = min(self._left, self._piece)
        self._left -= size_of_piece
        return b" " * size_of_piece


@OPEN_ITERATORS
@pytest.mark.parametrize("has_length", [True, False], ids=["content-length", "chunked"])
@pytest.mark.parametrize("size", [1_048_577, 3_000_000, 20_000_000])
async def test_bodies_over_a_mebibyte(server: ServerHere, scene: Scene, size: int, has_length: bool) -> None:
    """A body over the bound is a 413, which the client receives while it still sends; nothing changes."""
    headers = {"Authorization": f"Bearer {scene.alice.access_token}", "Content-Type": "application/json"}
    if has_length:
        headers["Content-Length"] = str(size)
    before = server.state()
    response = await scene.http.post("/messages", content=Pieces(size), headers=headers)
    collect_open_iterators()
    expect(response, 413, "body_too_large")
    assert server.state() == before
    expect(await scene.alice.ask("GET", "/users/me"), 200)


async def test_a_body_of_just_a_mebibyte(scene: Scene) -> None:
    """A body of exactly the bound is accepted."""
    body = json.dumps({"chat_id": scene.chat, "type": "text", "content": "x"}).encode()
    headers = {"Authorization": f"Bearer {scene.alice.access_token}", "Content-Type": "application/json"}
    expect(await scene.http.post("/messages", content=body.ljust(1_048_576), headers=headers), 201)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b'{"email":"\xff"}', "The body is not UTF-8 (byte 10)."),
        ('{"é":"é'.encode() + b'\xff"}', "The body is not UTF-8 (byte 9)."),
        (b'{"email":"\\ud83d"}', "The body is not JSON: it ends with half of an escaped surrogate pair."),
        (b'{"email":"\\ud83d\\n"}', "The body is not JSON: it ends with half of an escaped surrogate pair."),
        (b'{"email":"\\\\ud83d', "The body is not JSON: Input data was truncated."),
        (b'{"email":"x', "The body is not JSON: Input data was truncated."),
        (
            b"\xef\xbb\xbf{}",
            "The body is not JSON: it begins with a byte-order mark (EF BB BF); send it without.",
        ),
    ],
)
async def test_errors_describe_the_body(http: httpx.AsyncClient, body: bytes, detail: str) -> None:
    """Offsets count from the body's first byte, and a complete body is not called truncated."""
    headers = {"Content-Type": "application/json"}
    response = await http.post("/auth/login", content=body, headers=headers)
    assert expect(response, 400, "malformed_json")["detail"] == detail


@pytest.mark.parametrize("codings", ["gzip", "br", "identity, deflate", "GZIP", "nonsense\x80", "x" * 500])
async def test_an_encoded_body_is_refused(scene: Scene, codings: str) -> None:
    """415 names the coding and the accepted one (RFC 9110 12.5.3); encoded bytes are not parsed as JSON."""
    headers = {b"Content-Encoding": codings.encode("latin-1")}
    response = await scene.http.post("/auth/login", content=b"{}", headers=headers)
    detail = expect(response, 415, "unsupported_media_type")["detail"]
    assert detail.startswith("Send the body without Content-Encoding, not with ")
    assert len(detail) < 200
    assert response.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("value", "place"), [(b"1e999", "payload"), (b"-1e999", "payload"), (b"1" * 5000, "payload")]
)
async def test_a_number_out_of_range_is_named(scene: Scene, value: bytes, place: str) -> None:
    """A valid JSON number beyond the range is refused with its field."""
    body = b'{"chat_id": 1, "type": "text", "content": "x", "payload": {"a": [%b]}}' % value
    headers = {"Authorization": f"Bearer {scene.alice.access_token}"}
    response = await scene.http.post("/messages", content=body, headers=headers)
    (error,) = expect(response, 422, "validation_failed")["errors"]
    assert (error["field"], error["code"]) == (place, "out_of_range")

"""A body is read only if its sender may send it, and only up to its bound, on every way."""

import json

import pytest

from adapters.http_api.endpoints import API, Auth, Endpoint
from adapters.http_api.routes import ENDPOINTS
from adapters.listener.whole_requests import MAX_BODY
from adapters.quart_app.config import HttpConfig
from tests.listener.harness import RawPeer, RawResponse
from tests.server.calls import CALLS, Scene, path_of
from tests.server.clients import ORIGIN, expect, new_key
from tests.server.quick_path.both_ways import ANOTHER_FORM, bearer, get, line_to
from tests.server.servers import ServerHere

WITHOUT_TOKEN = HttpConfig().body_bytes_without_token
OF_MEMBERS = [each for each in ENDPOINTS if each.has_body and each.auth is Auth.SESSION]
OF_ANYBODY = [each for each in ENDPOINTS if each.has_body and each.auth is Auth.NONE]

LENGTH = ("Content-Length", "20")
WAYS = {
    "short": (LENGTH,),
    "framework": (LENGTH, ANOTHER_FORM),
    "large": (("Content-Length", str(MAX_BODY + 1)),),
    "chunked": (("Transfer-Encoding", "chunked"),),
}


def head(method: str, path: str, *fields: tuple[str, str]) -> bytes:
    kind = ("Content-Type", "application/json")
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in (kind, *fields))]
    return "\r\n".join([*lines, "Host: test", "", ""]).encode()


def code(response: RawResponse) -> str:
    return str(json.loads(response.body)["code"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("endpoint", OF_MEMBERS, ids=lambda endpoint: endpoint.name)
async def test_a_refused_token_gets_its_response_before_the_body(
    server: ServerHere, scene: Scene, endpoint: Endpoint, way: str
) -> None:
    """A 401 in its usual form follows the head, before the body."""
    path = path_of(endpoint, dict(CALLS[endpoint.name](scene)))
    origin = ("Origin", ORIGIN)
    async with line_to(server, []) as line:
        missing = await line.peer.ask(head(endpoint.method, path, origin, *WAYS[way]))
        assert (missing.status, code(missing)) == (401, "token_missing")
        assert missing.headers["www-authenticate"] == "Bearer"
        assert missing.headers["access-control-allow-origin"] == ORIGIN
    async with line_to(server, []) as line:
        wrong = ("Authorization", "Bearer x")
        refused = await line.peer.ask(head(endpoint.method, path, wrong, *WAYS[way]))
        assert (refused.status, code(refused)) == (401, "token_invalid")


@pytest.mark.parametrize("way", WAYS)
async def test_the_connection_continues_after_the_unread_body(
    server: ServerHere, scene: Scene, way: str
) -> None:
    """The rest of the unread body is dropped, and the next request gets its response."""
    size = MAX_BODY + 1 if way == "large" else 20
    body = b"x" * size if way != "chunked" else b"14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n"
    async with line_to(server, []) as line:
        assert (await line.peer.ask(head("POST", f"{API}/messages", *WAYS[way]))).status == 401
        await line.peer.send(body)
        assert (await line.response(get(scene.alice, "/users/me"))).status == 200


@pytest.mark.parametrize("way", ["short", "framework"])
async def test_a_401_from_the_head_consumes_no_key(server: ServerHere, scene: Scene, way: str) -> None:
    """The client refreshes, and repeats the request with its key (P2)."""
    key = ("Idempotency-Key", new_key())
    body = json.dumps({"chat_id": scene.chat, "type": "text", "content": "Hello"}).encode()
    fields = (("Content-Length", str(len(body))), *WAYS[way][1:], key)
    async with line_to(server, []) as line:
        for status in (401, 201):
            token = () if status == 401 else (bearer(scene.alice),)
            await line.peer.send(head("POST", f"{API}/messages", *fields, *token), body)
            response = await line.peer.response()
            assert response.status == status
            assert "idempotency-replayed" not in response.headers


async def test_a_session_that_ends_during_the_body_is_refused(server: ServerHere, scene: Scene) -> None:
    """The token is checked again with the body: the moment of the decision counts."""
    async with line_to(server, []) as line:
        await line.peer.send(head("POST", f"{API}/messages", LENGTH, bearer(scene.alice)))
        expect(await scene.alice.ask("POST", "/auth/logout"), 204)
        response = await line.peer.ask(b"x" * 20)
        assert (response.status, code(response)) == (401, "session_revoked")


async def refused_as_too_large(peer: RawPeer, most: int) -> None:
    """Check for a 413 that says how much is allowed, and for the end of the connection."""
    response = await peer.response()
    assert (response.status, code(response)) == (413, "body_too_large")
    assert f"larger than {most} bytes" in json.loads(response.body)["detail"]
    assert response.headers["connection"] == "close"
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert await peer.end() == b""


@pytest.mark.parametrize("endpoint", OF_ANYBODY, ids=lambda endpoint: endpoint.name)
async def test_requests_without_a_token_have_small_bodies(server: ServerHere, endpoint: Endpoint) -> None:
    """413 follows the Content-Length, or the chunk beyond the bound; no more bytes are read."""
    origin, path = ("Origin", ORIGIN), endpoint.path
    async with line_to(server, []) as line:
        await line.peer.send(head("POST", path, origin, ("Content-Length", str(WITHOUT_TOKEN + 1))))
        await refused_as_too_large(line.peer, WITHOUT_TOKEN)
    async with line_to(server, []) as line:
        await line.peer.send(head("POST", path, origin, *WAYS["chunked"]))
        await line.peer.send(b"%x\r\n" % (WITHOUT_TOKEN + 1) + b" " * (WITHOUT_TOKEN + 1))
        await refused_as_too_large(line.peer, WITHOUT_TOKEN)
    async with line_to(server, []) as line:
        for more in ((), (ANOTHER_FORM,)):
            await line.peer.send(head("POST", path, ("Content-Length", str(WITHOUT_TOKEN)), *more))
            response = await line.peer.ask(b" " * WITHOUT_TOKEN)
            assert (response.status, code(response)) == (400, "malformed_json")


async def test_a_body_beyond_the_bound_is_refused_by_its_length_alone(
    server: ServerHere, scene: Scene
) -> None:
    most = HttpConfig().body_bytes
    token, origin = bearer(scene.alice), ("Origin", ORIGIN)
    async with line_to(server, []) as line:
        length = ("Content-Length", str(most + 1))
        await line.peer.send(head("POST", f"{API}/messages", token, origin, length))
        await refused_as_too_large(line.peer, most)

"""Refusals are equal on both ways."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve

from adapters.http_api.endpoints import API
from messaging_core.limits import Limits, Rate
from tests.server.calls import OTHERS_CHAT, Scene
from tests.server.clients import ORIGIN, PASSWORD, browser, expect, log_in, new_key, register
from tests.server.quick_path.both_ways import (
    ANOTHER_FORM,
    ID,
    JSON,
    ExactRequest,
    ExactResponse,
    Line,
    bearer,
    get,
    line_to,
    sent,
    shown,
)
from tests.server.servers import ServerHere, serving

RequestIn = Callable[[Scene], ExactRequest]


def to_bob(scene: Scene, *fields: tuple[str, str], body: Any = None, **values: Any) -> ExactRequest:
    message = {"chat_id": scene.chat, "type": "text", "content": "Hello!", **values}
    return sent("POST", "/messages", message if body is None else body, bearer(scene.alice), *fields)


def log_in_with(**values: Any) -> ExactRequest:
    return sent("POST", "/auth/login", {"email": "alice@test.com", "password": PASSWORD, **values})


def to_login(body: bytes, *fields: tuple[str, str]) -> ExactRequest:
    return ExactRequest("POST", f"{API}/auth/login", (ID, *fields), body)


def as_nobody(*fields: tuple[str, str]) -> ExactRequest:
    return ExactRequest("GET", f"{API}/users/me", (ID, *fields))


REFUSED: dict[str, tuple[int, str, RequestIn]] = {
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
    "history of others": (
        403,
        "not_a_participant",
        lambda scene: get(scene.alice, f"/messages?chat_id={OTHERS_CHAT}"),
    ),
    "another's message": (
        403,
        "not_the_author",
        lambda scene: ExactRequest("DELETE", f"{API}/messages/{scene.message}", (ID, bearer(scene.bob))),
    ),
    "an unknown user": (404, "user_not_found", lambda scene: get(scene.alice, "/users/999")),
    "an unknown tag": (404, "user_not_found", lambda scene: get(scene.alice, "/users/search?tag=nobody")),
    "an unknown chat": (404, "chat_not_found", lambda scene: get(scene.alice, "/chats/999")),
    "an unknown message": (
        404,
        "message_not_found",
        lambda scene: ExactRequest("DELETE", f"{API}/messages/999", (ID, bearer(scene.alice))),
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
    "nobody's number": (422, "validation_failed", lambda scene: get(scene.alice, "/users/0")),
    "a number of a thousand digits": (
        422,
        "validation_failed",
        lambda scene: get(scene.alice, f"/users/{'1' * 1000}"),
    ),
    "an integer beyond 64 bits": (
        422,
        "validation_failed",
        lambda scene: to_bob(scene, payload={"a": [2**63]}),
    ),
    "a number beyond all": (
        422,
        "validation_failed",
        lambda scene: to_bob(scene, body=b'{"chat_id": 1, "payload": {"a": 1e999}}'),
    ),
    "an integer of thousands of digits": (
        422,
        "validation_failed",
        lambda scene: to_bob(scene, body=b'{"chat_id": 1, "payload": {"a": %b}}' % (b"1" * 5000)),
    ),
    "a number beyond all in no object": (422, "validation_failed", lambda _: to_login(b"[1e999]", JSON)),
    "a byte-order mark": (400, "malformed_json", lambda _: to_login(b"\xef\xbb\xbf{}", JSON)),
    "an encoded body": (
        415,
        "unsupported_media_type",
        lambda _: to_login(b"\x1f\x8b", JSON, ("Content-Encoding", "identity, GZIP")),
    ),
    "an unknown parameter": (
        422,
        "unknown_parameter",
        lambda scene: get(scene.alice, "/messages?chat_id=1&offset=50"),
    ),
    "a parameter where none is taken": (
        422,
        "unknown_parameter",
        lambda _: ExactRequest("GET", "/health?x", (ID,)),
    ),
    "a parameter beside a body": (
        422,
        "unknown_parameter",
        lambda scene: evolve(to_bob(scene), target=f"{API}/messages?chat_id=1"),
    ),
    "a parameter of a deletion": (
        422,
        "unknown_parameter",
        lambda scene: ExactRequest("DELETE", f"{API}/messages/999?force=1", (ID, bearer(scene.alice))),
    ),
}


@pytest.mark.parametrize("origin", [None, ORIGIN], ids=["of no page", "of a page"])
async def test_every_refusal_is_equal(line: Line, scene: Scene, origin: str | None) -> None:
    """Status, header fields, body and the request's id in the log are equal."""
    carol = await register(scene.alice.server, scene.http, "Carol")
    assert await carol.direct_chat_with(scene.bob) == OTHERS_CHAT
    requests = {name: asking(scene) for name, (_, _, asking) in REFUSED.items()}
    if origin is not None:
        requests = {name: one.but(("Origin", origin)) for name, one in requests.items()}
    responses = await line.all(requests)
    statuses = {name: (one.status, json.loads(one.body)["code"]) for name, one in responses.items()}
    assert statuses == {name: (status, code) for name, (status, code, _) in REFUSED.items()}
    for one in responses.values():
        assert json.loads(one.body)["request_id"] == "r-1"
        assert one.value(b"content-type") == b"application/problem+json"


async def test_a_deleted_message_is_a_conflict(line: Line, scene: Scene) -> None:
    """409 for an author who edits a deleted message."""
    path = f"/messages/{scene.message}"
    expect(await scene.alice.ask("DELETE", path), 204)
    response = await line.both(sent("PATCH", path, {"content": "x"}, bearer(scene.alice)))
    assert (response.status, json.loads(response.body)["code"]) == (409, "message_deleted")


async def test_a_key_for_another_request_is_refused(line: Line, scene: Scene) -> None:
    """422, on whichever way the key was used first."""
    for way in ((), (ANOTHER_FORM,)):
        key = ("Idempotency-Key", new_key())
        assert (await line.response(to_bob(scene, key), *way)).status == 201
        response = await line.both(to_bob(scene, key, content="Another"))
        assert (response.status, json.loads(response.body)["code"]) == (422, "idempotency_key_reused")


async def test_a_key_counts_on_both_ways(line: Line, scene: Scene) -> None:
    """A request on one way is replayed on the other."""
    for first, second in (((), (ANOTHER_FORM,)), ((ANOTHER_FORM,), ())):
        request = to_bob(scene, ("Idempotency-Key", new_key()))
        done = await line.response(request, *first)
        replayed = await line.response(request, *second)
        assert (done.status, replayed.status) == (201, 201)
        assert replayed.body == done.body
        assert replayed.value(b"idempotency-replayed") == b"true"


async def test_a_token_that_was_valid_is_refused_equally(
    server: ServerHere, line: Line, scene: Scene
) -> None:
    """An expired token and one of an ended session get different 401s, equal on both ways."""
    request = get(scene.alice, "/users/me")
    assert (await line.both(request)).status == 200
    other = await log_in(server, scene.http, "Bob")
    expect(await scene.alice.ask("POST", "/auth/logout"), 204)
    response = await line.both(request)
    assert (response.status, json.loads(response.body)["code"]) == (401, "session_revoked")
    server.clock.advance(hours=1)
    response = await line.both(get(other, "/users/me"))
    assert (response.status, json.loads(response.body)["code"]) == (401, "token_expired")


async def test_too_many_requests_are_refused_equally(quick: list[str]) -> None:
    """429 with Retry-After; both ways use one bucket."""
    limits = Limits(request_rate=Rate(0.01, 2), login_rate=Rate(0.01, 1))
    async with (
        serving(limits, rate_limits=True) as server,
        browser(server) as http,
        line_to(server, quick) as line,
    ):
        alice = await register(server, http, "Alice")
        request = get(alice, "/users/me")
        assert (await line.both(request)).status == 200
        for refused in (request, request.but(("Origin", ORIGIN))):
            response = await refused_both_ways(line, refused)
            assert (response.status, json.loads(response.body)["code"]) == (429, "too_many_requests")
            assert 90 <= int(response.value(b"retry-after") or b"") <= 100
        assert (await line.response(log_in_with())).status == 200
        assert (await refused_both_ways(line, log_in_with())).status == 429


async def refused_both_ways(line: Line, request: ExactRequest) -> ExactResponse:
    """Equal except for the elapsed time."""

    def timeless(response: ExactResponse) -> ExactResponse:
        lengthless = tuple(
            each for each in response.fields if not each.startswith((b"content-length", b"retry-"))
        )
        return evolve(response, fields=lengthless, body=re.sub(rb"in [0-9.]+ s", b"soon", response.body))

    plain, other = await line.responses(request)
    assert shown(timeless(plain)) == shown(timeless(other))
    return plain


@pytest.mark.parametrize("status", [500, 503])
async def test_server_errors_are_equal(
    server: ServerHere, line: Line, scene: Scene, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """The connection continues after either."""
    request = get(scene.alice, "/chats").but(("Origin", ORIGIN))
    with monkeypatch.context() as patch:
        if status == 500:
            patch.setattr(server.messaging, "read", None)
            response = await line.both(request)
        else:
            server.messaging.hub.draining = True
            response = await line.both(ExactRequest("GET", "/ready", (ID, ("Origin", ORIGIN))))
            server.messaging.hub.draining = False
        assert response.status == status
        assert response.value(b"connection") is None
    assert (await line.both(request)).status == 200

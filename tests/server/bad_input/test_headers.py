"""Malformed, repeated and oversized header fields."""

import json
from typing import Any

import httpx
import pytest

from tests.patience import PATIENCE
from tests.server.calls import Scene
from tests.server.clients import PROBLEM_KEYS, expect
from tests.server.servers import ServerHere


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
    """A malformed Authorization header is a 401."""
    before = server.state()
    expect(
        await scene.http.get("/chats", headers=[(b"Authorization", as_bytes(value))]), 401, "token_invalid"
    )
    assert server.state() == before


def as_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


async def test_repeated_headers(scene: Scene) -> None:
    """Two Authorization headers are malformed, and so are two keys."""
    bearer = ("Authorization", f"Bearer {scene.alice.access_token}")
    expect(await scene.http.get("/chats", headers=[bearer, bearer]), 401, "token_invalid")
    body = json.dumps({"chat_id": scene.chat, "type": "text", "content": "x"})
    keys = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = await scene.http.post("/messages", content=body, headers=[bearer, *keys])
    expect(response, 400, "idempotency_key_invalid")


@pytest.mark.parametrize("request_id", ["x" * 65, "a b", "a\tb", "é".encode(), b"\xff", "", '{"a":1}', "%0a"])
async def test_request_ids(http: httpx.AsyncClient, request_id: str | bytes) -> None:
    """A caller's request id is returned if it is a plain word, and replaced otherwise."""
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
async def test_oversized_heads(server: ServerHere, sent: dict[str, Any], status: int) -> None:
    """A head over the listener's bounds is refused with a problem, and the connection closes."""
    async with httpx.AsyncClient(verify=False, timeout=PATIENCE) as client:  # noqa: S501
        response = await client.get(f"{server.address}/api/v1/chats", **sent)
        assert response.status_code == status
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.headers["Connection"] == "close"
        assert response.headers["Access-Control-Allow-Origin"] == "*"  # the Origin was not read
        assert list(response.json()) == PROBLEM_KEYS
        assert (await client.get(f"{server.address}/health")).status_code == 200

"""C1: pages of other origins can read every response."""

from collections.abc import Awaitable, Callable

import httpx
import pytest

from messaging_core.limits import Limits, Rate
from messaging_core.ports import StorageUnavailable
from tests.patience import PATIENCE
from tests.server.clients import (
    FAULTS_EXPECTED,
    OPEN_ITERATORS,
    PASSWORD,
    Person,
    browser,
    collect_open_iterators,
    expect,
    shows_cors,
)
from tests.server.servers import ServerHere, serving

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]

REQUESTS: dict[str, tuple[int, Ask]] = {
    "200": (200, lambda http: http.get("/health")),
    "HEAD without a token": (401, lambda http: http.head("/api/v1/chats")),
    "HEAD of what is there": (200, lambda http: http.head("/health")),
    "400 malformed JSON": (400, lambda http: http.post("/api/v1/auth/login", content=b"{")),
    "401 no token": (401, lambda http: http.get("/api/v1/chats")),
    "401 bad token": (401, lambda http: http.get("/api/v1/chats", headers={"Authorization": "Bearer x"})),
    "404 outside the API": (404, lambda http: http.get("/nothing")),
    "404 inside the API": (404, lambda http: http.get("/api/v1/nothing")),
    "308 trailing slash": (308, lambda http: http.get("/api/v1/chats/")),
    "405": (405, lambda http: http.delete("/api/v1/chats")),
    "413": (413, lambda http: http.post("/api/v1/auth/login", content=b" " * 1_048_577)),
    "415": (
        415,
        lambda http: http.post("/api/v1/auth/login", content=b"a=b", headers={"Content-Type": "text/plain"}),
    ),
    "422": (422, lambda http: http.post("/api/v1/auth/login", json={})),
    "a query that is no pair": (401, lambda http: http.get("/api/v1/chats?x")),
    "OPTIONS that is no preflight": (200, lambda http: http.options("/api/v1/chats")),
    "OPTIONS of a page": (200, lambda http: http.options("/docs")),
    "a page": (200, lambda http: http.get("/docs")),
    "a preflight": (
        204,
        lambda http: http.options("/api/v1/chats", headers={"Access-Control-Request-Method": "POST"}),
    ),
}


@OPEN_ITERATORS
@pytest.mark.parametrize("name", REQUESTS)
async def test_c1_every_status_is_readable_from_another_origin(
    stranger: httpx.AsyncClient, name: str
) -> None:
    """C1: a response of any status has Access-Control-Allow-Origin; and its request's id."""
    status, ask = REQUESTS[name]
    response = await ask(stranger)
    collect_open_iterators()
    assert response.status_code == status
    shows_cors(response)
    assert response.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("failure", "status"), [(RuntimeError("broken"), 500), (StorageUnavailable("full disk"), 503)]
)
async def test_c1_server_errors_are_readable_too(
    server: ServerHere, http: httpx.AsyncClient, alice: Person, failure: Exception, status: int
) -> None:
    """C1: a 500 and a 503 have the header too, so the page sees a status instead of a network error."""

    async def broken(*_: object, **__: object) -> object:
        raise failure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.messaging, "read", broken)
        response = await alice.ask("GET", "/chats", extensions=FAULTS_EXPECTED)
        shows_cors(response)
        expect(response, status, "internal_error" if status == 500 else "storage_unavailable")
        assert "broken" not in response.text
    expect(await alice.ask("GET", "/chats"), 200)


async def test_c1_429_is_readable_too() -> None:
    """C1: a 429 has the header, and allows the page to read Retry-After."""
    async with (
        serving(Limits(login_rate=Rate(0.001, 1)), rate_limits=True) as server,
        browser(server) as http,
    ):
        body = {"email": "alice@test.com", "password": PASSWORD}
        expect(await http.post("/auth/login", json=body), 401)
        response = await http.post("/auth/login", json=body)
        expect(response, 429, "too_many_requests")
        shows_cors(response)
        assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize("path", ["/api/v1/chats", "/api/v1/messages/1", "/api/v1/nothing", "/health"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "PUT", "DELETE"])
async def test_c1_preflight(stranger: httpx.AsyncClient, path: str, method: str) -> None:
    """C1: a preflight allows the method, and the headers of the known clients by name."""
    response = await stranger.options(
        path,
        headers={
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
        },
    )
    assert response.status_code == 204
    shows_cors(response)
    allowed = [name.strip().lower() for name in response.headers["Access-Control-Allow-Headers"].split(",")]
    assert {"authorization", "content-type", "idempotency-key"} <= set(allowed)
    assert method in response.headers["Access-Control-Allow-Methods"].split(", ")


@pytest.mark.parametrize("origin", ["null", "https://app.example", "capacitor://localhost"])
async def test_c1_any_origin_is_allowed_by_default(stranger: httpx.AsyncClient, origin: str) -> None:
    """C1: by default every origin is allowed, also that of a file or a phone app."""
    shows_cors(await stranger.get("/api/v1/chats", headers={"Origin": origin}), origin)


async def test_c1_other_origins_are_not_allowed_if_some_are_listed() -> None:
    """C1: with listed origins, only those get the headers; other origins still get responses."""
    async with (
        serving(cors_origins="https://app.example https://other.example") as server,
        httpx.AsyncClient(base_url=server.address, verify=False, timeout=PATIENCE) as client,  # noqa: S501
    ):
        for origin in ("https://app.example", "https://other.example"):
            shows_cors(await client.get("/health", headers={"Origin": origin}), origin)
        for headers in ({"Origin": "https://evil.example"}, {"Origin": "https://app.example.evil"}, {}):
            response = await client.get("/health", headers=headers)
            assert response.status_code == 200
            assert "Access-Control-Allow-Origin" not in response.headers
            assert response.headers["Vary"] == "Origin"

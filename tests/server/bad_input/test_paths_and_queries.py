"""Values of every kind in every path and query."""

import httpx
import pytest

from adapters.quart_app.endpoints import Endpoint
from adapters.quart_app.routes import ENDPOINTS
from tests.server.calls import CALLS, Scene
from tests.server.clients import expect
from tests.server.servers import ServerHere

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
    (endpoint, name) for endpoint in ENDPOINTS if endpoint.method == "GET" for name in endpoint.other_names
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


@pytest.mark.parametrize("number", [2**53, 10**19, 10**30, 10**400, -(10**30)], ids=lambda n: str(n)[:40])
async def test_a_number_is_a_number_however_large(scene: Scene, number: int) -> None:
    """In a path and in a query one that is out of range is told so, and not that it is no integer."""
    for path in (f"/users/{number}", f"/messages?chat_id={number}"):
        refusal = expect(await scene.alice.ask("GET", path), 422, "validation_failed")
        assert [error["code"] for error in refusal["errors"]] == ["out_of_range"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "//",
        "///",
        "//health",
        "//api/v1/users/me",
        "/api//v1/users/me",
        "/api/v1//users/me",
        "/api/v1/users//me",
        "/api/v1/users/me//",
        "/api/v1/users//1",
        "//other.example/api/v1/users/me",
        "//docs",
        "/client//main.js",
        "/%2Fhealth",
    ],
)
async def test_two_slashes_are_not_one(
    server: ServerHere, http: httpx.AsyncClient, path: str, method: str
) -> None:
    """Nothing is at such a path, and nothing sends elsewhere: it is refused as every unknown path is."""
    address = httpx.URL(server.address).copy_with(raw_path=path.encode())
    response = await http.request(method, address)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    if method != "HEAD":
        expect(response, 404, "not_found")

"""Values of every kind in every path and query."""

import httpx
import pytest

from adapters.http_api.endpoints import Endpoint
from adapters.http_api.routes import ENDPOINTS
from tests.patience import PATIENCE
from tests.server.calls import CALLS, Scene, path_of
from tests.server.clients import ORIGIN, expect
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
UNKNOWN = (422, "unknown_parameter")
PATHS = [endpoint for endpoint in ENDPOINTS if endpoint.path_names]
QUERIES = [
    (endpoint, name) for endpoint in ENDPOINTS if endpoint.method == "GET" for name in endpoint.other_names
]


@pytest.mark.parametrize("endpoint", PATHS, ids=lambda endpoint: endpoint.name)
async def test_every_value_in_every_path(server: ServerHere, scene: Scene, endpoint: Endpoint) -> None:
    """A number that is no valid id is a 422, other text a 404; nothing changes."""
    headers = {"Authorization": f"Bearer {scene.alice.access_token}"}
    before = server.state()
    for value in NUMBERS:
        if value == "01":
            continue  # 1 with a leading zero: valid
        for name in endpoint.path_names:
            values = dict(CALLS[endpoint.name](scene))
            path = path_of(endpoint, {**values, name: value})
            body = {each: values[each] for each in endpoint.other_names if each in values}
            address = httpx.URL(server.address).copy_with(raw_path=path.encode())
            sent = body if endpoint.has_body else None
            response = await scene.http.request(endpoint.method, address, json=sent, headers=headers)
            number = value.isascii() and value.isdigit()
            assert response.status_code == (422 if number else 404), (value, response.text[:200])
    assert server.state() == before


@pytest.mark.parametrize(("endpoint", "name"), QUERIES, ids=[f"{e.name}-{name}" for e, name in QUERIES])
async def test_every_value_in_every_query(
    server: ServerHere, scene: Scene, endpoint: Endpoint, name: str
) -> None:
    """An invalid parameter is a 422 with its name; an unknown tag is a 404."""
    for value in [*NUMBERS, "", "x" * 8_000]:
        if value == "01" or (name == "after_id" and value in {"0", "-0"}):
            continue
        parameters = {**CALLS[endpoint.name](scene)}
        path = path_of(endpoint, parameters)
        for other in ("limit", "before_id", "cursor"):  # keep only the required parameters
            parameters.pop(other, None)
        parameters.pop(name, None)
        query = "&".join(
            [f"{name}={value}", *(f"{key}={other_value}" for key, other_value in parameters.items())]
        )
        address = httpx.URL(server.address).copy_with(raw_path=f"{path}?{query}".encode())
        headers = {"Authorization": f"Bearer {scene.alice.access_token}"}
        response = await scene.http.get(address, headers=headers)
        if name == "tag":
            assert response.status_code in {404, 422}, (value, response.text[:200])
        else:
            expect(response, 422, "validation_failed")
            assert [error["field"] for error in response.json()["errors"]] == [name]


@pytest.mark.parametrize("path", ["/health", "/ready"])
@pytest.mark.parametrize(
    ("query", "status"), [("", 200), ("?", 200), ("?_=1732890000", 200), ("?ts=1732890000", UNKNOWN)]
)
async def test_a_probe_with_a_query(
    server: ServerHere, http: httpx.AsyncClient, path: str, query: str, status: int | tuple[int, str]
) -> None:
    """A probe may defeat caches by a parameter whose name starts with `_`; any other one is refused."""
    response = await http.get(f"{server.address}{path}{query}")
    expect(response, *(status if isinstance(status, tuple) else (status,)))


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 422),
        ("?", 422),
        ("?x", UNKNOWN),
        ("?chat_id", 422),
        ("?chat_id=", 422),
        ("?%", 422),
        ("?%zz=%zz&%ff=%00", UNKNOWN),
        ("?=&&&==&", UNKNOWN),
        ("?chat_id[]=1", UNKNOWN),
        ("?chat_id=1&x", UNKNOWN),
        ("?chat_id=1&_", 200),
        ("?chat_id=1&_x=1&__proto__=%ff", 200),
        ("?chat_id=1&", 200),
        ("?chat_id=1&chat_id=1", 200),
        ("?chat_id=1&unknown=%ff%00", UNKNOWN),
        ("?chat_id=1&limit=1&limit=2", 200),
        ("?chat_id=1&limit=x&limit=2", 200),
        ("?chat_id=1&limit=1&limit=x", 422),
        ("?chat_id=1&limit=0", 422),
        ("?chat_id=1&limit=200", 200),
        ("?chat_id=1&limit=201", 422),
        ("?chat_id=1&before_id=1&after_id=1", 422),
        ("?chat_id=1&before_id=9007199254740991", 200),
        ("?chat_id=1&after_id=9007199254740991", 200),
        ("?chat_id=1&after_id=0", 200),
        ("?chat_id=1&after_id=-1", 422),
        ("?chat_id=1&before_id=0", 422),
        ("?chat_id=1&around_id=0", 422),
        ("?chat_id=1&around_id=9007199254740991", 200),
        ("?chat_id=1&" + "a=1&" * 2_000, UNKNOWN),
        ("?" + "&".join(f"{name}a" for name in range(2_000)), UNKNOWN),
        ("?chat_id=1#fragment", 200),
        ("?chat%5Fid=1", 200),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_queries_as_a_whole(
    server: ServerHere, scene: Scene, query: str, status: int | tuple[int, str]
) -> None:
    """Malformed pairs, repeated parameters (the last counts), and unknown ones."""
    address = f"{server.address}/api/v1/messages{query}"
    response = await scene.http.get(address, headers={"Authorization": f"Bearer {scene.alice.access_token}"})
    if isinstance(status, int):
        expect(response, status)
    else:
        assert len(expect(response, *status)["errors"]) <= 5


@pytest.mark.parametrize(
    ("path", "name", "message"),
    [
        ("/messages?chat_id=1&befor_id=7", "befor_id", "did you mean before_id?"),
        ("/messages?chat_id=1&Limit=7", "Limit", "did you mean limit?"),
        ("/users/search?tag=bob&xyz", "xyz", "this path takes tag"),
        ("/chats?offset=100", "offset", "this path takes cursor, limit"),
        ("/chats/1?chat_id=1", "chat_id", "this path takes none"),
        (f"/users/me?{'x' * 4000}", "x" * 40, "this path takes none"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_an_unknown_parameter_is_named(scene: Scene, path: str, name: str, message: str) -> None:
    """The error names the nearest parameter; were `offset` ignored, each page would be the first again."""
    body = expect(await scene.alice.ask("GET", path), *UNKNOWN)
    error = {
        "field": name,
        "code": "unknown_parameter",
        "message": f"is no parameter of this path; {message}",
    }
    assert body["errors"] == [error]


async def test_after_id_0_is_the_beginning(scene: Scene) -> None:
    """`after_id=0` returns the oldest messages, and whether there are more."""
    ids = [scene.message, *[(await scene.alice.send(scene.chat))["id"] for _ in range(2)]]
    page = expect(await scene.alice.ask("GET", f"/messages?chat_id={scene.chat}&after_id=0&limit=2"), 200)
    assert [message["id"] for message in page["messages"]] == ids[1::-1]
    assert (page["has_more"], page["next_cursor"]) == (True, None)


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("/api/v1/users/me/", "/api/v1/users/me"),
        ("/api/v1/users/me/?x=%20&y=//evil", "/api/v1/users/me?x=%20&y=//evil"),
        ("/api/v1/users/%6De/", "/api/v1/users/%6De"),
        ("/api/v1/messages/7/", "/api/v1/messages/7"),
        ("/api/v1/chats/direct/", "/api/v1/chats/direct"),
        ("/health/", "/health"),
        ("/docs/", "/docs"),
        ("/openapi.json/", "/openapi.json"),
        ("/", None),
        ("//", None),
        ("//evil.example/", None),
        ("/\\evil.example/", None),
        ("/%2F/", None),
        ("/%2Fevil.example/", None),
        ("/evil.example/%2e%2e/", None),
        ("/api/v1/users/me//", None),
        ("/api/v1/users/me/%0d%0aset-cookie:a=b/", None),
        ("/api/v1/users/me%2F", None),
        ("/api/v1/nothing/", None),
        ("/api/v1/users/abc/", None),
        ("/ws/", None),
        ("/client/nothing/", None),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
async def test_a_trailing_slash_is_redirected(
    server: ServerHere, target: str, place: str | None, method: str
) -> None:
    """308 keeps method and query, also for other origins, and leads only to routes of this server."""
    address = httpx.URL(server.address).copy_with(raw_path=target.encode())
    async with httpx.AsyncClient(verify=False, headers={"Origin": ORIGIN}, timeout=PATIENCE) as http:  # noqa: S501
        response = await http.request(method, address)
        followed = await http.request(method, f"{server.address}{place or '/'}")
    if place is None:
        assert response.status_code in {200, 404, 405}
        assert "Location" not in response.headers
    else:
        assert (response.status_code, response.headers["Location"]) == (308, place)
        assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert response.content == b""
        assert followed.status_code != 404


@pytest.mark.parametrize("number", [2**53, 10**19, 10**30, 10**400, -(10**30)], ids=lambda n: str(n)[:40])
async def test_large_numbers_are_out_of_range(scene: Scene, number: int) -> None:
    """A number out of range is refused as such, not as "no integer", in paths and in queries."""
    for path in (f"/users/{abs(number)}", f"/messages?chat_id={number}"):
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
async def test_double_slashes_are_not_found(
    server: ServerHere, http: httpx.AsyncClient, path: str, method: str
) -> None:
    """A path with a double slash is a 404, like every unknown path, without a redirect."""
    address = httpx.URL(server.address).copy_with(raw_path=path.encode())
    response = await http.request(method, address)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    if method != "HEAD":
        expect(response, 404, "not_found")

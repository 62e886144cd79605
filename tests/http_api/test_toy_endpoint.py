"""One more endpoint: a command with a view, a declaration, and a place in the table; all else follows."""

import json
from typing import Any

import pytest
import trio
from attrs import evolve, field, frozen

from adapters.http_api.api import HttpApi
from adapters.http_api.config import ApiConfig
from adapters.http_api.endpoints import API, Endpoint, Reads
from adapters.http_api.exchange import HttpRequest, HttpResponse
from adapters.http_api.openapi import describe
from adapters.http_api.routes import ENDPOINTS
from adapters.http_api.views import View
from adapters.http_api.wire import encode
from adapters.runtime import Hub
from adapters.storage_memory import MemoryStorage
from messaging_core.commands import RegisterUser
from messaging_core.ids import UserId
from messaging_core.limits import Limits, Rate
from messaging_core.operations import Context, Query
from messaging_core.privacy import Privacy
from tests.bus.world import plain_messaging

# --- the three places ---


@frozen
class GetToy:
    """A command."""

    toy_id: UserId
    colour: str | None = field(default=None)


class ToyJson(View, frozen=True, gc=False):
    """A view."""

    id: UserId
    colour: str | None


def get_toy(command: GetToy, context: Context) -> Query[GetToy]:
    return lambda _: command


def toy_json(found: GetToy) -> ToyJson:
    return ToyJson(found.toy_id, found.colour)


TOY = Endpoint(
    method="GET",
    path=f"{API}/toys/{{toy_id}}/colour",
    summary="A toy",
    command=GetToy,
    does=Reads(get_toy, toy_json),
    response=ToyJson,
)
TABLE = (*ENDPOINTS, TOY)

# --- where it is found ---

PATH = f"{API}/toys/5/colour"
ORIGIN = "https://app.example"
LIMITS = Limits(request_rate=Rate(per_second=0.001, burst=2))


@frozen
class Toys:
    """The API with the toy, and a signed-in user's header fields."""

    api: HttpApi
    headers: dict[str, str]

    def request(
        self, method: str = "GET", path: str = PATH, query: bytes = b"", **headers: str
    ) -> HttpRequest:
        added = {name.replace("_", "-"): value for name, value in headers.items()}
        fields = {**self.headers, "origin": ORIGIN, **added}
        return HttpRequest(method, path, query, fields, client="192.0.2.1")

    async def respond(self, *parts: Any, **more: Any) -> HttpResponse:
        """The response as a framework's binding gets it."""
        request = self.request(*parts, **more)
        return await self.api.respond(request, no_body, raw_path=request.path.encode())


async def no_body(most_bytes: int) -> bytes | None:
    raise AssertionError("a request without a body is answered without reading one")


@pytest.fixture
async def toys() -> Toys:
    messaging = plain_messaging(MemoryStorage(), Hub(LIMITS, encode), limits=LIMITS)
    command = RegisterUser("alice@test.com", "password123", "Alice")
    registered = await messaging.register(
        command, device="", network="", key=None, path="", privacy=Privacy()
    )
    api = HttpApi(messaging, ApiConfig(cors_origins=(ORIGIN,)), trio.current_time, TABLE)
    token = registered.result.tokens.access_token
    return Toys(api, {"authorization": f"Bearer {token}", "x-request-id": "r-1"})


async def test_it_is_dispatched(toys: Toys) -> None:
    """On the quick path and for a framework, with the same response."""
    whole = toys.request(query=b"colour=red")
    route = toys.api.route(whole.method, whole.path)
    assert route is not None
    assert await route.refusal(whole) is None
    response = await route.respond(whole)
    assert (response.status, json.loads(response.body)) == (200, {"id": 5, "colour": "red"})
    assert await toys.respond(query=b"colour=red") == response
    assert (await toys.respond("HEAD")).status == 429


async def test_it_has_cors(toys: Toys) -> None:
    """Its responses can be read by pages of the allowed origins, and a preflight is answered."""
    assert dict((await toys.respond()).headers)["access-control-allow-origin"] == ORIGIN
    assert ("access-control-allow-origin", "") not in (await toys.respond(origin="https://other")).headers
    preflight = await toys.respond("OPTIONS", access_control_request_method="GET")
    assert preflight.status == 204
    assert dict(preflight.headers)["access-control-allow-origin"] == ORIGIN


async def test_it_is_limited(toys: Toys) -> None:
    """By the rates that its declaration names, or the default."""
    statuses = [(await toys.respond()).status for _ in range(3)]
    assert statuses == [200, 200, 429]


async def test_it_is_refused_as_every_endpoint_is(toys: Toys) -> None:
    """Without a token, with an unknown parameter, at a wrong method, and with a slash too many."""
    stranger = evolve(toys, headers={"x-request-id": "r-1"})
    request = stranger.request()
    route = toys.api.route("GET", PATH)
    assert route is not None
    refused = await route.refusal(request)
    assert refused == await stranger.respond()
    assert refused is not None
    assert refused.status == 401
    assert (await toys.respond(query=b"color=red")).status == 422
    other = await toys.respond("DELETE")
    assert (other.status, dict(other.headers)["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert dict((await toys.respond("OPTIONS")).headers)["allow"] == "GET, HEAD, OPTIONS"
    moved = await toys.respond(path=f"{PATH}/", query=b"colour=red")
    assert (moved.status, dict(moved.headers)["location"]) == (308, f"{PATH}?colour=red")
    assert (await toys.respond(path=f"{API}/toys/x/colour")).status == 404


def test_it_is_described() -> None:
    """OpenAPI has its path, its parameters, its response and its refusals."""
    described = describe(TABLE, Limits())
    operation = described["paths"][TOY.path]["get"]
    assert operation["operationId"] == "GetToy"
    assert [each["name"] for each in operation["parameters"]] == ["toy_id", "colour"]
    content = operation["responses"]["200"]["content"]["application/json"]
    assert content["schema"] == {"$ref": "#/components/schemas/Toy"}
    assert described["components"]["schemas"]["Toy"]["required"] == ["id", "colour"]
    assert {"401", "422", "429", "503"} <= operation["responses"].keys()

"""Each endpoint's declaration and its behaviour agree."""

import re
from collections.abc import Iterator
from itertools import count
from typing import Any, get_args, get_type_hints

import attrs
import httpx
import pytest
import trio
from jsonschema import Draft202012Validator
from msgspec import Struct
from structlog.testing import capture_logs

from adapters.http_api.endpoints import Auth, Cost, Endpoint, Per
from adapters.http_api.problem_json import ProblemJson
from adapters.http_api.problems import status_of
from adapters.http_api.routes import ENDPOINTS
from adapters.http_api.routes import messages as message_routes
from adapters.http_api.views import View
from adapters.listener import ListenerConfig, parse_proxies
from messaging_core import errors, operations
from messaging_core.errors import Refused
from messaging_core.frames import PlainFrame
from messaging_core.limits import Limits, Rate
from messaging_core.operations import Query
from tests.patience import PATIENCE
from tests.server.calls import CALLS, Scene, call
from tests.server.clients import PASSWORD, browser, expect, new_key, register
from tests.server.servers import ServerHere, ServerProcess, process, serving

BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}

each_endpoint = pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)


@pytest.fixture(params=[True, False], ids=["quick path", "framework"])
def quick_path(request: pytest.FixtureRequest) -> bool:
    """The declarations hold on both ways: through the framework and on the quick path."""
    return bool(request.param)


@pytest.fixture
async def description(server: ServerHere, http: httpx.AsyncClient) -> Any:
    async with httpx.AsyncClient(verify=False, timeout=PATIENCE) as stranger:  # noqa: S501
        return (await stranger.get(f"{server.address}/openapi.json")).json()


def refusals(of: type[Refused] = Refused) -> Iterator[type[Refused]]:
    for class_ in of.__subclasses__():
        yield class_
        yield from refusals(class_)


# --- declarations ---


def rendered_classes(type_: Any) -> Iterator[type]:
    """The classes that JSON of this type is rendered from."""
    if isinstance(type_, type) and (attrs.has(type_) or issubclass(type_, Struct)):
        yield type_
        for part in get_type_hints(type_).values():
            yield from rendered_classes(part)
    for part in get_args(type_):
        yield from rendered_classes(part)


@each_endpoint
def test_responses_are_views(endpoint: Endpoint) -> None:
    """No response renders a model of the domain, whose new fields would appear on the wire."""
    for rendered in (endpoint.response, ProblemJson):
        assert all(issubclass(class_, View) for class_ in rendered_classes(rendered))


def test_frames_have_no_slots() -> None:
    """A frame has its fields in the declared order, in which slots would not be."""
    for class_ in rendered_classes(PlainFrame):
        assert "__slots__" not in vars(class_)


async def test_a_hidden_email_is_described(description: Any) -> None:
    """The description says that an e-mail may be null, and that its key is present."""
    schema = description["components"]["schemas"]["UserView"]
    assert schema["properties"]["email"]["type"] == ["string", "null"]
    assert "email" in schema["required"]


def test_endpoints_are_distinct() -> None:
    """A method on a path, and an operation's name, belong to one endpoint."""
    assert len({(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}) == len(ENDPOINTS)
    assert len(BY_NAME) == len(ENDPOINTS)


def test_every_endpoint_has_a_call() -> None:
    """Every endpoint has an entry in `CALLS`, so that the tests below cover it."""
    assert set(CALLS) == set(BY_NAME)


@pytest.mark.parametrize("refusal", sorted(refusals(), key=str))
def test_every_refusal_has_a_status_and_a_code(refusal: type[Refused]) -> None:
    """Each refusal of a decision has a status, and a code that no other class has."""
    assert 400 <= status_of(refusal) < 500
    assert re.fullmatch(r"[a-z0-9_]+", refusal.code)
    if not refusal.__subclasses__():
        assert [other for other in refusals() if other.code == refusal.code] == [refusal]
        assert refusal.sentence.endswith(".")


# --- behaviour ---


@each_endpoint
async def test_a_call_gets_the_declared_response(scene: Scene, description: Any, endpoint: Endpoint) -> None:
    """A successful call has the declared status, and a body that fits its schema in the description."""
    response = await call(scene, endpoint)
    body = expect(response, endpoint.status)
    described = description["paths"][endpoint.path][endpoint.method.lower()]
    assert described["operationId"] == endpoint.name
    described_response = described["responses"][str(endpoint.status)]
    assert ("content" in described_response) == (body is not None)
    if body is not None:
        assert response.headers["Content-Type"] == "application/json"
        validate(body, described_response["content"]["application/json"]["schema"], description)


@pytest.mark.parametrize("name", ["ListMessages", "ListChats"])
async def test_arrays_are_described_too(scene: Scene, description: Any, name: str) -> None:
    """`GET /messages` and `GET /chats` without paging return an array, which the description has."""
    endpoint = BY_NAME[name]
    response = await call(scene, endpoint, {"chat_id": scene.chat} if name == "ListMessages" else {})
    body = expect(response, 200)
    assert isinstance(body, list)
    assert body
    schema = description["paths"][endpoint.path]["get"]["responses"]["200"]["content"]
    validate(body, schema["application/json"]["schema"], description)


def validate(body: Any, schema: Any, description: Any) -> None:
    whole = {**schema, "components": description["components"]}
    Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(body)


async def test_the_description_has_every_route(description: Any) -> None:
    """The description has exactly the endpoints, each with its security and its parameters."""
    described = {
        (method.upper(), path) for path, methods in description["paths"].items() for method in methods
    }
    assert described == {(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}
    for endpoint in ENDPOINTS:
        operation = description["paths"][endpoint.path][endpoint.method.lower()]
        assert ("security" in operation) == (endpoint.auth is Auth.SESSION)
        assert ("requestBody" in operation) == endpoint.has_body
        named = {parameter["name"] for parameter in operation["parameters"]}
        assert set(endpoint.path_names) <= named
        assert ("Idempotency-Key" in named) == endpoint.takes_key


@each_endpoint
async def test_tokens_are_required_as_declared(scene: Scene, endpoint: Endpoint) -> None:
    """Without a token, endpoints that need a session are a 401, and all others succeed."""
    response = await call(scene, endpoint, signed_in=False)
    if endpoint.auth is Auth.SESSION:
        expect(response, 401, "token_missing")
    else:
        expect(response, endpoint.status)


REFUSED: dict[str, tuple[str, dict[str, Any], type[Refused]]] = {
    "unknown chat": ("GetChat", {"chat_id": 999}, errors.ChatNotFound),
    "chat of others": ("GetChat", {"chat_id": 2}, errors.NotAParticipant),
    "unknown user": ("GetUser", {"user_id": 999}, errors.UserNotFound),
    "unknown tag": ("FindUserByTag", {"tag": "nobody"}, errors.UserNotFound),
    "history of an unknown chat": ("ListMessages", {"chat_id": 999}, errors.ChatNotFound),
    "history of others": ("ListMessages", {"chat_id": 2}, errors.NotAParticipant),
    "into an unknown chat": (
        "SendMessage",
        {"chat_id": 999, "type": "text", "content": "x"},
        errors.ChatNotFound,
    ),
    "into others' chat": (
        "SendMessage",
        {"chat_id": 2, "type": "text", "content": "x"},
        errors.NotAParticipant,
    ),
    "as the system": ("SendMessage", {"chat_id": 1, "type": "system", "content": "x"}, errors.Invalid),
    "no substance": ("SendMessage", {"chat_id": 1, "type": "text"}, errors.Invalid),
    "nothing but nulls": (
        "SendMessage",
        {"chat_id": 1, "type": "text", "content": None, "payload": None},
        errors.Invalid,
    ),
    "reply to nothing": (
        "SendMessage",
        {"chat_id": 1, "type": "text", "content": "x", "reply_to_id": 999},
        errors.Invalid,
    ),
    "reply into another chat": (
        "SendMessage",
        {"chat_id": 1, "type": "text", "content": "x", "reply_to_id": 4},
        errors.Invalid,
    ),
    "edit of nothing": ("EditMessage", {"message_id": 999, "content": "x"}, errors.MessageNotFound),
    "edit of another's": ("EditMessage", {"message_id": 2, "content": "x"}, errors.NotTheAuthor),
    "edit in another's chat": ("EditMessage", {"message_id": 4, "content": "x"}, errors.NotAParticipant),
    "edit of a deleted one": ("EditMessage", {"message_id": 3, "content": "x"}, errors.MessageAlreadyDeleted),
    "edit into nothing": ("EditMessage", {"message_id": 1, "content": None}, errors.Invalid),
    "edit that says nothing": ("EditMessage", {"message_id": 1}, errors.Invalid),
    "deletion of nothing": ("DeleteMessage", {"message_id": 999}, errors.MessageNotFound),
    "deletion of another's": ("DeleteMessage", {"message_id": 2}, errors.NotTheAuthor),
    "deletion in another's chat": ("DeleteMessage", {"message_id": 4}, errors.NotAParticipant),
    "with oneself": ("OpenDirectChat", {"user_id": 1}, errors.DirectChatWithSelf),
    "with nobody": ("OpenDirectChat", {"user_id": 999}, errors.UserNotFound),
    "group of nobody": ("CreateGroup", {"title": "T", "member_ids": [2, 999]}, errors.Invalid),
    "group that is none": (
        "CreateGroup",
        {"title": "T", "member_ids": [2], "is_group": False},
        errors.Invalid,
    ),
    "typing nowhere": ("ReportTyping", {"chat_id": 999, "is_typing": True}, errors.ChatNotFound),
    "typing in others' chat": ("ReportTyping", {"chat_id": 2, "is_typing": True}, errors.NotAParticipant),
    "typists of nothing": ("ListTypists", {"chat_id": 999}, errors.ChatNotFound),
    "typists of others' chat": ("ListTypists", {"chat_id": 2}, errors.NotAParticipant),
    "e-mail taken": (
        "RegisterUser",
        {"email": "bob@test.com", "password": "password123", "display_name": "Bob"},
        errors.EmailTaken,
    ),
}


@pytest.fixture
async def neighbours(server: ServerHere, scene: Scene) -> Scene:
    """The scene, with messages 2 (Bob's) and 3 (deleted), and, in a chat of two others, message 4."""
    await scene.bob.send(scene.chat)
    deleted = await scene.alice.send(scene.chat)
    expect(await scene.alice.ask("DELETE", f"/messages/{deleted['id']}"), 204)
    carol = await register(server, scene.http, "Carol")
    other = await carol.direct_chat_with(scene.bob)
    await carol.send(other)
    return scene


@pytest.mark.parametrize("name", REFUSED)
async def test_refusals_are_declared_and_change_nothing(
    server: ServerHere, neighbours: Scene, description: Any, name: str
) -> None:
    """Each refusal has its code and status, is in the description, and changes nothing."""
    called, values, refusal = REFUSED[name]
    endpoint = BY_NAME[called]
    before = server.state()
    response = await call(neighbours, endpoint, values)
    body = expect(response, status_of(refusal), refusal.code)
    assert server.state() == before
    described = description["paths"][endpoint.path][endpoint.method.lower()]["responses"]
    described_response = described[str(response.status_code)]
    assert f"`{refusal.code}`" in described_response["description"]
    validate(body, described_response["content"]["application/problem+json"]["schema"], description)
    if refusal is errors.Invalid:
        assert body["errors"]


async def test_every_declared_refusal_is_tested() -> None:
    """Each refusal that an endpoint declares is in a test, here or in other modules."""
    met = {(called, refusal) for called, _, refusal in REFUSED.values()}
    elsewhere = {
        ("LogIn", errors.InvalidCredentials),
        ("CreateGroup", errors.TooManyChats),
        ("OpenDirectChat", errors.TooManyChats),
        *(("RefreshTokens", r) for r in BY_NAME["RefreshTokens"].refusals),
        *((name, errors.IdempotencyKeyReused) for name, endpoint in BY_NAME.items() if endpoint.takes_key),
    }
    declared = {(name, refusal) for name, endpoint in BY_NAME.items() for refusal in endpoint.refusals}
    assert declared <= met | elsewhere


async def test_head_works_wherever_get_does(scene: Scene) -> None:
    """HEAD has the status and headers of GET, and no body."""
    for path in ("/users/me", "/chats", f"/chats/{scene.chat}"):
        got, headed = await scene.alice.ask("GET", path), await scene.alice.ask("HEAD", path)
        assert headed.status_code == got.status_code == 200
        assert headed.content == b""
        assert headed.headers["Content-Type"] == got.headers["Content-Type"]
        assert headed.headers["Content-Length"] == got.headers["Content-Length"]


async def test_405_names_the_allowed_methods(scene: Scene) -> None:
    """405 has Allow (RFC 9110 15.5.6) with exactly the methods of the path."""
    for path in {endpoint.path for endpoint in ENDPOINTS}:
        methods = {endpoint.method for endpoint in ENDPOINTS if endpoint.path == path}
        filled = re.sub(r"\{\w+\}", "1", path)
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - methods:
            response = await scene.http.request(method, f"{scene.alice.server.address}{filled}")
            expect(response, 405, "method_not_allowed")
            head = {"HEAD"} if "GET" in methods else set[str]()
            assert set(response.headers["Allow"].split(", ")) == {*methods, *head, "OPTIONS"}


# --- limits ---

LIMITED = [(endpoint, limit.rate) for endpoint in ENDPOINTS for limit in endpoint.limits]
FEW = 4


@pytest.mark.parametrize(
    ("endpoint", "rate"), LIMITED, ids=[f"{endpoint.name}-{rate}" for endpoint, rate in LIMITED]
)
async def test_limits_are_enforced(endpoint: Endpoint, rate: str) -> None:
    """Beyond the burst of any of its limits, an endpoint is a 429 with Retry-After, and changes nothing."""
    few: dict[str, Any] = {rate: Rate(0.01, FEW)}
    async with serving(Limits(**few), rate_limits=True) as server, browser(server) as http:
        scene = await limited_scene(server, http)
        # LogOut would end the session, so another endpoint uses up the same bucket.
        other = BY_NAME["GetOwnUser"] if endpoint.name == "LogOut" else endpoint
        for _ in range(FEW):
            await call(scene, other)
        before = server.state()
        response = await call(scene, endpoint)
        expect(response, 429, "too_many_requests")
        assert 1 <= int(response.headers["Retry-After"]) <= 100
        assert server.state() == before


async def limited_scene(server: ServerHere, http: httpx.AsyncClient) -> Scene:
    """The scene, from three requests of Alice's at most."""
    alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
    chat = await bob.direct_chat_with(alice)
    return Scene(alice, bob, chat, (await alice.send(chat))["id"])


async def test_limits_are_per_user() -> None:
    """A limited user does not limit others' sending; log-ins are counted for each e-mail."""
    limits = Limits(message_rate=Rate(0.01, 1), login_rate=Rate(0.01, 1))
    async with serving(limits, rate_limits=True) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)
        body = {"chat_id": chat, "type": "text", "content": "x"}
        for person in (alice, bob):
            expect(await person.ask("POST", "/messages", body), 201)
            expect(await person.ask("POST", "/messages", body), 429)
            expect(await person.ask("GET", f"/messages?chat_id={chat}"), 200)
        for email in ("alice@test.com", "bob@test.com"):
            login = {"email": email, "password": "password123"}
            expect(await http.post("/auth/login", json=login), 200)
            for other in (email.upper(), email.replace("test.com", "ＴＥＳＴ。com")):
                expect(await http.post("/auth/login", json={**login, "email": other}), 429)


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("2001:db8::7", "2001:db8::ffff:1:2:3", "2001:db8:0:1::7"),
        ("192.0.2.7", "::ffff:192.0.2.7", "192.0.2.8"),
    ],
)
@pytest.mark.parametrize("rate", ["login_rate", "login_address_rate", "registration_rate"])
async def test_addresses_are_counted_by_network(rate: str, one: str, same: str, other: str) -> None:
    """Part 6: an IPv6 /64 counts as one address, and IPv4 in IPv6 as IPv4; logs have the full address."""
    few: dict[str, Any] = {rate: Rate(0.01, 2)}
    listener = ListenerConfig(trusted_proxies=parse_proxies("127.0.0.1"))
    with capture_logs() as logs:
        async with (
            serving(Limits(**few), rate_limits=True, listener=listener) as server,
            browser(server) as http,
        ):

            async def ask(address: str) -> int:
                headers = {"X-Forwarded-For": address}
                body = {"email": "nobody@test.com", "password": PASSWORD}
                if rate == "registration_rate":
                    account = {"email": f"{new_key()}@test.com", "password": PASSWORD, "display_name": "A"}
                    return (await http.post("/auth/register", json=account, headers=headers)).status_code
                return (await http.post("/auth/login", json=body, headers=headers)).status_code

            good = 201 if rate == "registration_rate" else 401
            addresses = [one, same, same, one, other]
            assert [await ask(address) for address in addresses] == [good, good, 429, 429, good]
    logged = [line["client"] for line in logs if line["event"] == "request"]
    assert logged == [address.removeprefix("::ffff:") for address in addresses]


@pytest.mark.parametrize("endpoint", [e for e in ENDPOINTS if any(limit.costs for limit in e.limits)])
def test_costs_are_charged_to_the_user(endpoint: Endpoint) -> None:
    """Only a user's bucket goes into debt for work, because a whole office may share an address."""
    assert endpoint.auth is Auth.SESSION
    for limit in endpoint.limits:
        assert limit.per is Per.USER or set(limit.costs) <= {Cost.MEMBERS}


async def test_a_group_costs_its_members() -> None:
    """Part 6: the cost is known before, so a group that costs more than is left is not created."""
    limits = Limits(request_rate=Rate(0.01, 5), members_per_permit=2)
    async with serving(limits, rate_limits=True) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        large, small = ({"title": "Trip", "member_ids": [bob.id] * number} for number in (7, 2))
        expect(await alice.ask("POST", "/chats", large), 201)
        before = server.state()
        expect(await alice.ask("POST", "/chats", large), 429, "too_many_requests")
        assert server.state() == before
        expect(await alice.ask("POST", "/chats", small), 201)
        expect(await alice.ask("GET", "/users/me"), 429)


@pytest.mark.parametrize("body", [b"{}", b"{", b'{"a":' + b"[" * 16_000, b'{"a":1e999}'], ids=len)
async def test_a_malformed_request_costs_its_parsing(body: bytes) -> None:
    """It costs one permit, and one more for each 16 KiB; in debt, any body is a 429."""
    async with (
        serving(Limits(message_rate=Rate(0.01, 3)), rate_limits=True) as server,
        browser(server) as http,
    ):
        alice = await register(server, http, "Alice")

        async def ask(content: bytes) -> int:
            headers = {"Authorization": f"Bearer {alice.access_token}", "Content-Type": "application/json"}
            return (await http.post("/messages", content=content, headers=headers)).status_code

        malformed = {await ask(body) for _ in range(4)}
        assert malformed <= {400, 422}
        assert await ask(body.ljust(1025)) == 429
        body_of_message = b'{"chat_id":1,"type":"text","content":"x"}'
        assert await ask(body_of_message) == 429


async def test_a_message_costs_its_recipients() -> None:
    """Part 6: charged after the commit, into debt, which Retry-After includes; a replay has no recipients."""
    limits = Limits(message_rate=Rate(0.5, 3), deliveries_per_permit=1)
    async with serving(limits, rate_limits=True) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)
        body = {"chat_id": chat, "type": "text", "content": "x"}
        expect(await alice.ask("POST", "/messages", body, key="k"), 201)
        expect(await alice.ask("POST", "/messages", body, key="k"), 201)
        response = await alice.ask("POST", "/messages", body)
        expect(response, 429)
        assert response.headers["Retry-After"] in {"1", "2"}
        expect(await bob.ask("POST", "/messages", body), 201)
        expect(await bob.ask("POST", "/messages", body), 201)
        response = await bob.ask("POST", "/messages", body)
        expect(response, 429)
        assert response.headers["Retry-After"] in {"3", "4"}


async def test_a_response_costs_its_bytes() -> None:
    """Part 6: a permit for each part of the response that a permit covers, charged when its size is known."""
    limits = Limits(request_rate=Rate(0.01, 8), response_bytes_per_permit=1024)
    async with serving(limits, rate_limits=True) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await bob.direct_chat_with(alice)
        await bob.send(chat, "x" * 3500)
        for status in (200, 200, 429):
            expect(await alice.ask("GET", f"/messages?chat_id={chat}"), status)
        assert [(await bob.ask("GET", "/users/me")).status_code for _ in range(8)] == [200] * 7 + [429]


@pytest.mark.parametrize(
    "query", ["", "&limit=100", "&limit=3&after_id=1", "&limit=4&around_id=3", "&before_id=1"]
)
async def test_a_response_in_parts_is_the_same(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    """A response in parts has equal bytes, with and without paging, and if it is empty."""
    for _ in range(5):
        await scene.alice.send(scene.chat)
    path = f"/messages?chat_id={scene.chat}{query}"
    whole = await scene.alice.ask("GET", path)
    for module in (operations.messages, message_routes):
        monkeypatch.setattr(module, "MESSAGES_AT_ONCE", 2)
    in_parts = await scene.alice.ask("GET", path)
    assert (in_parts.status_code, in_parts.content) == (200, whole.content)


async def test_concurrent_large_responses_end_with_the_debt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A large response is read in parts, and refused on the way if its user is in debt by then.

    The read parts are charged. Of 8 permits three requests take one each, the sent page 6 more, and half of
    the refused page 3 more, which leaves a debt of 4.
    """
    for module in (operations.messages, message_routes):
        monkeypatch.setattr(module, "MESSAGES_AT_ONCE", 2)
    limits = Limits(request_rate=Rate(0.01, 8), response_bytes_per_permit=2048)
    async with serving(limits, rate_limits=True) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await bob.direct_chat_with(alice)
        for _ in range(4):
            await bob.send(chat, "x" * 3000)
        expect(await alice.ask("GET", "/users/me"), 200)  # her token is cached from here on
        page, read = f"/messages?chat_id={chat}&limit=100", server.messaging.read
        halfway, go_on, reads = trio.Event(), trio.Event(), count(1)

        async def read_and_wait(query: Query[Any]) -> Any:
            if next(reads) == 1:
                result = await read(query)
                halfway.set()
                await go_on.wait()
                return result
            return await read(query)

        monkeypatch.setattr(server.messaging, "read", read_and_wait)
        responses: list[httpx.Response] = []

        async def ask() -> None:
            responses.append(await alice.ask("GET", page))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await halfway.wait()
            whole = expect(await alice.ask("GET", page), 200)
            assert len(whole["messages"]) == 4
            go_on.set()
        expect(responses[0], 429, "too_many_requests")
        assert 400 < int(responses[0].headers["Retry-After"]) <= 500
        expect(await alice.ask("GET", "/users/me"), 429)
        expect(await bob.ask("GET", page), 200)


async def test_a_429_consumes_no_key() -> None:
    """Part 5: a request that was a 429 is carried out later with the same key."""
    limits = Limits(message_rate=Rate(2, 1))
    async with serving(limits, rate_limits=True) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)
        body = {"chat_id": chat, "type": "text", "content": "x"}
        statuses: list[int] = []
        while statuses.count(201) < 2:
            response = await alice.ask("POST", "/messages", body, key=f"key-{statuses.count(201)}")
            statuses.append(response.status_code)
            assert "Idempotency-Replayed" not in response.headers
        assert 429 in statuses
        assert len(expect(await bob.ask("GET", f"/messages?chat_id={chat}"), 200)) == 2


async def test_normal_use_meets_no_limit() -> None:
    """Part 6: with the defaults, a user who loads a page and writes as fast as a person meets no limit."""
    async with serving(rate_limits=True) as server, browser(server) as http:
        alice, bob = await register(server, http, "Alice"), await register(server, http, "Bob")
        chat = await alice.direct_chat_with(bob)
        for _ in range(20):
            for path in ("/users/me", "/chats", f"/chats/{chat}", f"/messages?chat_id={chat}"):
                expect(await alice.ask("GET", path), 200)
            await alice.send(chat)


async def test_limits_can_be_turned_off(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Part 6: with `MESSAGING_RATE_LIMITS=off`, for load tests, 12 log-ins succeed where 10 a minute may."""
    limited: dict[str, str] = {}
    for variables, statuses in (
        (limited, [200] * 10 + [429] * 2),
        ({"MESSAGING_RATE_LIMITS": "off"}, [200] * 12),
    ):
        directory = tmp_path_factory.mktemp("server")
        async with (
            process(directory, "--database", "memory:", variables=variables) as running,
            browser(running) as http,
        ):
            await log_in_often(running, http, statuses)


async def log_in_often(server: ServerProcess, http: httpx.AsyncClient, statuses: list[int]) -> None:
    await register(server, http, "Alice")
    login = {"email": "alice@test.com", "password": "password123"}
    results = [(await http.post("/auth/login", json=login)).status_code for _ in statuses]
    assert results == statuses


async def test_sockets_are_limited_per_user() -> None:
    """Part 6: a socket over the user's limit closes with 4429; once another one closes, a new one opens."""
    async with serving(Limits(sockets_per_user=2)) as server, browser(server) as http:
        alice = await register(server, http, "Alice")
        async with alice.socket():
            async with alice.socket(), alice.socket() as third:
                assert await third.closed() == (4429, "too_many_sockets")
            async with alice.socket() as socket:
                await socket.connection.ping()

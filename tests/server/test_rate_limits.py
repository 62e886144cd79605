"""Rate limits: what takes a permit, whose it is, and what costs several."""

from itertools import count
from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from adapters.http_api.endpoints import Auth, Cost, Endpoint, Per
from adapters.http_api.routes import ENDPOINTS
from adapters.http_api.routes import messages as message_routes
from adapters.listener import ListenerConfig, parse_proxies
from messaging_core import operations
from messaging_core.limits import Limits, Rate
from messaging_core.operations import Query
from tests.server.calls import Scene, call, scene_of
from tests.server.clients import PASSWORD, browser, expect, new_key, register
from tests.server.servers import ServerHere, ServerProcess, process, serving


@pytest.fixture(params=[True, False], ids=["quick path", "framework"])
def quick_path(request: pytest.FixtureRequest) -> bool:
    """The declarations hold on both ways: through the framework and on the quick path."""
    return bool(request.param)


BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
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
    return await scene_of(alice, bob, chat)


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


async def test_a_malformed_refresh_costs_its_sender() -> None:
    """Where there is no rate for addresses, a body of an address in debt is not parsed; tokens are."""
    limits = Limits(request_rate=Rate(0.01, 3))
    async with serving(limits, rate_limits=True) as server, browser(server) as http:
        alice = await register(server, http, "Alice")
        malformed = b'{"refresh_token": ' + b"[" * 16_384
        for status in (400, 400, 429):
            response = await http.post(
                "/auth/refresh", content=malformed, headers={"Content-Type": "application/json"}
            )
            expect(response, status)
        expect(await http.post("/auth/refresh", json={"refresh_token": alice.refresh_token}), 200)
        expect(await http.post("/auth/refresh", json={"refresh_token": "x"}), 401)


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

"""An address that sends many passwords does not block others' log-ins.

`python -m benchmarks.logins` measures how long users wait.
"""

import threading
from collections import Counter
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from adapters.http_api.routes import ENDPOINTS
from adapters.listener import ListenerConfig
from adapters.security.passwords import QUEUE_OF_NETWORK
from messaging_core.limits import Limits, Rate
from tests.listener.harness import wait_until
from tests.patience import PATIENCE
from tests.server.clients import PASSWORD, browser, calling_from, expect, register
from tests.server.servers import serving

BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
FLOOD, VICTIM = "127.0.0.2", "127.0.0.1"


@pytest.mark.parametrize("quick_path", [True, False])
async def test_a_new_address_goes_before_a_flood(quick_path: bool) -> None:
    """Of one address 32 passwords wait, further ones are 503 `busy`; another address's go before them."""
    listener = ListenerConfig(quick_path=quick_path)
    async with serving(listener=listener) as server, browser(server) as http:
        await register(server, http, "Alice")
        hashed: list[str] = []
        may_work = threading.Semaphore(0)
        in_thread = server.hasher._in_thread

        async def held(network: str, work: partial[Any]) -> Any:
            def hold() -> Any:
                assert may_work.acquire(timeout=PATIENCE)
                hashed.append(network)
                return work()

            return await in_thread(network, partial(hold))

        server.hasher._in_thread = held  # type: ignore[method-assign]
        flooded: Counter[int] = Counter()
        signed_in: list[int] = []

        async def flood(client: httpx.AsyncClient, number: int) -> None:
            body = {"email": f"nobody{number}@test.com", "password": "a wrong password"}
            response = await client.post("/auth/login", json=body)
            flooded[response.status_code] += 1
            if response.status_code == 503:
                assert response.json()["code"] == "busy"

        async def sign_in(client: httpx.AsyncClient, path: str, body: dict[str, str]) -> None:
            signed_in.append((await client.post(path, json=body)).status_code)

        login = {"email": "alice@test.com", "password": PASSWORD}
        account = {"email": "bob@test.com", "password": PASSWORD, "display_name": "Bob"}
        waiting = server.hasher._queue
        async with (
            calling_from(server, FLOOD) as attacker,
            calling_from(server, VICTIM) as victim,
            trio.open_nursery() as nursery,
        ):
            for number in range(40):
                nursery.start_soon(flood, attacker, number)
            await wait_until(lambda: flooded.total() == 40 - QUEUE_OF_NETWORK - 1)
            assert flooded.keys() == {503}
            nursery.start_soon(sign_in, victim, "/auth/login", login)
            await wait_until(lambda: len(waiting) == QUEUE_OF_NETWORK + 1)
            nursery.start_soon(sign_in, victim, "/auth/register", account)
            await wait_until(lambda: len(waiting) == QUEUE_OF_NETWORK + 2)
            may_work.release(QUEUE_OF_NETWORK + 3)
    assert all("busy" in BY_NAME[name].unavailable for name in ("LogIn", "RegisterUser"))
    assert sorted(signed_in) == [200, 201]
    assert flooded == {503: 40 - QUEUE_OF_NETWORK - 1, 401: QUEUE_OF_NETWORK + 1}
    assert hashed[:4] == [FLOOD, VICTIM, VICTIM, FLOOD]


async def test_logins_of_an_address_are_limited_for_any_emails() -> None:
    """New e-mails do not avoid the limit, refused log-ins are not hashed, other addresses are not limited."""
    limits = Limits(login_address_rate=Rate(0.01, 5))
    async with (
        serving(limits, rate_limits=True) as server,
        calling_from(server, FLOOD) as attacker,
        calling_from(server, VICTIM) as victim,
    ):
        statuses = []
        for number in range(8):
            body = {"email": f"nobody{number}@test.com", "password": PASSWORD}
            statuses.append((await attacker.post("/auth/login", json=body)).status_code)
        assert statuses == [401] * 5 + [429] * 3
        assert server.hasher.verified == 5
        body = {"email": "nobody@test.com", "password": PASSWORD}
        expect(await victim.post("/auth/login", json=body), 401, "invalid_credentials")

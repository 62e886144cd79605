"""The server behind nginx with the project's site: all works, and every client has its own address."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from attrs import evolve, frozen
from structlog.testing import capture_logs
from structlog.typing import EventDict
from trio.testing import MockClock

from adapters.listener import ListenerConfig, parse_proxies
from messaging_core.limits import Limits, Rate
from tests.listener.harness import CLOSE, PING, TEXT, UPGRADE, RawPeer, wait_until
from tests.patience import PATIENCE
from tests.server.clients import calling_from, expect, is_a_problem, log_in, register
from tests.server.nginx import CLAIMED, SITE, Nginx, nginx_before
from tests.server.servers import ServerHere, serving

PROXY, ALICES, BOBS = "127.0.0.1", "127.0.0.2", "127.0.0.3"
"""nginx's own address, as the server sees it, and those of its clients."""
FORGED = "198.51.100.9"
LIMITS = Limits(login_rate=Rate(per_second=0.001, burst=2))


@frozen
class Front:
    """A server as its clients see it, at nginx's address."""

    server: ServerHere
    nginx: Nginx
    logs: list[EventDict]

    def clients(self, event: str, path: str) -> list[str]:
        return [line["client"] for line in self.logs if line["event"] == event and line.get("path") == path]


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    with capture_logs() as captured:
        yield captured


@pytest.fixture
def trusted() -> str:
    return PROXY


@pytest.fixture
def quick_path() -> bool:
    return True


@pytest.fixture
def changes() -> dict[str, str]:
    """Changes to the site."""
    return {}


@pytest.fixture
async def front(
    tmp_path: Path, trusted: str, quick_path: bool, changes: dict[str, str], logs: list[EventDict]
) -> AsyncIterator[Front]:
    listener = ListenerConfig(trusted_proxies=parse_proxies(trusted), quick_path=quick_path)
    async with (
        serving(LIMITS, listener=listener, rate_limits=True) as server,
        nginx_before(server.address, tmp_path, changes) as nginx,
    ):
        yield Front(evolve(server, address=nginx.address), nginx, logs)


@asynccontextmanager
async def socket_from(
    front: Front, address: str, token: str, *, claimed: str | None = None
) -> AsyncIterator[RawPeer]:
    """A socket through nginx with a forged header, from this machine or, in the header, from elsewhere."""
    plain = trio.socket.socket()
    await plain.bind((address, 0))
    url = httpx.URL(front.server.address)
    await plain.connect((url.host, url.port))
    async with trio.SocketStream(plain) as stream:
        peer = RawPeer(stream)
        claim = "" if claimed is None else f"{CLAIMED}: {claimed}\r\n"
        fields = f"X-Forwarded-For: {FORGED}\r\n{claim}\r\n".encode()
        response = await peer.ask(UPGRADE.replace(b"/ws", f"/ws?token={token}".encode()) + fields)
        assert response.status == 101
        yield peer


async def test_messages_arrive_with_each_clients_address(front: Front, clock: MockClock) -> None:
    """Sockets open, messages and pings arrive; the log has the real address of each client."""
    async with calling_from(front.server, ALICES) as hers, calling_from(front.server, BOBS) as his:
        hers.headers["X-Forwarded-For"] = FORGED
        alice = await register(front.server, hers, "Alice")
        bob = await register(front.server, his, "Bob")
        chat = await alice.direct_chat_with(bob)
        async with (
            socket_from(front, ALICES, alice.access_token) as one,
            socket_from(front, BOBS, bob.access_token) as other,
        ):
            await alice.send(chat, "Hello Bob!")
            for peer in (one, other):
                assert b"Hello Bob!" in (await peer.frame_of(TEXT)).payload
            clock.jump(ListenerConfig().ping_interval + 1)
            for peer in (one, other):
                await peer.frame_of(PING)
    assert front.clients("request", "/api/v1/auth/register") == [ALICES, BOBS]
    assert front.clients("request", "/api/v1/messages") == [ALICES]
    assert front.clients("request", "/ws") == [ALICES, BOBS]
    await wait_until(lambda: sorted(front.clients("socket_closed", "/ws")) == [ALICES, BOBS])
    assert alice.access_token not in front.nginx.log
    assert f"{ALICES} " in front.nginx.log


async def test_close_codes_pass_nginx(front: Front) -> None:
    """The client receives 1008 for an invalid token, and 1012 for a restart."""
    async with calling_from(front.server, ALICES) as hers:
        alice = await register(front.server, hers, "Alice")
    async with socket_from(front, ALICES, "none") as refused:
        assert (await refused.frame_of(CLOSE)).close == (1008, "token_invalid")
    async with socket_from(front, ALICES, alice.access_token) as peer:
        front.server.shutdown.set()
        assert (await peer.frame_of(CLOSE)).close[0] == 1012


async def wrong_password(http: httpx.AsyncClient, **headers: str) -> int:
    body = {"email": "alice@test.com", "password": "not-the-one"}
    return (await http.post("/auth/login", json=body, headers=headers)).status_code


@pytest.mark.parametrize("quick_path", [True, False])
async def test_rates_hold_for_each_client(front: Front) -> None:
    """A client that guesses passwords limits no other client, and gains nothing by forged addresses."""
    async with calling_from(front.server, ALICES) as hers, calling_from(front.server, BOBS) as his:
        await register(front.server, hers, "Alice")
        assert [await wrong_password(his) for _ in range(3)] == [401, 401, 429]
        assert await wrong_password(his, **{"X-Forwarded-For": FORGED}) == 429
        assert await wrong_password(his, Forwarded=f"for={FORGED}") == 429
        await log_in(front.server, hers, "Alice")


@pytest.mark.parametrize("changes", [{"limit_conn messaging 500;": "limit_conn messaging 1;"}])
async def test_one_network_does_not_use_up_all_connections(front: Front) -> None:
    """Nginx counts as the server does: by IPv4 address, also if it is written as IPv6, or by IPv6 /64.

    Any byte of an address may occur, such as one that ends a line or a string.
    """
    rows = [
        (
            "192.0.2.10",
            ["192.0.2.10", "::ffff:192.0.2.10"],
            ["192.0.2.0", "192.0.10.10", "2001:db8::c000:20a"],
        ),
        (
            "2001:db8::1",
            ["2001:db8::1", "2001:db8::a0a:0:a", "2001:db8::"],
            ["2001:db8:0:1::1", "192.0.2.10"],
        ),
        ("2001:a:0a0a:a::a", ["2001:a:a0a:a:a0a:a0a:a0a:a0a"], ["2001:a:a0a:b::a", "2001:a:a0b:a::a"]),
    ]

    async def status(address: str) -> int:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as client:
            return (
                await client.get(f"{front.server.address}/health", headers={CLAIMED: address})
            ).status_code

    async with calling_from(front.server, ALICES) as hers:
        alice = await register(front.server, hers, "Alice")
    for holder, same, others in rows:
        async with socket_from(front, ALICES, alice.access_token, claimed=holder):
            assert [await status(address) for address in same] == [503] * len(same), holder
            assert [await status(address) for address in others] == [200] * len(others), holder


@pytest.mark.parametrize("trusted", ["", "192.0.2.0/24"])
async def test_an_untrusted_proxy_is_one_client(front: Front) -> None:
    """By default the header is ignored, and all clients count as the proxy."""
    async with calling_from(front.server, ALICES) as hers, calling_from(front.server, BOBS) as his:
        assert [await wrong_password(his) for _ in range(2)] == [401, 401]
        assert await wrong_password(hers) == 429
    assert front.clients("request", "/api/v1/auth/login") == [PROXY] * 3


async def test_the_server_refuses_what_is_too_large(front: Front) -> None:
    """The client gets the server's own response, which a page can read; nginx's has no CORS headers."""
    async with calling_from(front.server, ALICES) as hers:
        response = await hers.post("/auth/register", content=b" " * (2**20 + 1))
    expect(response, 413, "body_too_large")
    is_a_problem(response)


def test_nginxs_bounds_fit_the_servers() -> None:
    """Nginx waits longer than the server's interval of pings, and accepts larger bodies than the server."""
    site = SITE.read_text(encoding="utf-8")
    (seconds,) = re.findall(r"proxy_read_timeout (\d+)s;", site)
    assert int(seconds) > 2 * ListenerConfig().ping_interval
    (mebibytes,) = re.findall(r"client_max_body_size (\d+)m;", site)
    assert int(mebibytes) * 2**20 > ListenerConfig().body_bytes
    assert ListenerConfig().idle_time > 60, "nginx keeps idle connections to the server for 60 s"

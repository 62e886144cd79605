"""Whole servers with a shared storage and a bus, over HTTP and real sockets."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from attrs import evolve, frozen

from adapters.cli import composition
from adapters.cli.buses import make_bus
from adapters.security.keyring import Keyring, make_keyring
from adapters.storage_memory import MemoryStorage
from messaging_core.ports import Bus, Storage
from tests.bus.nats_server import NatsServer, nats_server
from tests.bus.postgres_database import PostgresDatabase, postgres_database
from tests.patience import PATIENCE
from tests.server.clients import FAULTS_EXPECTED, Person, browser, expect, register
from tests.server.servers import ServerHere, run_to_its_end, serving

SHARED = "postgresql://postgres@127.0.0.1:5432/messaging"


@frozen
class TwoServers:
    """Two servers and their broker."""

    here: ServerHere
    there: ServerHere
    broker: NatsServer | PostgresDatabase


@asynccontextmanager
async def two_servers(kind: str) -> AsyncIterator[TwoServers]:
    storage, keyring = MemoryStorage(), make_keyring()

    @asynccontextmanager
    async def shared(_: object) -> AsyncIterator[Storage]:
        yield storage

    def same(_: object) -> tuple[Keyring, tuple[str, ...]]:
        return keyring, ()

    async with AsyncExitStack() as stack:
        broker: NatsServer | PostgresDatabase
        if kind == "nats":
            broker = await stack.enter_async_context(nats_server())
            named, database = f"nats://127.0.0.1:{broker.port}", SHARED
        else:
            broker = stack.enter_context(postgres_database())
            named, database = kind, broker.address

        def bus(_: object) -> Bus | None:
            return make_bus(named, database)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(composition, "_storage", shared)
            patch.setattr(composition, "_own_keyring", same)
            patch.setattr(composition, "_bus", bus)
            here, there = [await stack.enter_async_context(serving()) for _ in range(2)]
        for server in (here, there):
            await ready(server, 200)
        yield TwoServers(here, there, broker)


async def ready(server: ServerHere, status: int) -> Any:
    """Wait until `/ready` has this status; returns its body."""
    async with httpx.AsyncClient(base_url=server.address, trust_env=False, timeout=PATIENCE) as http:
        with trio.fail_after(PATIENCE):
            while True:
                response = await http.get("/ready", extensions=FAULTS_EXPECTED)
                if response.status_code == status:
                    return response.json()
                await trio.sleep(0.02)


@pytest.fixture(params=["nats", "postgresql"])
async def two(request: pytest.FixtureRequest) -> AsyncIterator[TwoServers]:
    async with two_servers(request.param) as two:
        yield two


@asynccontextmanager
async def people(two: TwoServers) -> AsyncIterator[tuple[Person, Person, Person, int]]:
    """Alice on the first server, Bob on the first and on the second, and their chat."""
    async with browser(two.here) as http, browser(two.there) as http_there:
        alice, bob = await register(two.here, http, "Alice"), await register(two.here, http, "Bob")
        bob_there = evolve(bob, server=two.there, http=http_there)
        yield alice, bob, bob_there, await alice.direct_chat_with(bob)


async def test_a_message_reaches_the_sockets_of_both_servers(two: TwoServers) -> None:
    """All sockets receive the same bytes in the order of the chat, whichever server got the request."""
    async with people(two) as (alice, bob, bob_there, chat):
        alice_there = evolve(alice, server=two.there)
        async with alice.socket() as one, alice_there.socket() as two_, bob_there.socket() as three:
            for number in range(20):
                await (alice, bob, bob_there)[number % 3].send(chat, f"Number {number}")
            frames = [[await socket.text() for _ in range(20)] for socket in (one, two_, three)]
            assert frames[0] == frames[1] == frames[2]
            assert [f'"Number {number}"' in frame for number, frame in enumerate(frames[0])] == [True] * 20


async def test_a_log_out_on_one_server_ends_the_sockets_on_the_other(two: TwoServers) -> None:
    """The sockets close with 1008 and a reason; the other server refuses a token that it had verified."""
    async with people(two) as (_, bob, bob_there, _), bob_there.socket() as socket:
        expect(await bob_there.ask("GET", "/users/me"), 200)
        expect(await bob.ask("POST", "/auth/logout"), 204)
        assert await socket.closed() == (1008, "session_revoked")
        expect(await bob_there.ask("GET", "/users/me"), 401, "session_revoked")


async def test_without_the_broker_messages_arrive_by_polling_and_ready_is_503(two: TwoServers) -> None:
    """Sends succeed; sockets receive at once on the same server, by polling elsewhere; `/ready` recovers."""
    async with (
        people(two) as (alice, _, bob_there, chat),
        alice.socket() as alices,
        bob_there.socket() as bobs,
    ):
        await two.broker.stop()
        for server in (two.here, two.there):
            assert (await ready(server, 503))["code"] == "bus_unavailable"
        sent = [await alice.send(chat, f"Number {number}") for number in range(5)]
        for socket in (alices, bobs):
            assert [(await socket.message())["id"] for _ in sent] == [message["id"] for message in sent]
        await two.broker.start()
        for server in (two.here, two.there):
            await ready(server, 200)
        await alice.send(chat, "Welcome back")
        assert (await bobs.message())["content"] == "Welcome back"


# --- the setting --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "database", "kind"),
    [
        ("", "sqlite:///messaging.db", "NoneType"),
        ("none", "memory:", "NoneType"),
        ("", SHARED, "PostgresBus"),
        ("postgresql", SHARED.replace("postgresql", "postgres", 1), "PostgresBus"),
        ("none", SHARED, "NoneType"),
        ("nats://127.0.0.1:4222/x", SHARED, "NatsBus"),
        ("tls://127.0.0.1:4222", SHARED, "NatsBus"),
    ],
)
async def test_a_shared_database_has_a_bus(named: str, database: str, kind: str) -> None:
    """PostgreSQL is its own bus by default; --bus names another, or none."""
    assert type(make_bus(named, database)).__name__ == kind


@pytest.mark.parametrize("bus", ["nats://user:secret@127.0.0.1:4222", "postgresql", "redis://user:secret@h"])
async def test_a_bus_without_a_shared_database_is_refused(tmp_path: Path, bus: str) -> None:
    """An SQLite file belongs to one process, so --bus is an error; it names the setting, and no password."""
    ended = await run_to_its_end("serve", "--bus", bus, directory=tmp_path)
    assert ended.returncode == 2
    assert "--bus (MESSAGING_BUS)" in ended.stderr
    assert "PostgreSQL" in ended.stderr
    assert "secret" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("bus", ["redis://user:secret@h", "nats", "nats://", "nats://h/a.b"])
async def test_an_unknown_bus_is_refused(bus: str) -> None:
    """The error shows the valid forms, and no password."""
    with pytest.raises(ValueError, match=r"nats://|prefix") as raised:
        make_bus(bus, SHARED)
    assert "secret" not in str(raised.value)

"""The NATS bus passes the suite of every bus, and has rules of its own."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
import trio
from attrs import frozen
from structlog.testing import capture_logs

from adapters.bus_nats.bus import AUDIENCE_AT_MOST, NatsAddress, NatsBus
from messaging_core.ids import UserId
from messaging_core.signals import Reference
from messaging_core.testing.bus_contract import (
    AUDIENCE,
    BusContract,
    BusProcess,
    Exchange,
    bus_processes,
    delivery,
    log_numbers,
)
from tests.bus.nats_server import NatsServer, free_port, nats_server
from tests.patience import PATIENCE


@frozen
class NatsExchange:
    server: NatsServer
    login: str = ""
    prefix: str = "test"

    @property
    def address(self) -> str:
        return f"nats://{self.login}127.0.0.1:{self.server.port}/{self.prefix}"

    def bus(self) -> NatsBus:
        return NatsBus(NatsAddress.parse(self.address))

    async def disrupt(self) -> None:
        await self.server.stop()
        await self.server.start()


@pytest.fixture
async def exchange() -> AsyncIterator[NatsExchange]:
    async with nats_server() as server:
        yield NatsExchange(server)


class TestNatsBus(BusContract):
    @pytest.fixture
    async def exchange(self) -> AsyncIterator[Exchange]:
        async with nats_server() as server:
            yield NatsExchange(server)


async def test_a_process_receives_signals_of_its_own_users_only(exchange: NatsExchange) -> None:
    """A process receives signals for its followed users and for all: large audiences, heartbeats."""
    many = tuple(UserId(number) for number in range(1, AUDIENCE_AT_MOST + 2))
    async with bus_processes(exchange) as (one, two):
        for user_id in AUDIENCE:
            two.bus.unfollow(user_id)
        await two.bus.follow(UserId(9))
        one.bus.publish(delivery(1))
        one.bus.publish(delivery(2, audience=(UserId(9),)))
        one.bus.publish(delivery(3, audience=(UserId(8),)))
        one.bus.publish(delivery(4, audience=many))
        await two.wait_until(lambda process: 4 in log_numbers(process))
        await two.wait_for_own_heartbeat()
        assert set(log_numbers(two)) == {2, 4}


async def test_a_user_who_is_followed_without_a_connection_is_subscribed_after_it(
    exchange: NatsExchange,
) -> None:
    """`follow` returns at once without a connection, and takes effect at the next one."""
    async with bus_processes(exchange) as (one, two):
        before = len(two.missed)
        await exchange.server.stop()
        await two.wait_until(lambda process: not process.bus._waiters)  # type: ignore[attr-defined]
        with trio.fail_after(PATIENCE):
            for number in range(100, 200):
                await two.bus.follow(UserId(number))
        await exchange.server.start()
        await two.wait_until(lambda process: len(process.missed) > before)
        await one.wait_for_own_heartbeat()
        one.bus.publish(delivery(1, audience=(UserId(150),)))
        await two.wait_until(lambda process: 1 in log_numbers(process))


async def test_deployments_with_different_prefixes_are_separate(exchange: NatsExchange) -> None:
    """Two deployments on one server are separate, although their users have the same ids."""
    async with (
        bus_processes(exchange) as (one, two),
        bus_processes(NatsExchange(exchange.server, prefix="other"), 1) as (other,),
    ):
        one.bus.publish(delivery(1))
        await two.wait_until(lambda process: log_numbers(process) == [1])
        await other.wait_for_own_heartbeat()
        assert {envelope.publisher for envelope in other.envelopes} == {other.bus.publisher}


async def test_a_login_in_the_address_is_used() -> None:
    """nats-py gets the login of the address; with a wrong login there is no connection, and no exception."""
    async with nats_server("--user", "messaging", "--pass", "secret") as server:
        async with bus_processes(NatsExchange(server, "messaging:secret@"), 2) as (one, two):
            one.bus.publish(delivery(1))
            await two.wait_until(lambda process: log_numbers(process) == [1])
        process = BusProcess(NatsExchange(server, "messaging:wrong@").bus())
        with trio.move_on_after(1):
            await process.run()
        assert process.missed == []


async def test_a_server_with_a_smaller_limit_gets_smaller_signals() -> None:
    """A signal that does not fit into the server's limit becomes a reference."""
    async with nats_server("-c", "/dev/null") as server:
        bus = NatsExchange(server)
        async with bus_processes(bus) as (one, two):
            for process in (one, two):
                process.bus._outgoing.max_bytes = 700  # type: ignore[attr-defined]
            one.bus.publish(delivery(1, audience=tuple(UserId(number) for number in range(1, 33))))
            one.bus.publish(
                delivery(2, audience=tuple(UserId(2**50 + number) for number in range(32)) + AUDIENCE)
            )
            await two.wait_until(lambda process: log_numbers(process) == [1, 2])
            assert Reference(delivery(2).entry.chat_id, 2, None) in two.signals


async def test_a_process_ends_at_once_without_a_server() -> None:
    """An ending process does not wait for a connection to send its last envelope."""
    process = BusProcess(NatsBus(NatsAddress.parse(f"nats://127.0.0.1:{free_port()}")))
    with trio.fail_after(PATIENCE), trio.move_on_after(0.5):
        process.bus.publish(delivery(1))
        await process.run()
    assert process.missed == []


async def logged(bus: NatsBus, event: str, logs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first log line with this event, while the bus runs and rebuilds its connection repeatedly."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(BusProcess(bus).run)
        with trio.fail_after(PATIENCE):
            while not (found := [line for line in logs if line["event"] == event]):
                bus.rebuild()
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    return found[0]


async def test_an_unreachable_server_is_logged_with_the_cause() -> None:
    """The log has the address without the login and the cause, and no line about a lost connection."""
    port = free_port()
    with capture_logs() as logs:
        bus = NatsBus(NatsAddress.parse(f"nats://messaging:s3cret@127.0.0.1:{port}/test"))
        line = await logged(bus, "The bus cannot be connected", logs)
    assert line["address"] == f"nats://127.0.0.1:{port}"
    assert "ConnectionRefusedError" in line["error"]
    assert "s3cret" not in repr(logs)
    assert {each["event"] for each in logs} == {"The bus cannot be connected"}


async def test_a_refused_login_is_logged_as_the_cause() -> None:
    """The log has the server's reason, without the login."""
    async with nats_server("--user", "messaging", "--pass", "secret") as server:
        with capture_logs() as logs:
            bus = NatsExchange(server, "messaging:wr0ng@").bus()
            line = await logged(bus, "The bus cannot be connected", logs)
    assert "Authorization" in line["error"]
    assert "wr0ng" not in repr(logs)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("nats://a:4222", NatsAddress(["nats://a:4222"])),
        ("nats://a:4222/", NatsAddress(["nats://a:4222"])),
        ("nats://u:p@a:4222/staging-1", NatsAddress(["nats://u:p@a:4222"], "staging-1")),
        ("tls://a:4222,nats://b:4222/x", NatsAddress(["tls://a:4222", "nats://b:4222"], "x")),
    ],
)
def test_an_address_names_servers_and_a_prefix(text: str, address: NatsAddress) -> None:
    """The path is the prefix of the subjects, and is not passed to nats-py."""
    assert NatsAddress.parse(text) == address


@pytest.mark.parametrize(
    "text", ["nats://", "nats:", "nats://a/x,nats://b/y", "nats://a/x.>", "nats://a/x/y"]
)
def test_an_invalid_address_is_refused(text: str) -> None:
    """`NatsAddress.parse` refuses an invalid address before any connection."""
    with pytest.raises(ValueError, match=r"it is not|prefix"):
        NatsAddress.parse(text)

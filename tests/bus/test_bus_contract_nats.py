"""NATS keeps the contract of every bus."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
import trio
from attrs import frozen
from structlog.testing import capture_logs

from adapters.bus_nats.bus import AUDIENCE_AT_MOST, Address, NatsBus
from messaging_core.ids import UserId
from messaging_core.signals import Reference
from messaging_core.testing.bus_contract import (
    AUDIENCE,
    BusContract,
    Ear,
    Exchange,
    delivery,
    ears,
    numbers,
)
from tests.bus.nats_server import PATIENCE, NatsServer, free_port, nats_server


@frozen
class NatsExchange:
    server: NatsServer
    login: str = ""
    prefix: str = "test"

    @property
    def address(self) -> str:
        return f"nats://{self.login}127.0.0.1:{self.server.port}/{self.prefix}"

    def bus(self) -> NatsBus:
        return NatsBus(Address.parse(self.address))

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


async def test_a_process_hears_of_its_own_users_only(exchange: NatsExchange) -> None:
    """Of others it hears what is for all: a large audience, an ended session, heartbeats."""
    many = tuple(UserId(number) for number in range(1, AUDIENCE_AT_MOST + 2))
    async with ears(exchange) as (one, two):
        for user_id in AUDIENCE:
            two.bus.unfollow(user_id)
        await two.bus.follow(UserId(9))
        one.bus.publish(delivery(1))
        one.bus.publish(delivery(2, audience=(UserId(9),)))
        one.bus.publish(delivery(3, audience=(UserId(8),)))
        one.bus.publish(delivery(4, audience=many))
        await two.until(lambda ear: 4 in numbers(ear))
        await two.hears_itself()
        assert set(numbers(two)) == {2, 4}


async def test_who_is_followed_while_there_is_no_connection_is_heard_after_it(
    exchange: NatsExchange,
) -> None:
    """And nobody waits for that."""
    async with ears(exchange) as (one, two):
        before = len(two.missed)
        await exchange.server.stop()
        await two.until(lambda ear: not ear.bus._waiters)  # type: ignore[attr-defined]
        with trio.fail_after(5):
            for number in range(100, 200):
                await two.bus.follow(UserId(number))
        await exchange.server.start()
        await two.until(lambda ear: len(ear.missed) > before)
        await one.hears_itself()
        one.bus.publish(delivery(1, audience=(UserId(150),)))
        await two.until(lambda ear: 1 in numbers(ear))


async def test_deployments_with_different_prefixes_do_not_hear_each_other(exchange: NatsExchange) -> None:
    """Their users have the same numbers."""
    async with (
        ears(exchange) as (one, two),
        ears(NatsExchange(exchange.server, prefix="other"), 1) as (other,),
    ):
        one.bus.publish(delivery(1))
        await two.until(lambda ear: numbers(ear) == [1])
        await other.hears_itself()
        assert {envelope.publisher for envelope in other.envelopes} == {other.bus.publisher}


async def test_a_login_in_the_address_is_used() -> None:
    """As nats-py takes it; without the right one there is no connection, and nothing fails."""
    async with nats_server("--user", "messaging", "--pass", "secret") as server:
        async with ears(NatsExchange(server, "messaging:secret@"), 2) as (one, two):
            one.bus.publish(delivery(1))
            await two.until(lambda ear: numbers(ear) == [1])
        ear = Ear(NatsExchange(server, "messaging:wrong@").bus())
        with trio.move_on_after(1):
            await ear.run()
        assert ear.missed == []


async def test_a_server_that_takes_less_is_sent_less() -> None:
    """What does not fit is referred to."""
    async with nats_server("-c", "/dev/null") as server:
        bus = NatsExchange(server)
        async with ears(bus) as (one, two):
            for ear in (one, two):
                ear.bus._outgoing.max_bytes = 700  # type: ignore[attr-defined]
            one.bus.publish(delivery(1, audience=tuple(UserId(number) for number in range(1, 33))))
            one.bus.publish(
                delivery(2, audience=tuple(UserId(2**50 + number) for number in range(32)) + AUDIENCE)
            )
            await two.until(lambda ear: numbers(ear) == [1, 2])
            assert Reference(delivery(2).entry.chat_id, 2, None) in two.signals


async def test_a_process_that_ends_while_there_is_no_server_ends() -> None:
    """It does not wait to say goodbye."""
    ear = Ear(NatsBus(Address.parse(f"nats://127.0.0.1:{free_port()}")))
    with trio.fail_after(10), trio.move_on_after(0.5):
        ear.bus.publish(delivery(1))
        await ear.run()
    assert ear.missed == []


async def logged(bus: NatsBus, event: str, logs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first line of the log that says so, while the bus runs and is asked again and again to rebuild."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Ear(bus).run)
        with trio.fail_after(PATIENCE):
            while not (found := [line for line in logs if line["event"] == event]):
                bus.rebuild()
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    return found[0]


async def test_a_server_that_cannot_be_reached_is_named_with_the_cause() -> None:
    """Without the login; and nothing is said of a connection that there never was."""
    port = free_port()
    with capture_logs() as logs:
        bus = NatsBus(Address.parse(f"nats://messaging:s3cret@127.0.0.1:{port}/test"))
        line = await logged(bus, "The bus cannot be connected", logs)
    assert line["address"] == f"nats://127.0.0.1:{port}"
    assert "ConnectionRefusedError" in line["error"]
    assert "s3cret" not in repr(logs)
    assert "anew" not in repr(logs)


async def test_a_login_that_is_refused_is_named_as_the_cause() -> None:
    """As the server says it."""
    async with nats_server("--user", "messaging", "--pass", "secret") as server:
        with capture_logs() as logs:
            bus = NatsExchange(server, "messaging:wr0ng@").bus()
            line = await logged(bus, "The bus cannot be connected", logs)
    assert "Authorization" in line["error"]
    assert "wr0ng" not in repr(logs)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("nats://a:4222", Address(["nats://a:4222"])),
        ("nats://a:4222/", Address(["nats://a:4222"])),
        ("nats://u:p@a:4222/staging-1", Address(["nats://u:p@a:4222"], "staging-1")),
        ("tls://a:4222,nats://b:4222/x", Address(["tls://a:4222", "nats://b:4222"], "x")),
    ],
)
def test_an_address_names_servers_and_a_prefix(text: str, address: Address) -> None:
    """The prefix, which is ours, is not for nats-py."""
    assert Address.parse(text) == address


@pytest.mark.parametrize(
    "text", ["nats://", "nats:", "nats://a/x,nats://b/y", "nats://a/x.>", "nats://a/x/y"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ValueError, match=r"it is not|prefix"):
        Address.parse(text)

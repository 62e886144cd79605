"""PostgreSQL's notifications keep the contract of every bus."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
import trio
from attrs import frozen

from adapters.bus_postgres import PostgresBus
from messaging_core.ports import Bus
from messaging_core.testing.bus_contract import BusContract, Ear, Exchange, delivery, ears, numbers
from tests.bus.postgres_database import PostgresDatabase, postgres_database


@frozen
class PostgresExchange:
    """A channel of its own, so that no test hears what another has left."""

    database: PostgresDatabase
    channel: str

    def bus(self) -> Bus:
        return PostgresBus(self.database.address, channel=self.channel)

    async def disrupt(self) -> None:
        await self.database.terminate()


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresDatabase]:
    with postgres_database() as made:
        yield made


@pytest.fixture
def exchange(database: PostgresDatabase) -> PostgresExchange:
    return PostgresExchange(database, f'a "channel" {uuid4().hex}'[:63])


class TestPostgresBus(BusContract):
    @pytest.fixture
    def exchange(self, exchange: PostgresExchange) -> Exchange:
        return exchange


async def test_what_others_say_on_the_channel_does_no_harm(exchange: PostgresExchange) -> None:
    """Another program, or another version of this one: it is logged and passed over."""
    async with ears(exchange) as (one, two):
        with psycopg.connect(exchange.database.address, autocommit=True) as connection:
            for said in (
                "",
                "hello",
                "[]",
                '["x",1,0.5,[["event",1]]]',
                '["x",1,0.5,[["event",1,"no"]]]',
                "\x7f",
            ):
                connection.execute("SELECT pg_notify(%s, %s)", [exchange.channel, said])
        one.bus.publish(delivery(1))
        await two.until(lambda ear: numbers(ear) == [1])
        assert {envelope.publisher for envelope in two.envelopes} == {one.bus.publisher, two.bus.publisher}


async def test_it_waits_for_a_server_that_is_not_there(exchange: PostgresExchange) -> None:
    """Nothing fails; when the server is back, so is the bus."""
    async with ears(exchange) as (one, two):
        before = [len(ear.missed) for ear in (one, two)]
        await exchange.database.stop()
        one.bus.publish(delivery(1))
        with trio.move_on_after(0.5):  # longer than an attempt takes to fail
            await two.until(lambda ear: len(ear.missed) > before[1])
        assert [len(ear.missed) for ear in (one, two)] == before
        await exchange.database.start()
        for ear in (one, two):
            await ear.hears_itself()
        one.bus.publish(delivery(2))
        await two.until(lambda ear: 2 in numbers(ear))


async def test_a_process_that_ends_while_the_server_is_gone_ends(exchange: PostgresExchange) -> None:
    """It does not wait to say goodbye."""
    ear = Ear(PostgresBus("postgresql://postgres@127.0.0.1:9/", channel=exchange.channel))
    with trio.fail_after(10), trio.move_on_after(0.5):
        ear.bus.publish(delivery(1))
        await ear.run()
    assert ear.missed == []

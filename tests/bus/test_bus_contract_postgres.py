"""PostgreSQL's notifications keep the contract of every bus."""

import os
from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
import trio
from attrs import frozen

from adapters.bus_postgres import PostgresBus
from messaging_core.ports import Bus
from messaging_core.testing.bus_contract import BusContract, Ear, Exchange, delivery, ears, numbers

SERVER = os.environ.get("MESSAGING_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A database of these tests' own, so that no other connection is ended by them."""
    name = f"messaging_bus_test_{os.getpid()}"
    with psycopg.connect(SERVER, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{name}"')
        try:
            yield urlsplit(SERVER)._replace(path=f"/{name}").geturl()
        finally:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@frozen
class PostgresExchange:
    """A channel of its own, so that no test hears what another has left."""

    database: str
    channel: str

    def bus(self) -> Bus:
        return PostgresBus(self.database, channel=self.channel)

    async def disrupt(self) -> None:
        await trio.to_thread.run_sync(self.terminate)

    def terminate(self) -> None:
        with psycopg.connect(self.database, autocommit=True) as connection:
            ended = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'messaging bus'"
            ).fetchall()
        assert ended


@pytest.fixture
def exchange(database: str) -> PostgresExchange:
    return PostgresExchange(database, f'a "channel" {uuid4().hex}'[:63])


class TestPostgresBus(BusContract):
    @pytest.fixture
    def exchange(self, exchange: PostgresExchange) -> Exchange:
        return exchange


async def test_what_others_say_on_the_channel_does_no_harm(exchange: PostgresExchange) -> None:
    """Another program, or another version of this one: it is logged and passed over."""
    async with ears(exchange) as (one, two):
        with psycopg.connect(exchange.database, autocommit=True) as connection:
            for said in (
                "",
                "hello",
                "[]",
                '["x",1,0.5,[["event",1]]]',
                '["x",1,0.5,[["event",1,"no"]]]',
                "\x7f",
            ):
                connection.execute("SELECT pg_notify(%s, %s)", [exchange.channel, said])
        one.bus.ring(delivery(1))
        await two.until(lambda ear: numbers(ear) == [1])
        assert {envelope.publisher for envelope in two.envelopes} == {one.bus.publisher, two.bus.publisher}


async def test_it_waits_for_a_server_that_is_not_there(exchange: PostgresExchange) -> None:
    """Nothing fails; when the server is back, so is the bus."""
    with psycopg.connect(SERVER, autocommit=True) as server:
        name = urlsplit(exchange.database).path[1:]
        async with ears(exchange) as (one, two):
            before = [len(ear.missed) for ear in (one, two)]
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            await trio.to_thread.run_sync(_end, name)
            one.bus.ring(delivery(1))
            with trio.move_on_after(0.5):  # longer than an attempt takes to fail
                await two.until(lambda ear: len(ear.missed) > before[1])
            assert [len(ear.missed) for ear in (one, two)] == before
            server.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
            for ear in (one, two):
                await ear.hears_itself()
            one.bus.ring(delivery(2))
            await two.until(lambda ear: 2 in numbers(ear))


def _end(database: str) -> None:
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database]
        )


async def test_a_process_that_ends_while_the_server_is_gone_ends(exchange: PostgresExchange) -> None:
    """It does not wait to say goodbye."""
    ear = Ear(PostgresBus("postgresql://postgres@127.0.0.1:9/", channel=exchange.channel))
    with trio.fail_after(10), trio.move_on_after(0.5):
        ear.bus.ring(delivery(1))
        await ear.run()
    assert ear.missed == []

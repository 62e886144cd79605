"""The PostgreSQL bus passes the suite of every bus, and has rules of its own."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
import trio
from attrs import frozen

from adapters.bus_postgres import PostgresBus
from messaging_core.ports import Bus
from messaging_core.testing.bus_contract import (
    BusContract,
    BusProcess,
    Exchange,
    bus_processes,
    delivery,
    log_numbers,
)
from tests.bus.postgres_database import PostgresDatabase, postgres_database
from tests.patience import PATIENCE


@frozen
class PostgresExchange:
    """Each test has its own channel, and so receives no signals of another test."""

    database: PostgresDatabase
    channel: str

    def bus(self) -> Bus:
        return PostgresBus(self.database.address, channel=self.channel)

    async def disrupt(self) -> None:
        await self.database.terminate()


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresDatabase]:
    with postgres_database() as database:
        yield database


@pytest.fixture
def exchange(database: PostgresDatabase) -> PostgresExchange:
    return PostgresExchange(database, f'a "channel" {uuid4().hex}'[:63])


class TestPostgresBus(BusContract):
    @pytest.fixture
    def exchange(self, exchange: PostgresExchange) -> Exchange:
        return exchange


async def test_malformed_notifications_are_skipped(exchange: PostgresExchange) -> None:
    """A notification of another program, or of another version of this one, is logged and skipped."""
    async with bus_processes(exchange) as (one, two):
        with psycopg.connect(exchange.database.address, autocommit=True) as connection:
            for payload in (
                "",
                "hello",
                "[]",
                '["x",1,0.5,[["event",1]]]',
                '["x",1,0.5,[["event",1,"no"]]]',
                "\x7f",
            ):
                connection.execute("SELECT pg_notify(%s, %s)", [exchange.channel, payload])
        one.bus.publish(delivery(1))
        await two.wait_until(lambda process: log_numbers(process) == [1])
        assert {envelope.publisher for envelope in two.envelopes} == {one.bus.publisher, two.bus.publisher}


async def test_the_bus_reconnects_when_the_server_is_back(exchange: PostgresExchange) -> None:
    """Without a server nothing fails; when the server is back, the bus reconnects."""
    async with bus_processes(exchange) as (one, two):
        before = [len(process.missed) for process in (one, two)]
        await exchange.database.stop()
        one.bus.publish(delivery(1))
        with trio.move_on_after(0.5):  # longer than an attempt takes to fail
            await two.wait_until(lambda process: len(process.missed) > before[1])
        assert [len(process.missed) for process in (one, two)] == before
        await exchange.database.start()
        for process in (one, two):
            await process.wait_for_own_heartbeat()
        one.bus.publish(delivery(2))
        await two.wait_until(lambda process: 2 in log_numbers(process))


async def test_a_process_ends_at_once_without_a_server(exchange: PostgresExchange) -> None:
    """An ending process does not wait for a connection to send its last envelope."""
    process = BusProcess(PostgresBus("postgresql://postgres@127.0.0.1:9/", channel=exchange.channel))
    with trio.fail_after(PATIENCE), trio.move_on_after(0.5):
        process.bus.publish(delivery(1))
        await process.run()
    assert process.missed == []

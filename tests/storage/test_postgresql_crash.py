"""PostgreSQL crashes while a COMMIT is under way: nobody is told that what was lost has been committed."""

from collections.abc import Iterator

import pytest
import trio

from adapters.storage_sql.postgresql.schema import upgrade_postgresql
from adapters.storage_sql.postgresql.storage import open_postgresql
from adapters.storage_sql.postgresql.transaction import PostgresqlTransaction
from messaging_core.ids import MessageId
from messaging_core.ports import OutcomeUnknown, Storage, StorageUnavailable, Transaction
from tests.postgresql import connect
from tests.postgresql_cluster import Cluster, cluster
from tests.storage.broken_network import network
from tests.storage.people import prepare, send, written

PATIENCE = 20
"""Seconds after which something that should have happened has not."""

Told = list[tuple[int, MessageId]]


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server with the tables, which writes down by itself what it must, and nothing else."""
    with cluster("wal_writer_delay=10s", "autovacuum=off") as made:
        upgrade_postgresql(made.address)
        yield made


async def test_a_number_that_another_transaction_was_given_says_nothing(server: Cluster) -> None:
    """A server that crashes gives a number twice if it had not written down the first time.

    The one who had it first is not told that it was committed because the second one was.
    """
    told: Told = []
    unknown: list[str] = []
    numbers: list[str] = []

    async with network(server.address) as between, trio.open_nursery() as nursery:

        def operation(tx: Transaction) -> tuple[int, MessageId]:
            sent = send(tx)
            assert isinstance(tx, PostgresqlTransaction)
            numbers.append(str(tx.find_number()))
            between.swallows = between.refuses = True
            return sent

        async def lose(storage: Storage) -> None:
            try:
                await storage.transact(operation, committed=told.append)
            except OutcomeUnknown as error:
                unknown.append(str(error))

        with trio.fail_after(PATIENCE):
            async with open_postgresql(between.address) as storage:
                await storage.transact(prepare)
                nursery.start_soon(lose, storage)
                await between.lost.wait()
                await trio.to_thread.run_sync(server.restart)
                with connect(server.address) as others:
                    for _ in range(100):
                        others.execute("SELECT pg_current_xact_id()")
                    status = others.execute("SELECT pg_xact_status(%s::xid8)", numbers).fetchone()
                assert status == ("committed",), "the number was not given again: this shows nothing"
                between.refuses = False
                assert await eventually(storage) == []
                await storage.transact(send, committed=told.append)
                assert await storage.read(written) == told
                assert len(told) == 1
        assert ["not known" in why for why in unknown] == [True]


async def eventually(storage: Storage) -> list[tuple[int, MessageId | None]]:
    """What is written, once the storage asks for the server again."""
    while True:
        try:
            return await storage.read(written)
        except StorageUnavailable:
            await trio.sleep(0.05)

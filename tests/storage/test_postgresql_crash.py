"""PostgreSQL crashes during a COMMIT: a lost transaction is never reported as committed."""

from collections.abc import Iterator

import pytest
import trio

from adapters.storage_sql.postgresql.schema import upgrade_postgresql
from adapters.storage_sql.postgresql.storage import open_postgresql
from adapters.storage_sql.postgresql.transaction import PostgresqlTransaction
from messaging_core.ids import MessageId
from messaging_core.ports import OutcomeUnknown, Storage, StorageUnavailable, Transaction
from tests.patience import PATIENCE
from tests.postgresql import connect
from tests.postgresql_cluster import Cluster, cluster
from tests.storage.broken_network import network
from tests.storage.people import prepare, send, written

Sent = list[tuple[int, MessageId]]


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    """A server with the tables, which flushes its log only where it must."""
    with cluster("wal_writer_delay=10s", "autovacuum=off") as made:
        upgrade_postgresql(made.address)
        yield made


async def test_a_reassigned_transaction_number_proves_nothing(server: Cluster) -> None:
    """A server that crashed assigns a number again if it had not flushed the first assignment.

    The first transaction's caller does not get "committed" because the second transaction was.
    """
    notified: Sent = []
    unknown: list[str] = []
    xids: list[str] = []

    async with network(server.address) as between, trio.open_nursery() as nursery:

        def operation(tx: Transaction) -> tuple[int, MessageId]:
            sent = send(tx)
            assert isinstance(tx, PostgresqlTransaction)
            xids.append(str(tx.find_xid()))
            between.swallows_next_send = between.refuses_connections = True
            return sent

        async def lose(storage: Storage) -> None:
            try:
                await storage.transact(operation, committed=notified.append)
            except OutcomeUnknown as error:
                unknown.append(str(error))

        with trio.fail_after(PATIENCE):
            async with open_postgresql(between.address) as storage:
                await storage.transact(prepare)
                nursery.start_soon(lose, storage)
                await between.dropped.wait()
                await trio.to_thread.run_sync(server.restart)
                with connect(server.address) as others:
                    for _ in range(100):
                        others.execute("SELECT pg_current_xact_id()")
                    status = others.execute("SELECT pg_xact_status(%s::xid8)", xids).fetchone()
                assert status == ("committed",), "the server did not reassign the number"
                between.refuses_connections = False
                assert await eventually(storage) == []
                await storage.transact(send, committed=notified.append)
                assert await storage.read(written) == notified
                assert len(notified) == 1
        assert ["not known" in why for why in unknown] == [True]


async def eventually(storage: Storage) -> list[tuple[int, MessageId | None]]:
    """The log, once the storage connects again."""
    while True:
        try:
            return await storage.read(written)
        except StorageUnavailable:
            await trio.sleep(0.05)

"""Clients over two processes on a database show what a fresh fetch shows: see `test_convergence.py`."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.postgresql.storage import open_postgresql
from messaging_core.ports import Storage
from tests.postgresql import new_database_with_tables
from tests.runtime.stage import EVERY_KIND, play, some_program

OpenBoth = Callable[[], AbstractAsyncContextManager[Sequence[Storage]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def open_both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenBoth]:
    """Opens the storages of two processes; on SQLite, whose file one process has, they share one."""

    @asynccontextmanager
    async def sqlite() -> AsyncIterator[Sequence[Storage]]:
        async with open_sqlite(tmp_path / "messaging.db") as storage:
            yield [storage, storage]

    if request.param == "sqlite":
        yield sqlite
        return
    with new_database_with_tables("convergence") as address:

        @asynccontextmanager
        async def postgresql() -> AsyncIterator[Sequence[Storage]]:
            async with open_postgresql(address) as one, open_postgresql(address) as other:
                yield [one, other]

        yield postgresql


@pytest.mark.parametrize("seed", range(3))
async def test_old_state_and_events_are_fresh_state(open_both: OpenBoth, seed: int) -> None:
    """For every action, under any schedule of disconnects, devices and processes, on each database."""
    random = Random(seed)
    async with open_both() as storages:
        await play(storages, [*some_program(random, 60), *EVERY_KIND], random)

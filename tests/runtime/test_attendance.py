"""Who has a socket is stored by a lease, which is renewed, and begun anew after it has expired."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.abc import Clock

from adapters.runtime.attendance import Attendant
from adapters.storage_memory import MemoryStorage
from messaging_core import operations
from messaging_core.ids import UserId
from messaging_core.limits import Limits
from messaging_core.models import PresenceStatus
from messaging_core.operations import Operation
from messaging_core.ports import StorageUnavailable
from messaging_core.presence import LEASE, presence_of

START = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
ALICE, BOB = UserId(1), UserId(2)
LIMITS = Limits()
GRACE = LIMITS.presence_grace.total_seconds()


class Town:
    """A storage, the processes on it, and the time that all of them have."""

    def __init__(self) -> None:
        self.storage = MemoryStorage()
        self.commits = 0
        self.fails = False

    def now(self) -> datetime:
        return START + timedelta(seconds=int(trio.current_time()))

    async def execute(self, operation: Operation[Any]) -> Any:
        if self.fails:
            raise StorageUnavailable("no room")
        self.commits += 1
        return self.storage.world.do(operation)[0]

    def is_online(self, user_id: UserId) -> bool:
        sighting = self.storage.world.read(lambda reader: reader.sighting(user_id))
        return presence_of(user_id, sighting, self.now()).status is PresenceStatus.ONLINE

    @asynccontextmanager
    async def process(self) -> AsyncIterator[Attendant]:
        """A process that is killed at the end of the block."""
        attendant = Attendant(self.execute, self.now, LIMITS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attendant.run)
            yield attendant
            nursery.cancel_scope.cancel()


@pytest.fixture
def town() -> Town:
    return Town()


async def test_a_user_is_online_while_a_socket_is_open_and_for_the_grace(
    town: Town, autojump_clock: Clock
) -> None:
    """The lease is renewed as long as it holds somebody; then nothing is stored any more."""
    async with town.process() as process:
        await trio.sleep(1000)
        assert town.commits == 0
        process.come(ALICE)
        process.come(BOB)
        process.go(BOB)
        await trio.sleep(2)
        assert (town.is_online(ALICE), town.is_online(BOB), town.commits) == (True, False, 1)
        await trio.sleep(1000)
        assert town.is_online(ALICE)
        process.go(ALICE)
        await trio.sleep(GRACE - 5)
        assert town.is_online(ALICE)
        await trio.sleep(10)
        assert not town.is_online(ALICE)
        commits = town.commits
        await trio.sleep(1000)
        assert town.commits == commits


async def test_a_restart_changes_nobodys_presence(town: Town, autojump_clock: Clock) -> None:
    """Users of a killed process stay online, if they are back before its lease has expired."""
    async with town.process() as process:
        process.come(ALICE)
        process.come(BOB)
        await trio.sleep(100)
    await trio.sleep(LEASE.total_seconds() / 2)
    async with town.process() as process:
        process.come(ALICE)
        for _ in range(100):
            assert town.is_online(ALICE)
            await trio.sleep(1)
        assert not town.is_online(BOB)
        await town.execute(operations.drop_leases(town.now() + timedelta(hours=1)))
        await trio.sleep(30)
        assert town.is_online(ALICE), "a lease that was dropped is begun anew"


async def test_one_of_two_processes_ends(town: Town, autojump_clock: Clock) -> None:
    """A user who has sockets in two processes stays online when those in one close."""
    async with town.process() as here, town.process() as there:
        here.come(ALICE)
        there.come(ALICE)
        await trio.sleep(5)
        here.go(ALICE)
        await trio.sleep(5 * GRACE)
        assert town.is_online(ALICE)


@pytest.mark.parametrize("failure", ["storage", "defect"])
async def test_what_could_not_be_stored_is_stored_later(
    town: Town, failure: str, autojump_clock: Clock
) -> None:
    """No failure ends the renewals or loses a change; an outage of the storage is logged once."""
    execute: Callable[[Operation[Any]], Any] = town.execute

    async def fail(operation: Operation[Any]) -> Any:
        if town.fails:
            raise StorageUnavailable("no room") if failure == "storage" else RuntimeError("a defect")
        return await execute(operation)

    town.execute = fail  # type: ignore[method-assign]
    async with town.process() as process:
        town.fails = True
        process.come(ALICE)
        with capture_logs() as logs:
            await trio.sleep(100)
        assert not town.is_online(ALICE)
        said = [entry["log_level"] for entry in logs]
        assert said == ["warning"] if failure == "storage" else set(said) == {"error"}
        town.fails = False
        await trio.sleep(7)
        assert town.is_online(ALICE)


async def test_more_changes_than_one_transaction_holds(town: Town, autojump_clock: Clock) -> None:
    """A thousand arrivals are stored in several transactions, without a pause between them."""
    async with town.process() as process:
        for number in range(1, 1001):
            process.come(UserId(number))
        await trio.sleep(2)
        assert all(town.is_online(UserId(number)) for number in (1, 500, 1000))
        assert town.commits == 4

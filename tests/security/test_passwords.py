"""Password hashes: strong enough, off the loop, bounded."""

import threading
from collections import Counter

import pytest
import trio
import trio.testing
from argon2 import extract_parameters

from adapters.security import Argon2Hasher
from adapters.security.passwords import QUEUE, QUEUE_OF_NETWORK
from messaging_core.ports import PasswordHasherBusy
from tests.listener.harness import wait_until
from tests.patience import PATIENCE

HERE = "127.0.0.1"


async def test_a_hash_fits_its_password_only() -> None:
    """The right password matches, another one and half a surrogate pair do not."""
    hasher = Argon2Hasher()
    kept = await hasher.hash("password123", network=HERE)
    assert await hasher.matches(kept, "password123", network=HERE)
    assert not await hasher.matches(kept, "password124", network=HERE)
    assert not await hasher.matches(kept, "\ud800", network=HERE)


async def test_hashes_meet_owasps_minimum() -> None:
    """argon2id with at least 19 MiB and 2 iterations."""
    parameters = extract_parameters(await Argon2Hasher().hash("password123", network=HERE))
    assert parameters.type.name == "ID"
    assert parameters.memory_cost >= 19 * 1024
    assert parameters.time_cost >= 2


async def test_an_unknown_user_costs_the_same_work() -> None:
    """Without a hash to compare with, one is computed all the same, and the answer is no."""
    hasher = Argon2Hasher()
    verified: list[str] = []
    verify = hasher._verify

    def counting(password_hash: str, password: str) -> bool:
        verified.append(password_hash)
        return verify(password_hash, password)

    hasher._verify = counting  # type: ignore[method-assign]
    assert not await hasher.matches(None, "password123", network=HERE)
    (decoy,) = verified
    assert extract_parameters(decoy) == extract_parameters(await hasher.hash("password123", network=HERE))


async def test_the_password_of_the_decoy_opens_nothing() -> None:
    """Even who found a password that the decoy fits is refused."""
    hasher = Argon2Hasher()
    hasher._decoy = await hasher.hash("password123", network=HERE)
    assert not await hasher.matches(None, "password123", network=HERE)


async def test_a_damaged_hash_is_loud() -> None:
    """A stored hash that is none is a fault of ours, not a wrong password."""
    with pytest.raises(RuntimeError, match="damaged"):
        await Argon2Hasher().matches("not a hash", "password123", network=HERE)


# --- turns --------------------------------------------------------------------------------------------------


class Turns:
    """A hasher whose work each begins when the test says so, and who has had it."""

    def __init__(self, nursery: trio.Nursery, threads: int = 1) -> None:
        self.hasher = Argon2Hasher(threads)
        self.done: list[str] = []
        self.busy: list[str] = []
        self._nursery = nursery
        self._may_work = threading.Semaphore(0)
        self.hasher._argon2 = self  # type: ignore[assignment]

    def hash(self, password: str) -> str:
        assert self._may_work.acquire(timeout=PATIENCE)
        return password

    async def ask(self, network: str, *, count: int = 1) -> list[trio.CancelScope]:
        """Have so many passwords of a network wait."""

        async def one(scope: trio.CancelScope) -> None:
            with scope:
                try:
                    self.done.append(await self.hasher.hash(network, network=network))
                except PasswordHasherBusy:
                    self.busy.append(network)

        scopes = [trio.CancelScope() for _ in range(count)]
        for scope in scopes:
            self._nursery.start_soon(one, scope)
            await trio.testing.wait_all_tasks_blocked()
        return scopes

    async def work(self, count: int) -> None:
        """Let so many be hashed, and wait until they are."""
        expected = len(self.done) + count
        self._may_work.release(count)
        await wait_until(lambda: len(self.done) == expected)


@pytest.fixture
async def turns(nursery: trio.Nursery) -> Turns:
    return Turns(nursery)


async def test_the_queue_of_a_network_is_bounded(turns: Turns) -> None:
    """With one at work and 32 waiting, the next of that network is told to come back; another's waits."""
    await turns.ask("one", count=QUEUE_OF_NETWORK + 1)
    assert turns.busy == []
    await turns.ask("one")
    assert turns.busy == ["one"]
    await turns.ask("other")
    assert turns.busy == ["one"]
    await turns.work(QUEUE_OF_NETWORK + 2)
    assert Counter(turns.done) == {"one": QUEUE_OF_NETWORK + 1, "other": 1}


async def test_the_queue_is_bounded(turns: Turns) -> None:
    """With one at work and 64 waiting, one more has another told to come back, who has more waiting."""
    await turns.ask("one", count=QUEUE_OF_NETWORK + 1)
    await turns.ask("two", count=QUEUE - QUEUE_OF_NETWORK)
    for network in ("three", "four"):
        await turns.ask(network)
    assert Counter(turns.busy) == {"one": 1, "two": 1}
    await turns.work(QUEUE + 1)
    assert set(turns.done) == {"one", "two", "three", "four"}


async def test_networks_take_turns(turns: Turns) -> None:
    """However many passwords of one network wait, another's waits for one of them and the one at work."""
    await turns.ask("flood", count=20)
    await turns.ask("victim")
    await turns.work(3)
    assert turns.done == ["flood", "flood", "victim"]
    await turns.ask("victim", count=2)
    await turns.work(18 + 2)
    assert turns.done[3:8] == ["flood", "flood", "victim", "flood", "victim"]


async def test_who_has_left_takes_no_turn(turns: Turns) -> None:
    """Who is cancelled while waiting makes room, and nobody else waits for them."""
    await turns.ask("at work")
    left = await turns.ask("left", count=5)
    await turns.ask("stays", count=2)
    for scope in left:
        scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert len(turns.hasher._queue) == 2
    await turns.work(3)
    assert turns.done == ["at work", "stays", "stays"]


@pytest.mark.parametrize("first", ["cancelled", "granted"])
async def test_who_leaves_when_their_turn_comes_passes_it_on(turns: Turns, first: str) -> None:
    """No thread is lost to somebody who was cancelled at that moment, on whichever side of it."""
    turns.hasher._idle = 0  # the one thread is the test's
    (left,) = await turns.ask("left")
    await turns.ask("stays")
    if first == "cancelled":
        left.cancel()
        turns.hasher._release()
    else:
        turns.hasher._release()
        left.cancel()
    await turns.work(1)
    assert turns.done == ["stays"]
    assert turns.hasher._idle == 1


async def test_a_failure_passes_the_thread_on() -> None:
    """After a damaged hash, or a password that no hash is made of, the next is hashed all the same."""
    hasher = Argon2Hasher()
    for _ in range(3):
        with pytest.raises(RuntimeError, match="damaged"):
            await hasher.matches("not a hash", "password123", network=HERE)
        with pytest.raises(UnicodeEncodeError):
            await hasher.hash("\ud800", network=HERE)
    assert await hasher.hash("password123", network=HERE)


async def test_all_threads_are_used(nursery: trio.Nursery) -> None:
    """Two at a time with two threads, and each of them is passed on."""
    turns = Turns(nursery, threads=2)
    await turns.ask("one", count=5)
    assert len(turns.hasher._queue) == 3
    await turns.work(5)
    assert turns.hasher._idle == 2

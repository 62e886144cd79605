"""Password hashes: strong, computed outside of the event loop, in a bounded queue."""

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
    """The right password matches; another one, and a half of a surrogate pair, do not."""
    hasher = Argon2Hasher()
    kept = await hasher.hash("password123", network=HERE)
    assert await hasher.matches(kept, "password123", network=HERE)
    assert not await hasher.matches(kept, "password124", network=HERE)
    assert not await hasher.matches(kept, "\ud800", network=HERE)


async def test_hashes_meet_owasps_minimum() -> None:
    """Hashes are argon2id with at least 19 MiB and 2 iterations."""
    parameters = extract_parameters(await Argon2Hasher().hash("password123", network=HERE))
    assert parameters.type.name == "ID"
    assert parameters.memory_cost >= 19 * 1024
    assert parameters.time_cost >= 2


async def test_an_unknown_user_costs_the_same_work() -> None:
    """Without a stored hash, one is verified all the same, and the result is false."""
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


async def test_the_password_of_the_decoy_is_refused() -> None:
    """Even a password that matches the decoy's hash is refused."""
    hasher = Argon2Hasher()
    hasher._decoy = await hasher.hash("password123", network=HERE)
    assert not await hasher.matches(None, "password123", network=HERE)


async def test_a_damaged_hash_raises() -> None:
    """An invalid stored hash is an error of the server, not a wrong password."""
    with pytest.raises(RuntimeError, match="damaged"):
        await Argon2Hasher().matches("not a hash", "password123", network=HERE)


# --- turns --------------------------------------------------------------------------------------------------


class Turns:
    """A hasher whose work waits until the test allows it, and which records whose passwords it has hashed."""

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

    async def enqueue(self, network: str, *, count: int = 1) -> list[trio.CancelScope]:
        """Add `count` passwords of a network to the queue."""

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

    async def hash_next(self, count: int) -> None:
        """Allow `count` hashes, and wait for them."""
        expected = len(self.done) + count
        self._may_work.release(count)
        await wait_until(lambda: len(self.done) == expected)


@pytest.fixture
async def turns(nursery: trio.Nursery) -> Turns:
    return Turns(nursery)


async def test_the_queue_of_a_network_is_bounded(turns: Turns) -> None:
    """With one being hashed and 32 waiting, the network's next is refused; another network's waits."""
    await turns.enqueue("one", count=QUEUE_OF_NETWORK + 1)
    assert turns.busy == []
    await turns.enqueue("one")
    assert turns.busy == ["one"]
    await turns.enqueue("other")
    assert turns.busy == ["one"]
    await turns.hash_next(QUEUE_OF_NETWORK + 2)
    assert Counter(turns.done) == {"one": QUEUE_OF_NETWORK + 1, "other": 1}


async def test_the_queue_is_bounded(turns: Turns) -> None:
    """With one being hashed and 64 waiting, one more evicts one of the network that has the most waiting."""
    await turns.enqueue("one", count=QUEUE_OF_NETWORK + 1)
    await turns.enqueue("two", count=QUEUE - QUEUE_OF_NETWORK)
    for network in ("three", "four"):
        await turns.enqueue(network)
    assert Counter(turns.busy) == {"one": 1, "two": 1}
    await turns.hash_next(QUEUE + 1)
    assert set(turns.done) == {"one", "two", "three", "four"}


async def test_a_new_network_goes_first(turns: Turns) -> None:
    """However many passwords of one network wait, another's waits for the one in work only."""
    await turns.enqueue("flood", count=20)
    await turns.enqueue("victim")
    await turns.hash_next(2)
    assert turns.done == ["flood", "victim"]
    await turns.enqueue("victim", count=2)
    await turns.enqueue("other", count=3)
    await turns.hash_next(26 - 2)
    assert turns.done[2:8] == ["flood", "victim", "other", "victim", "other", "other"]


async def test_a_network_with_a_right_password_goes_before_others_as_new(turns: Turns) -> None:
    """A right password is to the credit of its network; a wrong one and one for no account are not."""
    hasher = turns.hasher
    kept = await Argon2Hasher().hash("password123", network=HERE)
    hasher._argon2 = Argon2Hasher()._argon2
    for network, password_hash, password in (
        ("wrong", kept, "password124"),
        ("unknown", None, "password123"),
        ("right", kept, "password123"),
    ):
        assert await hasher.matches(password_hash, password, network=network) == (network == "right")
    hasher._argon2 = turns  # type: ignore[assignment]
    for network in ("in work", "new", "wrong", "unknown", "right"):
        await turns.enqueue(network)
    await turns.hash_next(5)
    assert turns.done == ["in work", "right", "new", "wrong", "unknown"]


async def test_networks_that_come_back_keep_no_new_one_out(turns: Turns) -> None:
    """While more networks than the queue holds ask again after each turn, a new one goes before them."""
    networks = [f"flood {number}" for number in range(QUEUE + 6)]
    for network in ("at work", *networks):
        await turns.enqueue(network)
    for _ in range(3):
        await turns.hash_next(10)
        for network in turns.done[-10:]:
            await turns.enqueue(network)
    came_back = set(turns.done) - {"at work"}  # whose first password did not have to wait
    await turns.enqueue("victim")
    assert "victim" not in turns.busy
    await turns.hash_next(QUEUE + 1)
    in_work, *then = turns.done[-QUEUE - 1 :]
    assert in_work not in came_back
    assert came_back.isdisjoint(then[: then.index("victim")])


async def test_a_cancelled_caller_takes_no_turn(turns: Turns) -> None:
    """A caller that is cancelled while waiting leaves the queue."""
    await turns.enqueue("at work")
    left = await turns.enqueue("left", count=5)
    await turns.enqueue("stays", count=2)
    for scope in left:
        scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert len(turns.hasher._queue) == 2
    await turns.hash_next(3)
    assert turns.done == ["at work", "stays", "stays"]


@pytest.mark.parametrize("first", ["cancelled", "granted"])
async def test_a_caller_that_is_cancelled_on_its_turn_passes_it_on(turns: Turns, first: str) -> None:
    """A caller that is cancelled just before or after its turn passes the thread to the next."""
    turns.hasher._idle = 0  # the test has the only thread
    (left,) = await turns.enqueue("left")
    await turns.enqueue("stays")
    if first == "cancelled":
        left.cancel()
        turns.hasher._release()
    else:
        turns.hasher._release()
        left.cancel()
    await turns.hash_next(1)
    assert turns.done == ["stays"]
    assert turns.hasher._idle == 1


async def test_a_failure_passes_the_thread_on() -> None:
    """After a damaged hash, or a password that cannot be hashed, the next one is hashed."""
    hasher = Argon2Hasher()
    for _ in range(3):
        with pytest.raises(RuntimeError, match="damaged"):
            await hasher.matches("not a hash", "password123", network=HERE)
        with pytest.raises(UnicodeEncodeError):
            await hasher.hash("\ud800", network=HERE)
    assert await hasher.hash("password123", network=HERE)


async def test_all_threads_are_used(nursery: trio.Nursery) -> None:
    """Two threads hash two passwords at a time, and each is passed on."""
    turns = Turns(nursery, threads=2)
    await turns.enqueue("one", count=5)
    assert len(turns.hasher._queue) == 3
    await turns.hash_next(5)
    assert turns.hasher._idle == 2

"""Password hashes: strong enough, off the loop, bounded."""

import pytest
import trio
import trio.testing
from argon2 import extract_parameters

from adapters.security import Argon2Hasher
from adapters.security.passwords import QUEUE
from messaging_core.ports import PasswordHasherBusy


async def test_a_hash_fits_its_password_only() -> None:
    """The right password matches, another one and half a surrogate pair do not."""
    hasher = Argon2Hasher()
    kept = await hasher.hash("password123")
    assert await hasher.matches(kept, "password123")
    assert not await hasher.matches(kept, "password124")
    assert not await hasher.matches(kept, "\ud800")


async def test_hashes_meet_owasps_minimum() -> None:
    """argon2id with at least 19 MiB and 2 iterations."""
    parameters = extract_parameters(await Argon2Hasher().hash("password123"))
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
    assert not await hasher.matches(None, "password123")
    (decoy,) = verified
    assert extract_parameters(decoy) == extract_parameters(await hasher.hash("password123"))


async def test_the_password_of_the_decoy_opens_nothing() -> None:
    """Even who found a password that the decoy fits is refused."""
    hasher = Argon2Hasher()
    hasher._decoy = await hasher.hash("password123")
    assert not await hasher.matches(None, "password123")


async def test_a_damaged_hash_is_loud() -> None:
    """A stored hash that is none is a fault of ours, not a wrong password."""
    with pytest.raises(RuntimeError, match="damaged"):
        await Argon2Hasher().matches("not a hash", "password123")


async def test_the_queue_is_bounded() -> None:
    """With one at work and 64 waiting, the next is told to come back instead of waiting for ever."""
    hasher = Argon2Hasher(threads=1)
    async with trio.open_nursery() as nursery:
        for _ in range(QUEUE + 1):
            nursery.start_soon(hasher.hash, "password123")
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(PasswordHasherBusy):
            await hasher.hash("password123")
        nursery.cancel_scope.cancel()

"""Rules of presence: leases hold users, an expired one never counts again, and later times win."""

from datetime import datetime, timedelta

from messaging_core.effects import EndPresence, HoldPresence, StorageEffect, StoreLease, StoreSighting
from messaging_core.ids import UserId
from messaging_core.models import Sighting
from messaging_core.ports import FORGOTTEN_AT_ONCE, Storage, Transaction
from messaging_core.testing.storage_programs import NOW

ALICE, BOB, NOBODY = UserId(1), UserId(2), UserId(9)


def after(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


async def apply(storage: Storage, *effects: StorageEffect) -> None:
    def operation(tx: Transaction) -> None:
        for effect in effects:
            tx.apply(effect)

    await storage.transact(operation)


async def sighting(storage: Storage, user_id: UserId) -> Sighting | None:
    return await storage.read(lambda reader: reader.sighting(user_id))


async def renew(storage: Storage, holder: str, until: int, now: int) -> bool:
    return await storage.transact(lambda tx: tx.renew_lease(holder, until=after(until), now=after(now)))


class PresenceRules:
    """See `StorageContract`."""

    async def test_later_times_win(self, storage: Storage) -> None:
        """Of several sightings the later times stay, in whichever order they are stored."""
        assert await sighting(storage, ALICE) is None
        await apply(storage, StoreSighting(ALICE, Sighting(after(10), after(20))))
        await apply(storage, StoreSighting(ALICE, Sighting(after(5), after(300))))
        assert await sighting(storage, ALICE) == Sighting(after(10), after(300))
        assert await sighting(storage, BOB) is None

    async def test_a_lease_holds_its_users(self, storage: Storage) -> None:
        """Those whom a lease holds are there until its end; a renewal prolongs that for all of them."""
        await apply(storage, StoreLease("a", after(60)), StoreLease("b", after(50)))
        await apply(storage, HoldPresence("a", ALICE), HoldPresence("a", ALICE), HoldPresence("b", ALICE))
        await apply(storage, HoldPresence("b", BOB))
        assert await sighting(storage, ALICE) == Sighting(after(60), after(60))
        assert await sighting(storage, BOB) == Sighting(after(50), after(50))
        assert await renew(storage, "b", until=90, now=50)
        for user_id in (ALICE, BOB):
            assert await sighting(storage, user_id) == Sighting(after(90), after(90))
        await apply(storage, EndPresence("b", ALICE), EndPresence("b", NOBODY))
        assert await sighting(storage, ALICE) == Sighting(after(60), after(60))
        await apply(storage, EndPresence("a", ALICE), StoreSighting(ALICE, Sighting(after(30), after(70))))
        assert await sighting(storage, ALICE) == Sighting(after(30), after(70))
        found = await storage.read(lambda reader: reader.sightings((ALICE, NOBODY, BOB)))
        assert found == {user_id: await sighting(storage, user_id) for user_id in (ALICE, BOB)}

    async def test_an_expired_lease_is_not_renewed(self, storage: Storage) -> None:
        """Neither is one that does not exist: its process must begin another."""
        await apply(storage, StoreLease("a", after(60)))
        assert not await renew(storage, "a", until=200, now=61)
        assert not await renew(storage, "unknown", until=200, now=0)
        assert await renew(storage, "a", until=200, now=60)

    async def test_old_leases_become_sightings(self, storage: Storage) -> None:
        """What is known of their users stays; other leases, and those of many users, stay too."""
        many = [UserId(number) for number in range(1, FORGOTTEN_AT_ONCE + 2)]
        await apply(storage, StoreLease("old", after(60)), StoreLease("new", after(100)))
        await apply(storage, *[HoldPresence("old", user_id) for user_id in many], HoldPresence("new", BOB))

        def drop(tx: Transaction) -> int:
            return tx.drop_leases(after(100))

        assert [await storage.transact(drop) for _ in range(3)] == [FORGOTTEN_AT_ONCE, 1, 0]
        assert await sighting(storage, ALICE) == Sighting(after(60), after(60))
        assert await sighting(storage, many[-1]) == Sighting(after(60), after(60))
        assert await sighting(storage, BOB) == Sighting(after(100), after(100))
        assert not await renew(storage, "old", until=200, now=0)
        assert await renew(storage, "new", until=200, now=0)

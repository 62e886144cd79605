"""Responses stored under an Idempotency-Key, and the deletion of old responses and sessions."""

from datetime import timedelta

from attrs import evolve

from messaging_core.effects import StoreResponse, StoreSession
from messaging_core.ids import MAX_ID, SessionId
from messaging_core.models import IdempotencyKey, Resource, ResourceKind, Session, StoredResponse
from messaging_core.ports import FORGOTTEN_AT_ONCE, Reader, Storage, Transaction
from messaging_core.testing.storage_contract.operations import add_session, idempotency_key, people
from messaging_core.testing.storage_programs import NOW


class StoredResponseRules:
    async def test_stored_responses(self, storage: Storage) -> None:
        """A response is found by its whole key, and replaced; a key without a user matches no user's."""
        alice, bob = await people(storage, "alice", "bob")
        key = IdempotencyKey(alice.id, "POST", "/api/v1/messages", "k")
        keys = [
            key,
            evolve(key, user_id=None),
            evolve(key, user_id=bob.id),
            evolve(key, method="PATCH"),
            evolve(key, path="/api/v1/messages/1"),
            evolve(key, key="K"),
        ]
        resources = [None, *(Resource(kind, id_) for kind in ResourceKind for id_ in (1, MAX_ID))]
        responses = [
            StoredResponse(key, bytes([number]) * 16, 200 + number, resources[number], NOW)
            for number, key in enumerate(keys)
        ]
        for position, response in enumerate(responses):
            for missing in keys[position:]:
                assert await storage.read(lambda reader, key=missing: reader.stored_response(key)) is None  # type: ignore[misc]
            await storage.transact(lambda tx, response=response: tx.apply(StoreResponse(response)))  # type: ignore[misc]
        newer = evolve(
            responses[1],
            fingerprint=b"n" * 16,
            status=299,
            resource=resources[-1],
            created_at=NOW + timedelta(days=2),
        )
        await storage.transact(lambda tx: tx.apply(StoreResponse(newer)))
        stored = await storage.transact(lambda tx: [tx.lock_stored_response(key) for key in keys])
        assert stored == [responses[0], newer, *responses[2:]]

    async def test_forgetting(self, storage: Storage) -> None:
        """`forget_before` deletes exactly the responses stored and the sessions over before its arguments."""
        [alice] = await people(storage, "alice")
        second = timedelta(seconds=1)

        def fill(tx: Transaction) -> tuple[dict[str, IdempotencyKey], dict[str, SessionId]]:
            responses = {
                name: StoredResponse(idempotency_key(alice, name), b"f" * 16, 200, None, at)
                for name, at in {"old": NOW - second, "new": NOW}.items()
            }
            for response in responses.values():
                tx.apply(StoreResponse(response))
            session = Session(
                SessionId(1), alice.id, "", NOW - timedelta(days=60), NOW, NOW + second, 1, False, None, None
            )
            sessions = {
                name: evolve(session, id=tx.next_session_id(), expires_at=expires_at, ended_at=ended_at)
                for name, expires_at, ended_at in (
                    ("open", NOW + second, None),
                    ("expires now", NOW, None),
                    ("expired", NOW - second, None),
                    ("ended now", NOW + second, NOW),
                    ("ended", NOW + second, NOW - second),
                    ("expired, ended", NOW - second, NOW - second),
                )
            }
            for each in sessions.values():
                tx.apply(StoreSession(each))
            return (
                {name: response.key for name, response in responses.items()},
                {name: each.id for name, each in sessions.items()},
            )

        responses, sessions = await storage.transact(fill)

        def remaining(reader: Reader) -> set[str]:
            return {name for name, key in responses.items() if reader.stored_response(key)} | {
                name for name, session_id in sessions.items() if reader.session(session_id)
            }

        def forget(tx: Transaction) -> int:
            return tx.forget_before(responses=NOW, sessions=NOW)

        everything = await storage.read(remaining)
        assert (
            await storage.transact(lambda tx: tx.forget_before(responses=NOW - second, sessions=NOW - second))
            == 0
        )
        assert await storage.read(remaining) == everything
        assert await storage.transact(forget) == 4
        assert await storage.read(remaining) == {"new", "open", "expires now", "ended now"}
        assert await storage.transact(forget) == 0
        assert await storage.read(lambda reader: reader.user(alice.id)) == alice

    async def test_forgetting_by_parts(self, storage: Storage) -> None:
        """One transaction deletes a bounded number of old rows, so that other transactions wait briefly."""
        [alice] = await people(storage, "alice")
        second = timedelta(seconds=1)
        surplus = 3

        def fill(tx: Transaction) -> list[IdempotencyKey]:
            keys = [idempotency_key(alice, str(n)) for n in range(FORGOTTEN_AT_ONCE + surplus)]
            for key in keys:
                tx.apply(StoreResponse(StoredResponse(key, b"f" * 16, 200, None, NOW - second)))
                session = add_session(tx, alice)
                tx.apply(StoreSession(evolve(session, ended_at=NOW - second)))
            return keys

        def forget(tx: Transaction) -> int:
            return tx.forget_before(responses=NOW, sessions=NOW)

        keys = await storage.transact(fill)
        assert await storage.transact(forget) == 2 * FORGOTTEN_AT_ONCE
        assert await storage.read(lambda reader: sum(map(bool, map(reader.stored_response, keys)))) == surplus
        assert await storage.transact(forget) == 2 * surplus
        assert await storage.transact(forget) == 0

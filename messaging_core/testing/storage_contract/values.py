"""Values are read back as they were stored, and ids are unique."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from messaging_core.effects import StoreUser
from messaging_core.ids import MAX_ID
from messaging_core.models import User
from messaging_core.ports import Storage, Transaction
from messaging_core.testing.storage_contract.operations import (
    Abort,
    abort,
    add_message,
    add_session,
    chat_of,
    pair,
    people,
)
from messaging_core.testing.storage_programs import NOW


class ValueRules:
    @pytest.mark.parametrize(
        "text",
        [
            "\U0001f44b\U0001f3fd \U0001f469‍\U0001f4bb",  # emoji beyond the BMP, joined
            "שלום \u202eعليكم\u202c",  # right to left, with marks
            "e\u0301 \u00e9 n\u0303",  # combining marks, which storages must not normalise
            "İıßſΣς",  # letters that case folding changes
            "one\r\ntwo\tthree \\ \" ' % _ ; --",
            " around ",
            "𝄞" * 4000,
        ],
    )
    async def test_text(self, storage: Storage, text: str) -> None:
        """Text in any field is read back code point by code point."""
        alice, _, chat = await pair(storage)
        message = await storage.transact(
            lambda tx: add_message(tx, chat.id, alice.id, text, {text[:50]: text[:50]})
        )
        assert await storage.read(lambda reader: reader.message(message.id)) == message

        def operation(tx: Transaction) -> User:
            user = User(tx.next_user_id(), f"{text[:9]}@test.com", text[:64], "tag", None, NOW)
            tx.apply(StoreUser(user, "hash", user.email))
            return user

        user = await storage.transact(operation)
        assert await storage.read(lambda reader: reader.user_by_email(user.email)) == user

    @pytest.mark.parametrize(
        "payload",
        [
            {},
            {"": None, "true": True, "list": [], "object": {}, "nested": [[{"a": [1, [2, {"b": None}]]}]]},
            {"largest": MAX_ID, "smallest": -MAX_ID, "zero": 0},
            {"tenth": 0.1, "tiny": 5e-324, "huge": 1.7976931348623157e308, "third": 1 / 3},
            {"ключ": "значение", "\U0001f511": "\u2028\u2029", 'quote"\\': "\x7f"},
        ],
    )
    async def test_payload(self, storage: Storage, payload: dict[str, Any]) -> None:
        """A payload is read back equal: nested, and with the precision of JavaScript's numbers."""
        alice, _, chat = await pair(storage)
        message = await storage.transact(lambda tx: add_message(tx, chat.id, alice.id, None, payload))
        stored = await storage.read(lambda reader: reader.message(message.id))
        assert stored == message
        assert stored is not None
        assert stored.payload is not None
        assert dict(stored.payload) == payload

    async def test_times(self, storage: Storage) -> None:
        """Times are read back aware, in UTC and to the second, from 1970 to 2999."""
        alice, _, chat = await pair(storage)
        for at in (
            datetime(1970, 1, 1, tzinfo=UTC),
            datetime(2024, 3, 31, 1, 59, 59, tzinfo=UTC),  # the beginning of summer time
            datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),  # past 32 bits
            datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC),
        ):
            message = await storage.transact(lambda tx, at=at: add_message(tx, chat.id, alice.id, now=at))  # type: ignore[misc]
            stored = await storage.read(lambda reader, m=message: reader.message(m.id))  # type: ignore[misc]
            assert stored is not None
            assert stored.ts == at
            assert stored.ts.utcoffset() == timedelta(0)
            assert (await chat_of(storage, chat.id)).active_at.utcoffset() == timedelta(0)

    async def test_incarnation(self, storage: Storage) -> None:
        """The incarnation is a short text, and stays while the storage is open."""
        name = storage.incarnation
        assert 0 < len(name) <= 64
        assert name.isascii()
        await pair(storage)
        assert storage.incarnation == name

    async def test_identifiers(self, storage: Storage) -> None:
        """New ids are positive, unique, and greater than all earlier ones, those of a rollback included."""

        def draw(tx: Transaction) -> list[list[int]]:
            return [
                [int(draw_one()) for _ in range(3)]
                for draw_one in (tx.next_user_id, tx.next_session_id, tx.next_chat_id, tx.next_message_id)
            ]

        for drawn in await storage.transact(draw):
            assert 0 < drawn[0] < drawn[1] < drawn[2] <= MAX_ID
        alice, bob, chat = await pair(storage)
        session = await storage.transact(lambda tx: add_session(tx, alice))
        message = await storage.transact(lambda tx: add_message(tx, chat.id, alice.id))
        with pytest.raises(Abort):
            await storage.transact(lambda tx: abort(draw(tx)))
        again = await storage.transact(draw)
        for earlier, drawn in zip((bob.id, session.id, chat.id, message.id), again, strict=True):
            assert earlier < drawn[0] < drawn[1] < drawn[2]

    async def test_identifiers_are_not_reused(self, storage: Storage) -> None:
        """A new session does not get the id of a session that `forget_before` deleted."""
        [alice] = await people(storage, "alice")
        session = await storage.transact(lambda tx: add_session(tx, alice))
        later = NOW + timedelta(days=1000)
        assert await storage.transact(lambda tx: tx.forget_before(responses=later, sessions=later)) == 1
        assert (await storage.transact(lambda tx: add_session(tx, alice))).id > session.id

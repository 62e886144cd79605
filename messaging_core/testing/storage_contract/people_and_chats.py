"""Users, sessions and chats: what a storage stores of them, and how it finds them."""

from datetime import timedelta
from itertools import permutations

import pytest
from attrs import evolve

from messaging_core.chats import excerpt, head, sort_key
from messaging_core.effects import AdvanceChat, ChangeChat, StoreChat, StoreSession, StoreUser
from messaging_core.errors import Refused
from messaging_core.ids import MAX_ID, ChatId, MessageId, SessionId, UserId
from messaging_core.models import Chat, History, IdempotencyKey, Member, Role
from messaging_core.ports import Reader, Storage, Transaction
from messaging_core.positions import Reach
from messaging_core.testing.storage_contract.operations import (
    add_direct_chat,
    add_group,
    add_message,
    add_session,
    chat_ids_of,
    chat_of,
    pair,
    people,
)
from messaging_core.testing.storage_programs import LIMITS, NOW


class PeopleAndChatsRules:
    async def test_a_missing_object_is_none(self, storage: Storage) -> None:
        """Every look-up of an object that does not exist returns None or an empty result, for any id."""

        def look(reader: Reader) -> list[object]:
            return [
                found
                for number in (1, 2, MAX_ID)
                for found in (
                    reader.user(UserId(number)),
                    reader.password_hash(UserId(number)),
                    reader.session(SessionId(number)),
                    reader.chat(ChatId(number)),
                    reader.tombstone(ChatId(number)),
                    reader.direct_chat(UserId(number), UserId(3)),
                    reader.message(MessageId(number)),
                    reader.stored_response(IdempotencyKey(UserId(number), "POST", "/", "k")),
                    reader.user_by_email("nobody@test.com"),
                    reader.user_by_tag("nobody"),
                )
            ]

        def list_(reader: Reader) -> list[int]:
            return [
                len(reader.users([UserId(1), UserId(MAX_ID)])),
                len(reader.chats_of(UserId(1), None, 10)),
                len(reader.excerpts({ChatId(1): 10, ChatId(MAX_ID): 1}, UserId(1))),
                len(reader.excerpts({}, UserId(1))),
                int(reader.shares_chat(UserId(1), UserId(MAX_ID))),
                len(reader.positions([UserId(1), UserId(MAX_ID)])),
                len(reader.positions([])),
                len(reader.ended_members(ChatId(1), 0)),
                len(reader.messages_before(ChatId(1), None, 10)),
                len(reader.messages_before(ChatId(1), MessageId(MAX_ID), 10)),
                len(reader.messages_after(ChatId(1), MessageId(1), 10)),
                len(reader.log(ChatId(1), 0, 10)),
            ]

        def lock(tx: Transaction) -> list[object]:
            return [
                tx.lock_chat(ChatId(1)),
                tx.lock_direct_chat(UserId(1), UserId(2)),
                tx.lock_session(SessionId(1)),
                tx.lock_stored_response(IdempotencyKey(None, "POST", "/", "k")),
                *look(tx),
            ]

        assert set(await storage.read(look)) == {None}
        assert set(await storage.read(list_)) == {0}
        assert set(await storage.transact(lock)) == {None}
        assert set(await storage.transact(list_)) == {0}
        assert await storage.transact(lambda tx: tx.lock_chats_made_by(UserId(1))) == 0

    async def test_users(self, storage: Storage) -> None:
        """A user is found by id, e-mail and tag, the password hash by id only."""
        alice, bob = await people(storage, "alice", "bob")

        def look(reader: Reader) -> None:
            assert reader.user(alice.id) == reader.user_by_email("alice@test.com") == alice
            assert reader.user_by_tag("bob") == bob
            assert reader.password_hash(alice.id) == "hash of alice"
            assert reader.users([bob.id, UserId(bob.id + 1), alice.id]) == {alice.id: alice, bob.id: bob}
            assert reader.users([]) == {}
            assert len(reader.users([alice.id, alice.id])) == 1

        await storage.read(look)

    async def test_keys_are_exact(self, storage: Storage) -> None:
        """E-mail keys and tags are compared exactly, because the core normalises them."""
        await people(storage, "alice")
        for email in ("ALICE@test.com", "alice@test.com ", "alice_test.com", "a%", ""):
            assert await storage.read(lambda reader, email=email: reader.user_by_email(email)) is None  # type: ignore[misc]
        for tag in ("Alice", "alic", "alice%", "alicé", ""):
            assert await storage.read(lambda reader, tag=tag: reader.user_by_tag(tag)) is None  # type: ignore[misc]

    async def test_a_user_is_found_by_their_email_key(self, storage: Storage) -> None:
        """A user is found by the key of their e-mail and not by the e-mail; the key is unique."""
        [alice] = await people(storage, "alice")
        zoe = evolve(alice, email="straße@test.com", tag="zoe")

        def store(tx: Transaction, email: str, tag: str) -> None:
            user = evolve(zoe, id=tx.next_user_id(), email=email, tag=tag)
            tx.apply(StoreUser(user, "hash", "strasse@test.com"))

        await storage.transact(lambda tx: store(tx, zoe.email, zoe.tag))
        found = await storage.read(lambda reader: reader.user_by_email("strasse@test.com"))
        assert found is not None
        assert evolve(found, id=alice.id) == zoe
        assert await storage.read(lambda reader: reader.user_by_email(zoe.email)) is None
        with pytest.raises(Exception) as failed:  # noqa: PT011 - each storage has its own
            await storage.transact(lambda tx: store(tx, "strasse@test.com", "other"))
        assert not isinstance(failed.value, Refused)
        assert await storage.read(lambda reader: reader.user_by_tag("other")) is None

    async def test_many_users_in_one_look_up(self, storage: Storage) -> None:
        """A look-up accepts as many ids as a group may have members."""
        [alice] = await people(storage, "alice")
        ids = [alice.id, *(UserId(alice.id + number) for number in range(1, LIMITS.group_members))]
        assert await storage.read(lambda reader: reader.users(ids)) == {alice.id: alice}

    async def test_sessions(self, storage: Storage) -> None:
        """A session is stored and replaced with all its fields; an old session has no nonce."""
        [alice] = await people(storage, "alice")
        session = await storage.transact(lambda tx: add_session(tx, alice))
        assert await storage.read(lambda reader: reader.session(session.id)) == session
        changed = evolve(
            session,
            refreshed_at=NOW + timedelta(days=1),
            expires_at=NOW + timedelta(days=31),
            generation=session.generation + 1,
            confirmed=True,
            ended_at=NOW + timedelta(days=2),
        )
        await storage.transact(lambda tx: tx.apply(StoreSession(changed)))
        assert await storage.read(lambda reader: reader.session(session.id)) == changed
        assert await storage.transact(lambda tx: tx.lock_session(session.id)) == changed
        old = evolve(changed, nonce=None)
        await storage.transact(lambda tx: tx.apply(StoreSession(old)))
        assert await storage.read(lambda reader: reader.session(session.id)) == old
        assert await storage.transact(lambda tx: tx.lock_session(session.id)) == old

    async def test_chats(self, storage: Storage) -> None:
        """A chat is stored whole: its members in their order, with roles and joining times."""
        users = await people(storage, "carol", "alice", "bob")

        def operation(tx: Transaction) -> Chat:
            members = (
                Member(users[2].id, Role.OWNER, NOW),
                Member(users[0].id, Role.ADMIN, NOW + timedelta(seconds=5)),
                Member(users[1].id, Role.MEMBER, NOW + timedelta(seconds=3)),
            )
            chat = Chat(tx.next_chat_id(), "Title", True, NOW, members, 1, NOW + timedelta(days=1), None)
            tx.apply(StoreChat(chat))
            return chat

        chat = await storage.transact(operation)
        assert await chat_of(storage, chat.id) == chat
        assert await storage.transact(lambda tx: tx.lock_chat(chat.id)) == chat

    async def test_advancing_a_chat(self, storage: Storage) -> None:
        """`AdvanceChat` changes the chat's numbers, last activity and last message, and nothing else."""
        alice, _, chat = await pair(storage)
        message = await storage.transact(lambda tx: add_message(tx, chat.id, alice.id))
        later = NOW + timedelta(hours=1)
        before = await chat_of(storage, chat.id)
        assert (before.sequence, before.last_message_id) == (2, message.id)
        stranger = evolve(
            before,
            title="no",
            members=(),
            created_at=later,
            sequence=7,
            active_at=later,
            last_message_id=None,
            message_count=4,
        )
        await storage.transact(lambda tx: tx.apply(AdvanceChat(stranger)))
        assert await chat_of(storage, chat.id) == evolve(
            before, sequence=7, active_at=later, last_message_id=None, message_count=4
        )

    async def test_changing_a_chat(self, storage: Storage) -> None:
        """`ChangeChat` changes the chat's title, avatar and history, and nothing else."""
        alice, bob = await people(storage, "alice", "bob")
        before = await storage.transact(lambda tx: add_group(tx, alice, bob))
        assert before.history is History.JOINED
        after = evolve(before, title="Trip", avatar_url="https://example.com/a.png", history=History.ALL)
        stranger = evolve(after, members=(), sequence=7, active_at=NOW + timedelta(hours=1))

        def operation(tx: Transaction) -> None:
            tx.apply(ChangeChat(stranger))
            assert tx.lock_chat(before.id) == after

        def look(reader: Reader) -> None:
            assert reader.chat(before.id) == after
            assert [head(chat) for chat in reader.chats_of(bob.id, None, 9)] == [head(after)]

        await chat_of(storage, before.id)
        await storage.transact(operation)
        await storage.read(look)
        await storage.transact(lambda tx: tx.apply(ChangeChat(evolve(after, avatar_url=None))))
        assert (await chat_of(storage, before.id)).avatar_url is None
        with pytest.raises(LookupError):
            await storage.transact(lambda tx: tx.apply(ChangeChat(evolve(after, id=ChatId(MAX_ID)))))

    async def test_direct_chats(self, storage: Storage) -> None:
        """A direct chat is found by its two members in either order; a group of two is no direct chat."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")
        await storage.transact(lambda tx: add_group(tx, alice, bob))
        assert await storage.read(lambda reader: reader.direct_chat(alice.id, bob.id)) is None
        chat = await storage.transact(lambda tx: add_direct_chat(tx, bob.id, alice.id))

        def look(reader: Reader) -> None:
            stored = reader.chat(chat.id)
            assert stored is not None
            assert reader.direct_chat(alice.id, bob.id) == reader.direct_chat(bob.id, alice.id) == stored
            assert reader.direct_chat(alice.id, carol.id) is None
            assert reader.direct_chat(alice.id, alice.id) is None

        await storage.read(look)
        locked = await storage.transact(lambda tx: tx.lock_direct_chat(alice.id, bob.id))
        assert locked == await chat_of(storage, chat.id)

    async def test_chats_of_a_user(self, storage: Storage) -> None:
        """A user's chats are all that the user takes part in and no others, in the order of ids, in pages."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")

        def operation(tx: Transaction) -> tuple[ChatId, ChatId]:
            direct, group = add_direct_chat(tx, alice.id, bob.id).id, add_group(tx, bob, carol).id
            add_message(tx, direct, bob.id, now=NOW + timedelta(hours=1))
            return direct, group

        direct, group = await storage.transact(operation)

        def look(reader: Reader) -> None:
            for user, expected in ((alice, [direct]), (bob, [direct, group]), (carol, [group])):
                assert chat_ids_of(reader, user) == expected
            chats = [chat for id_ in (direct, group) if (chat := reader.chat(id_)) is not None]
            heads = [head(chat) for chat in chats]
            for after, count, wanted in ((None, 2, heads), (None, 1, heads[:1]), (direct, 9, heads[1:])):
                found = reader.chats_of(bob.id, after, count)
                assert [head(chat) for chat in found] == wanted
                assert all(chat in (*chats, *heads) for chat in found)
            assert list(reader.chats_of(bob.id, group, 9)) == []
            assert sort_key(heads[0]) > sort_key(heads[1])

        await storage.read(look)
        await storage.transact(look)

    async def test_excerpts(self, storage: Storage) -> None:
        """An excerpt holds the members that the core chooses; a chat of others has no excerpt."""
        users = await people(storage, *(f"user{number}" for number in range(8)))
        roles = [Role.MEMBER, Role.MEMBER, Role.ADMIN, Role.MEMBER, Role.ADMIN, Role.OWNER, Role.MEMBER]
        members = tuple(
            Member(user.id, role, NOW + timedelta(seconds=number))
            for number, (user, role) in enumerate(zip(users[::-1], roles, strict=False))
        )

        def operation(tx: Transaction) -> tuple[Chat, Chat, ChatId]:
            chat = Chat(tx.next_chat_id(), "Title", True, NOW, members, 1, NOW, None)
            tx.apply(StoreChat(chat))
            others = add_group(tx, users[1], *users[2:]).id
            return chat, add_direct_chat(tx, users[0].id, users[1].id), others

        stored, direct, others = await storage.transact(operation)

        def look(reader: Reader) -> None:
            for viewer in (member.user_id for member in members):
                for size in (1, 2, 3, 4, 5, 6, 7, 100):
                    found = reader.excerpts({stored.id: size}, viewer)
                    assert found == {stored.id: excerpt(stored, viewer, size)}
            assert reader.excerpts({stored.id: 3, direct.id: 2, others: 9}, users[0].id) == {
                direct.id: excerpt(direct, users[0].id, 2)
            }
            both = reader.excerpts({direct.id: 1, others: 9, stored.id: 2}, users[1].id)
            assert both.keys() == {direct.id, others, stored.id}
            assert both[direct.id].member_ids == (users[1].id,)
            assert both[direct.id].member_count == 2

        await storage.read(look)
        await storage.transact(look)
        assert (
            await chat_of(storage, stored.id) == stored
        )  # which loads it into the cache of a storage that has one
        await storage.read(look)
        await storage.transact(look)

    async def test_the_count_of_created_chats(self, storage: Storage) -> None:
        """The count includes chats that the user created, and not those that others created with the user."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")

        def made(tx: Transaction) -> list[int]:
            return [tx.lock_chats_made_by(user.id) for user in (alice, bob, carol)]

        def operation(tx: Transaction) -> list[int]:
            add_direct_chat(tx, alice.id, bob.id)
            add_direct_chat(tx, bob.id, alice.id)
            add_group(tx, alice, bob, carol)
            add_group(tx, bob, alice)
            return made(tx)

        assert await storage.transact(operation) == [2, 1, 0]
        assert await storage.transact(made) == [2, 1, 0]

    async def test_shared_chats(self, storage: Storage) -> None:
        """Two users share a chat after its commit, direct or group, in either order of the arguments."""
        alice, bob, carol, dave = await people(storage, "alice", "bob", "carol", "dave")
        nobody = UserId(MAX_ID)

        def pairs(reader: Reader) -> set[frozenset[UserId]]:
            users = [alice.id, bob.id, carol.id, dave.id, nobody]
            found = {(one, other) for one, other in permutations(users, 2) if reader.shares_chat(one, other)}
            assert found == {(other, one) for one, other in found}
            return {frozenset(pair) for pair in found}

        assert await storage.read(pairs) == set()
        direct = {frozenset({alice.id, bob.id})}
        group = {frozenset({bob.id, carol.id})}

        def operation(tx: Transaction) -> None:
            add_direct_chat(tx, alice.id, bob.id)
            assert pairs(tx) == direct

        await storage.transact(operation)
        assert await storage.read(pairs) == direct
        await storage.transact(lambda tx: add_group(tx, bob, carol))
        assert await storage.read(pairs) == direct | group
        assert await storage.transact(pairs) == direct | group

    async def test_positions(self, storage: Storage) -> None:
        """`positions` holds every chat of any of the given users once, and no other chat."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")

        def operation(tx: Transaction) -> tuple[ChatId, ChatId]:
            direct, group = add_direct_chat(tx, alice.id, bob.id).id, add_group(tx, bob, carol).id
            for _ in range(3):
                add_message(tx, group, carol.id)
            return direct, group

        direct, group = await storage.transact(operation)
        for users, expected in (
            ([alice.id], {direct: 1}),
            ([bob.id], {direct: 1, group: 4}),
            ([carol.id, UserId(MAX_ID)], {group: 4}),
            ([alice.id, bob.id, carol.id, bob.id], {direct: 1, group: 4}),
        ):
            reaches = {chat_id: Reach(number, is_open=True) for chat_id, number in expected.items()}
            assert await storage.read(lambda reader, users=users: dict(reader.positions(users))) == reaches  # type: ignore[misc]
            assert await storage.transact(lambda tx, users=users: dict(tx.positions(users))) == reaches  # type: ignore[misc]

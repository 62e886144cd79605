"""Memberships: how they begin and end, what stays of them, and what stays of a deleted chat."""

from datetime import timedelta
from functools import partial

import pytest
from attrs import evolve

from messaging_core.chats import excerpt
from messaging_core.effects import EndMembership, StorageEffect, StoreMember, StoreRole
from messaging_core.errors import Refused
from messaging_core.events import THE_CHAT, LogEntry, MemberSubject
from messaging_core.ids import MAX_ID, ChatId, MessageId
from messaging_core.members import add_member, add_members, delete_chat, give_role, remove_member
from messaging_core.models import Chat, Excerpt, Member, Role, Tombstone, User
from messaging_core.ports import Reader, Storage, Transaction
from messaging_core.positions import FOUNDER, Range, Reach
from messaging_core.testing.storage_contract.operations import (
    Abort,
    abort,
    add_group,
    add_message,
    chat_ids_of,
    chat_of,
    people,
)
from messaging_core.testing.storage_programs import NOW, enact

LATER = NOW + timedelta(hours=1)


def join(tx: Transaction, chat_id: ChatId, user: User, *, reads_all: bool = False) -> Chat:
    return enact(tx, add_member(tx.lock_chat(chat_id), user.id, reads_all=reads_all, now=LATER))


def leave(tx: Transaction, chat_id: ChatId, user: User) -> Chat:
    return enact(tx, remove_member(tx.lock_chat(chat_id), user.id, now=LATER))


def delete(tx: Transaction, chat_id: ChatId, user: User) -> Tombstone:
    return enact(tx, delete_chat(tx.lock_chat(chat_id), deleted_by=user.id, now=LATER))


def _apply(effect: StorageEffect, tx: Transaction) -> None:
    tx.apply(effect)


class MemberRules:
    async def test_a_member_joins(self, storage: Storage) -> None:
        """A new member is the last in the chat's order, with their range, and the chat is one of theirs."""
        alice, bob, carol, dave = await people(storage, "alice", "bob", "carol", "dave")
        chat = await storage.transact(lambda tx: add_group(tx, alice, bob))

        def look(reader: Reader) -> None:
            found = reader.chat(chat.id)
            assert found is not None
            founders = [Member(alice.id, Role.OWNER, NOW), Member(bob.id, Role.MEMBER, NOW)]
            joined = [
                Member(carol.id, Role.MEMBER, LATER, Range(2, 2)),
                Member(dave.id, Role.MEMBER, LATER, Range(3, 1)),
            ]
            assert list(found.members) == founders + joined
            assert (found.sequence, found.member_count) == (3, 4)
            assert chat_ids_of(reader, carol) == [chat.id]
            assert reader.excerpts({chat.id: 2}, dave.id) == {chat.id: excerpt(found, dave.id, 2)}
            assert reader.shares_chat(carol.id, dave.id)
            assert reader.positions([carol.id]) == {chat.id: Reach(3, is_open=True)}
            assert list(reader.log(chat.id, 1, 9)) == [
                LogEntry(chat.id, 2, "member.added", MemberSubject(carol.id), LATER),
                LogEntry(chat.id, 3, "member.added", MemberSubject(dave.id), LATER),
            ]

        def operation(tx: Transaction) -> None:
            join(tx, chat.id, carol)
            join(tx, chat.id, dave, reads_all=True)
            look(tx)

        # So that a storage with a cache has the chat, and the lists of chats, as they were before.
        await storage.read(lambda reader: [chat_ids_of(reader, user) for user in (alice, carol, dave)])
        await chat_of(storage, chat.id)
        await storage.transact(operation)
        await storage.read(look)
        await storage.transact(look)

    async def test_members_join_together(self, storage: Storage) -> None:
        """Several new members of one operation have one range, and an entry of the log each."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")
        chat = await storage.transact(lambda tx: add_group(tx, alice))
        both = (bob.id, carol.id)
        decided = await storage.transact(
            lambda tx: enact(tx, add_members(tx.lock_chat(chat.id), both, reads_all=False, now=LATER))
        )
        assert [member.range for member in decided.members[1:]] == [Range(2, 2)] * 2

        def look(reader: Reader) -> None:
            assert reader.chat(chat.id) == decided
            assert [entry.subject for entry in reader.log(chat.id, 1, 9)] == [*map(MemberSubject, both)]

        await storage.read(look)
        await storage.transact(look)

    async def test_a_member_has_another_role(self, storage: Storage) -> None:
        """Only the role changes; a shortened chat shows admins first, and has the viewer's membership."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")
        chat = await storage.transact(lambda tx: add_group(tx, alice, bob, carol))

        def look(reader: Reader) -> None:
            found = reader.chat(chat.id)
            assert found is not None
            roles = [Role.OWNER, Role.MEMBER, Role.ADMIN]
            assert [member.role for member in found.members] == roles
            assert found == evolve(chat, members=found.members, sequence=2)
            for viewer in (alice, bob, carol):
                shown = reader.excerpts({chat.id: 2}, viewer.id)[chat.id]
                assert shown == excerpt(found, viewer.id, 2)
                assert isinstance(shown, Excerpt)
                assert shown.viewer == found.member(viewer.id)

        def operation(tx: Transaction) -> None:
            enact(tx, give_role(tx.lock_chat(chat.id), carol.id, Role.ADMIN, now=LATER))
            look(tx)

        await storage.read(lambda reader: reader.excerpts({chat.id: 2}, bob.id))
        await storage.transact(operation)
        await storage.read(look)
        await storage.transact(look)
        await chat_of(storage, chat.id)
        await storage.read(look)

    async def test_founders_are_known_at_sight(self, storage: Storage) -> None:
        """The range of a founder is the object `FOUNDER`, so that `may_see` need not compare numbers."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")
        chat = await storage.transact(lambda tx: add_group(tx, alice, bob))
        await storage.transact(lambda tx: join(tx, chat.id, carol))
        members = (await chat_of(storage, chat.id)).members
        assert [member.range is FOUNDER for member in members] == [True, True, False]

    async def test_a_member_leaves(self, storage: Storage) -> None:
        """The chat no longer lists or shows itself to them; their membership stays stored, with its end."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")
        chat = await storage.transact(lambda tx: add_group(tx, alice, bob, carol))
        former = Member(bob.id, Role.MEMBER, NOW, Range(1, 1, 2))

        def look(reader: Reader) -> None:
            found = reader.chat(chat.id)
            assert found is not None
            assert (found.member_ids, found.member_count) == ((alice.id, carol.id), 2)
            assert chat_ids_of(reader, bob) == []
            assert reader.excerpts({chat.id: 9}, bob.id) == {}
            assert reader.excerpts({chat.id: 9}, alice.id) == {chat.id: found}
            assert not reader.shares_chat(alice.id, bob.id)
            for since, expected in ((1, [former]), (2, [former]), (3, [])):
                assert list(reader.ended_members(chat.id, since)) == expected

        def operation(tx: Transaction) -> None:
            leave(tx, chat.id, bob)
            add_message(tx, chat.id, alice.id)
            look(tx)

        await storage.read(lambda reader: [chat_ids_of(reader, user) for user in (alice, bob)])
        await chat_of(storage, chat.id)
        await storage.transact(operation)
        await storage.read(look)
        await storage.transact(look)

    async def test_positions_cover_memberships_that_have_ended(self, storage: Storage) -> None:
        """A membership that ended reaches up to its end, one that lasts as far as the chat."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")
        chat = await storage.transact(lambda tx: add_group(tx, alice, bob, carol))
        over, lasts = Reach(4, is_open=False), Reach(5, is_open=True)

        def operation(tx: Transaction) -> None:
            leave(tx, chat.id, bob)
            join(tx, chat.id, bob)
            leave(tx, chat.id, bob)
            add_message(tx, chat.id, alice.id)

        def look(reader: Reader) -> None:
            assert reader.positions([bob.id]) == {chat.id: over}
            assert reader.positions([alice.id]) == {chat.id: lasts}
            for both in ([alice.id, bob.id], [bob.id, alice.id, bob.id]):
                assert reader.positions(both) == {chat.id: lasts}

        await storage.transact(operation)
        await storage.read(look)
        await storage.transact(lambda tx: join(tx, chat.id, bob))
        assert await storage.read(lambda reader: reader.positions([bob.id])) == {chat.id: Reach(6, True)}

    async def test_joining_again_is_another_membership(self, storage: Storage) -> None:
        """Each membership of a person has a range of its own; the lasting one is the last in the order."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")
        chat = await storage.transact(lambda tx: add_group(tx, alice, bob, carol))
        for _ in range(2):
            await storage.transact(lambda tx: leave(tx, chat.id, bob))
            await storage.transact(lambda tx: join(tx, chat.id, bob))
        members = (await chat_of(storage, chat.id)).members
        assert [(member.user_id, member.range) for member in members] == [
            (alice.id, FOUNDER),
            (carol.id, FOUNDER),
            (bob.id, Range(5, 5)),
        ]
        ended = await storage.read(lambda reader: reader.ended_members(chat.id, 1))
        assert [(member.user_id, member.range) for member in ended] == [
            (bob.id, Range(1, 1, 2)),
            (bob.id, Range(3, 3, 4)),
        ]

    async def test_a_deleted_chat(self, storage: Storage) -> None:
        """No look-up finds it but `tombstone`; its log, its messages and its memberships stay."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")
        chat = await storage.transact(lambda tx: add_group(tx, alice, carol, bob))
        other = await storage.transact(lambda tx: add_group(tx, alice, bob))
        message = await storage.transact(lambda tx: add_message(tx, chat.id, alice.id))
        tombstone = Tombstone(chat.id, 3, LATER, bob.id)
        users = (alice, bob, carol)

        def look(reader: Reader) -> None:
            assert reader.chat(chat.id) is None
            assert reader.tombstone(chat.id) == tombstone
            assert reader.tombstone(other.id) is None
            assert reader.tombstone(ChatId(MAX_ID)) is None
            assert [chat_ids_of(reader, user) for user in users] == [[other.id], [other.id], []]
            assert reader.excerpts({chat.id: 9}, alice.id) == {}
            assert not reader.shares_chat(alice.id, carol.id)
            assert reader.positions([carol.id]) == {chat.id: Reach(3, is_open=False)}
            ended = reader.ended_members(chat.id, 3)
            assert [(each.user_id, each.range.last) for each in ended] == [(user.id, 3) for user in users]
            assert list(reader.messages_before(chat.id, None, 9)) == [message]
            assert list(reader.messages_after(chat.id, MessageId(0), 9)) == [message]
            assert list(reader.log(chat.id, 2, 9)) == [LogEntry(chat.id, 3, "chat.deleted", THE_CHAT, LATER)]

        def operation(tx: Transaction) -> None:
            assert delete(tx, chat.id, bob) == tombstone
            look(tx)
            assert tx.lock_chat(chat.id) is None

        await storage.read(lambda reader: [chat_ids_of(reader, user) for user in users])
        await chat_of(storage, chat.id)
        await storage.transact(operation)
        await storage.read(look)
        await storage.transact(look)

    async def test_a_tombstone_without_a_name(self, storage: Storage) -> None:
        """A chat may end although nobody deleted it."""
        alice, bob = await people(storage, "alice", "bob")
        chat = await storage.transact(lambda tx: add_group(tx, alice, bob))
        decided = await storage.transact(
            lambda tx: enact(tx, delete_chat(tx.lock_chat(chat.id), deleted_by=None, now=NOW))
        )
        assert decided.deleted_by is None
        assert await storage.read(lambda reader: reader.tombstone(chat.id)) == decided

    async def test_created_chats_count_until_their_creator_leaves(self, storage: Storage) -> None:
        """A creator who joined again is a member like others, and nobody inherits a creation."""
        alice, bob = await people(storage, "alice", "bob")
        chat = await storage.transact(lambda tx: add_group(tx, alice, bob))
        await storage.transact(lambda tx: add_group(tx, alice, bob))

        def made(tx: Transaction) -> list[int]:
            return [tx.lock_chats_made_by(user.id) for user in (alice, bob)]

        def operation(tx: Transaction) -> list[list[int]]:
            counts = [made(tx)]
            leave(tx, chat.id, alice)
            counts.append(made(tx))
            leave(tx, chat.id, bob)
            join(tx, chat.id, alice)
            counts.append(made(tx))
            return counts

        assert await storage.transact(operation) == [[2, 0], [1, 0], [1, 0]]
        assert await storage.transact(made) == [1, 0]

    async def test_memberships_are_rolled_back(self, storage: Storage) -> None:
        """A transaction that fails leaves members, former members and chats as they were."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")
        chat, other = [await storage.transact(lambda tx: add_group(tx, alice, bob)) for _ in range(2)]

        def look(reader: Reader) -> list[object]:
            return [
                reader.chat(chat.id),
                reader.chat(other.id),
                reader.tombstone(other.id),
                list(reader.ended_members(chat.id, 1)),
                list(reader.ended_members(other.id, 1)),
                [chat_ids_of(reader, user) for user in (alice, bob, carol)],
                dict(reader.positions([alice.id, bob.id, carol.id])),
            ]

        before = await storage.read(look)

        def operation(tx: Transaction) -> None:
            join(tx, chat.id, carol)
            leave(tx, chat.id, alice)
            delete(tx, other.id, bob)
            assert look(tx) != before
            abort(None)

        with pytest.raises(Abort):
            await storage.transact(operation)
        assert await storage.read(look) == before
        await storage.transact(lambda tx: join(tx, chat.id, carol))
        assert (await chat_of(storage, chat.id)).member_ids == (alice.id, bob.id, carol.id)

    async def test_a_membership_that_cannot_begin_or_end(self, storage: Storage) -> None:
        """Nobody is a member twice, and only a membership that lasts can end; an attempt changes nothing."""
        alice, bob, carol = await people(storage, "alice", "bob", "carol")
        chat = await storage.transact(lambda tx: add_group(tx, alice, bob))
        before = await chat_of(storage, chat.id)
        again = Member(bob.id, Role.MEMBER, LATER, Range(2, 2))
        with pytest.raises(Exception) as raised:  # noqa: PT011 - each storage has its own exception
            await storage.transact(lambda tx: tx.apply(StoreMember(chat.id, again)))
        assert not isinstance(raised.value, Refused)
        for effect in (EndMembership(chat.id, carol.id, 2), StoreRole(chat.id, carol.id, Role.ADMIN)):
            with pytest.raises(LookupError):
                await storage.transact(partial(_apply, effect))
        assert await chat_of(storage, chat.id) == before
        assert await storage.read(lambda reader: list(reader.ended_members(chat.id, 0))) == []

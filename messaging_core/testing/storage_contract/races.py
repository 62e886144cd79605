"""Concurrent identical operations take effect once."""

from collections import Counter

from messaging_core.commands import RemoveMember
from messaging_core.errors import AlreadyAMember, EmailTaken
from messaging_core.groups import SYSTEM_MESSAGES, concerned, remove_member
from messaging_core.idempotency import replayed, resource_of, store
from messaging_core.ids import ChatId
from messaging_core.members import add_member
from messaging_core.models import Resource, Role
from messaging_core.ports import Storage, Transaction
from messaging_core.testing.storage_contract.operations import (
    RACERS,
    add_direct_chat,
    add_group,
    add_message,
    add_session,
    add_user,
    chat_ids_of,
    chat_of,
    history_of,
    idempotent_request,
    pair,
    people,
    race,
)
from messaging_core.testing.storage_programs import LIMITS, NOW, enact
from messaging_core.tokens import refresh_claims, rotate


class RaceRules:
    async def test_concurrent_calls_open_one_direct_chat(self, storage: Storage) -> None:
        """Two users who open their direct chat concurrently, from both sides, get the same chat."""
        alice, bob = await people(storage, "alice", "bob")
        opened: list[ChatId] = []

        async def contender(number: int) -> None:
            actor, other = (alice, bob) if number % 2 else (bob, alice)
            chat = await storage.transact(lambda tx: add_direct_chat(tx, actor.id, other.id))
            opened.append(chat.id)

        await race(contender)
        assert len(opened) == RACERS
        assert len(set(opened)) == 1
        assert len(await storage.read(lambda reader: chat_ids_of(reader, alice))) == 1
        assert len(await storage.read(lambda reader: reader.log(opened[0], 0, 100))) == 1

    async def test_concurrent_creations_of_chats_are_counted_in_turn(self, storage: Storage) -> None:
        """Each of a user's concurrent creations of chats sees the count after the one before it."""
        alice, *others = await people(storage, "alice", *(f"user{number}" for number in range(RACERS)))
        counted: list[int] = []

        async def contender(number: int) -> None:
            def operation(tx: Transaction) -> int:
                made = tx.lock_chats_made_by(alice.id)
                if number % 2:
                    add_group(tx, alice)
                else:
                    add_direct_chat(tx, alice.id, others[number].id)
                return made

            counted.append(await storage.transact(operation))

        await race(contender)
        assert sorted(counted) == list(range(RACERS))

    async def test_a_person_who_is_added_concurrently_joins_once(self, storage: Storage) -> None:
        """Of concurrent additions of one person, one adds them, and the others find a member."""
        alice, bob = await people(storage, "alice", "bob")
        chat = await storage.transact(lambda tx: add_group(tx, alice))
        outcomes: Counter[str] = Counter()

        async def contender(_: int) -> None:
            try:
                await storage.transact(
                    lambda tx: enact(tx, add_member(tx.lock_chat(chat.id), bob.id, reads_all=True, now=NOW))
                )
            except AlreadyAMember as refused:
                outcomes[refused.code] += 1
            else:
                outcomes["added"] += 1

        await race(contender)
        assert outcomes == {"added": 1, "already_a_member": RACERS - 1}
        assert (await chat_of(storage, chat.id)).member_ids == (alice.id, bob.id)

    async def test_a_group_that_everybody_leaves_at_once(self, storage: Storage) -> None:
        """After each leaving the group has an owner; the last one deletes it, and its log has no gap."""
        everybody = await people(storage, *(f"user{number}" for number in range(RACERS)))
        group = await storage.transact(lambda tx: add_group(tx, *everybody))
        owners: list[int] = []

        async def contender(number: int) -> None:
            actor = everybody[number].id

            def operation(tx: Transaction) -> int:
                chat, command = tx.lock_chat(group.id), RemoveMember(group.id, actor)
                decision = remove_member(
                    chat,
                    command,
                    actor=actor,
                    people=tx.users(concerned(chat, command, actor)),
                    message_ids=[tx.next_message_id() for _ in range(SYSTEM_MESSAGES)],
                    now=NOW,
                )
                enact(tx, decision)
                left = tx.chat(group.id)
                return -1 if left is None else sum(each.role is Role.OWNER for each in left.members)

            owners.append(await storage.transact(operation))

        await race(contender)
        assert sorted(owners) == [-1] + [1] * (RACERS - 1)
        tombstone = await storage.read(lambda reader: reader.tombstone(group.id))
        assert tombstone is not None
        log = await storage.read(lambda reader: reader.log(group.id, 0, 1000))
        assert [entry.sequence for entry in log] == list(range(1, tombstone.sequence + 1))

    async def test_concurrent_requests_with_one_key_send_one_message(self, storage: Storage) -> None:
        """Of concurrent requests with one key, one sends a message, and the others find its response."""
        alice, _, chat = await pair(storage)
        request = idempotent_request(alice)
        outcomes: list[tuple[bool, Resource | None]] = []

        async def contender(_: int) -> None:
            def operation(tx: Transaction) -> tuple[bool, Resource | None]:
                stored = replayed(tx.lock_stored_response(request.key), request, now=NOW, limits=LIMITS)
                if stored is not None:
                    return True, stored.resource
                resource = resource_of(add_message(tx, chat.id, alice.id))
                enact(tx, store(request, status=201, resource=resource, now=NOW))
                return False, resource

            outcomes.append(await storage.transact(operation))

        await race(contender)
        [message] = await history_of(storage, chat.id)
        assert {resource for _, resource in outcomes} == {resource_of(message)}
        assert [replay for replay, _ in outcomes].count(False) == 1

    async def test_concurrent_registrations_of_one_email_create_one_account(self, storage: Storage) -> None:
        """Of concurrent registrations of one e-mail, one creates the account, the others raise EmailTaken."""
        outcomes: Counter[str] = Counter()

        async def contender(_: int) -> None:
            try:
                await storage.transact(lambda tx: add_user(tx, "alice"))
            except EmailTaken as refused:
                outcomes[refused.code] += 1
            else:
                outcomes["registered"] += 1

        await race(contender)
        assert outcomes == {"registered": 1, "email_taken": RACERS - 1}

    async def test_concurrent_refreshes_have_one_successor(self, storage: Storage) -> None:
        """Concurrent refreshes with one token advance the session once, and all get the same successor."""
        [alice] = await people(storage, "alice")
        session = await storage.transact(lambda tx: add_session(tx, alice))
        claims = refresh_claims(session)
        successors: list[object] = []

        async def contender(_: int) -> None:
            def operation(tx: Transaction) -> object:
                return enact(tx, rotate(claims, tx.lock_session(session.id), now=NOW, limits=LIMITS))

            successors.append(await storage.transact(operation))

        await race(contender)
        successor = await storage.read(lambda reader: reader.session(session.id))
        assert successor is not None
        assert successor.generation == session.generation + 1
        assert successors == [successor] * RACERS

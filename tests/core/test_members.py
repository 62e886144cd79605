"""Members: joining, leaving and joining again, and the end of a chat."""

from datetime import UTC, datetime

import pytest
from attrs import evolve

from messaging_core.effects import (
    AdvanceChat,
    AdvanceMark,
    AppendEvent,
    DeleteChat,
    Deliver,
    Effect,
    EndMembership,
    StoreMember,
    StoreRole,
)
from messaging_core.errors import AlreadyAMember, ChatNotFound, MemberNotFound, NotAGroup
from messaging_core.events import ChatDeleted, MemberAdded, MemberRemoved, MemberUpdated
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.marks import Mark
from messaging_core.members import add_member, add_members, delete_chat, give_role, remove_member
from messaging_core.models import Chat, Member, Role, Tombstone
from messaging_core.positions import Range

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
ALICE, BOB, CAROL, DAVE = UserId(1), UserId(2), UserId(3), UserId(4)
FOUNDERS = (Member(ALICE, Role.OWNER, NOW), Member(BOB, Role.ADMIN, NOW))
CHAT = Chat(ChatId(5), "A group", True, NOW, FOUNDERS, 6, NOW, MessageId(9), message_count=4)


@pytest.mark.parametrize(("reads_all", "reads_from"), [(True, 1), (False, 7)])
def test_joining(reads_all: bool, reads_from: int) -> None:
    """A member joins with the chat's next number, which everybody hears, the new member included."""
    carol = Member(CAROL, Role.MEMBER, NOW, Range(7, reads_from))
    decision = add_member(CHAT, CAROL, reads_all=reads_all, now=NOW)
    assert decision.result == evolve(CHAT, members=(*FOUNDERS, carol), sequence=7)
    stored, read, _, logged, delivered = decision.effects
    assert stored == StoreMember(CHAT.id, carol)
    assert read == AdvanceMark(CHAT, CAROL, Mark(MessageId(9), 4)), "what was sent before is no news"
    assert isinstance(logged, AppendEvent)
    assert delivered == Deliver(MemberAdded(carol, 3), (ALICE, BOB, CAROL), logged.entry)


def test_joining_together() -> None:
    """Each has an event; their ranges begin with the first, so that each receives all of these events."""
    carol, dave = (Member(user_id, Role.MEMBER, NOW, Range(7, 7)) for user_id in (CAROL, DAVE))
    decision = add_members(CHAT, (CAROL, DAVE), reads_all=False, now=NOW)
    assert decision.result == evolve(CHAT, members=(*FOUNDERS, carol, dave), sequence=8)
    assert kinds(decision.effects) == [
        *[StoreMember] * 2,
        *[AdvanceMark] * 2,
        AdvanceChat,
        *[AppendEvent] * 2,
        *[Deliver] * 2,
    ]
    deliveries = [effect for effect in decision.effects if isinstance(effect, Deliver)]
    assert [each.event for each in deliveries] == [MemberAdded(carol, 4), MemberAdded(dave, 4)]
    assert [each.entry.sequence for each in deliveries] == [7, 8]
    assert {each.audience for each in deliveries} == {(ALICE, BOB, CAROL, DAVE)}


def kinds(effects: tuple[Effect, ...]) -> list[type]:
    return [type(effect) for effect in effects]


def test_another_role() -> None:
    """A member keeps their place and their range; the role that they have already is no event."""
    decision = give_role(CHAT, BOB, Role.OWNER, now=NOW)
    bob = evolve(FOUNDERS[1], role=Role.OWNER)
    assert decision.result == evolve(CHAT, members=(FOUNDERS[0], bob), sequence=7)
    stored, _, logged, delivered = decision.effects
    assert stored == StoreRole(CHAT.id, BOB, Role.OWNER)
    assert isinstance(logged, AppendEvent)
    assert delivered == Deliver(MemberUpdated(bob, 2), (ALICE, BOB), logged.entry)
    assert give_role(CHAT, BOB, Role.ADMIN, now=NOW).effects == ()


def test_leaving() -> None:
    """The removal is the last number of the range, and the removed person hears it."""
    decision = remove_member(CHAT, BOB, now=NOW)
    assert decision.result == evolve(CHAT, members=FOUNDERS[:1], sequence=7)
    ending, _, logged, delivered = decision.effects
    assert ending == EndMembership(CHAT.id, BOB, 7)
    assert isinstance(logged, AppendEvent)
    bob = evolve(FOUNDERS[1], range=Range(1, 1, 7))
    assert delivered == Deliver(MemberRemoved(bob, 1), (ALICE, BOB), logged.entry)


def test_joining_again_begins_another_range() -> None:
    """Role and range of the former membership do not come back."""
    left = remove_member(CHAT, BOB, now=NOW).result
    again = add_member(left, BOB, reads_all=False, now=NOW).result
    assert again.member(BOB) == Member(BOB, Role.MEMBER, NOW, Range(8, 8))


def test_the_end_of_a_chat() -> None:
    """Deleting a group ends all memberships with its last number, which all its members hear."""
    tombstone = Tombstone(CHAT.id, 7, NOW, ALICE)
    decision = delete_chat(CHAT, deleted_by=ALICE, now=NOW)
    assert decision.result == tombstone
    deleted, logged, delivered = decision.effects
    assert deleted == DeleteChat(tombstone, (ALICE, BOB))
    assert isinstance(logged, AppendEvent)
    assert delivered == Deliver(ChatDeleted(tombstone), (ALICE, BOB), logged.entry)


def test_refusals() -> None:
    """One joins once, only a member leaves or has a role, and only an existing group can be deleted."""
    with pytest.raises(AlreadyAMember):
        add_member(CHAT, BOB, reads_all=True, now=NOW)
    with pytest.raises(MemberNotFound):
        remove_member(CHAT, CAROL, now=NOW)
    with pytest.raises(MemberNotFound):
        give_role(CHAT, CAROL, Role.ADMIN, now=NOW)
    with pytest.raises(NotAGroup):
        delete_chat(evolve(CHAT, is_group=False), deleted_by=ALICE, now=NOW)
    for missing in (
        lambda: add_member(None, BOB, reads_all=True, now=NOW),
        lambda: remove_member(None, BOB, now=NOW),
        lambda: give_role(None, BOB, Role.ADMIN, now=NOW),
        lambda: delete_chat(None, deleted_by=None, now=NOW),
    ):
        with pytest.raises(ChatNotFound):
            missing()

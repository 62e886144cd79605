"""Members: joining, leaving and joining again, and the end of a chat."""

from datetime import UTC, datetime

import pytest
from attrs import evolve

from messaging_core.effects import AppendEvent, DeleteChat, Deliver, EndMembership, StoreMember
from messaging_core.errors import AlreadyAMember, ChatNotFound, NotAParticipant
from messaging_core.events import ChatDeleted, MemberAdded, MemberRemoved
from messaging_core.ids import ChatId, UserId
from messaging_core.members import add_member, delete_chat, remove_member
from messaging_core.models import Chat, Member, Role, Tombstone
from messaging_core.positions import Range

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
ALICE, BOB, CAROL = UserId(1), UserId(2), UserId(3)
FOUNDERS = (Member(ALICE, Role.OWNER, NOW), Member(BOB, Role.ADMIN, NOW))
CHAT = Chat(ChatId(5), "A group", True, NOW, FOUNDERS, 6, NOW, None)


@pytest.mark.parametrize(("reads_all", "reads_from"), [(True, 1), (False, 7)])
def test_joining(reads_all: bool, reads_from: int) -> None:
    """A member joins with the chat's next number, which everybody hears, the new member included."""
    carol = Member(CAROL, Role.MEMBER, NOW, Range(7, reads_from))
    decision = add_member(CHAT, CAROL, reads_all=reads_all, now=NOW)
    assert decision.result == evolve(CHAT, members=(*FOUNDERS, carol), sequence=7)
    stored, _, logged, delivered = decision.effects
    assert stored == StoreMember(CHAT.id, carol)
    assert isinstance(logged, AppendEvent)
    assert delivered == Deliver(MemberAdded(carol, 3), (ALICE, BOB, CAROL), logged.entry)


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
    """A member joins once, only a member leaves, and a direct chat and a missing one cannot be deleted."""
    with pytest.raises(AlreadyAMember):
        add_member(CHAT, BOB, reads_all=True, now=NOW)
    with pytest.raises(NotAParticipant):
        remove_member(CHAT, CAROL, now=NOW)
    with pytest.raises(ChatNotFound):
        delete_chat(evolve(CHAT, is_group=False), deleted_by=ALICE, now=NOW)
    for missing in (
        lambda: add_member(None, BOB, reads_all=True, now=NOW),
        lambda: remove_member(None, BOB, now=NOW),
        lambda: delete_chat(None, deleted_by=None, now=NOW),
    ):
        with pytest.raises(ChatNotFound):
            missing()

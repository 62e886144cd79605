"""Reading a chat: how far a mark moves, who hears of it, and what is shown of it."""

from datetime import UTC, datetime

import pytest
from attrs import evolve

from messaging_core.effects import AdvanceMark, Decision, DeliverEphemeral
from messaging_core.errors import ChatTooLarge
from messaging_core.events import MessageRead
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.limits import Limits
from messaging_core.marks import NOTHING_READ, Mark
from messaging_core.models import Chat, Member, NewlyRead, Role
from messaging_core.read_marks import check_shows_marks, last_mark, mark_read, unread

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
ALICE, BOB, CAROL, DAVE = map(UserId, range(1, 5))
LIMITS = Limits(read_marks_members=3)
READ = Mark(MessageId(12), 5)


def chat_of(*people: UserId) -> Chat:
    members = tuple(Member(user_id, Role.MEMBER, NOW) for user_id in people)
    return Chat(ChatId(1), "Chat", True, NOW, members, 9, NOW, MessageId(14), message_count=7)


@pytest.mark.parametrize(
    ("people", "audience"),
    [((ALICE, BOB, CAROL), (ALICE, BOB, CAROL)), ((ALICE, BOB, CAROL, DAVE), (ALICE,))],
    ids=["small", "large"],
)
def test_a_mark_that_moves_is_stored_and_announced(
    people: tuple[UserId, ...], audience: tuple[UserId, ...]
) -> None:
    """All members hear of it, the reader included; in a chat above `read_marks_members`, only the reader."""
    chat, ids = chat_of(*people), (MessageId(12), MessageId(11))
    decision = mark_read(
        chat, actor=ALICE, known=Mark(MessageId(10), 3), mark=READ, newly_read=ids, limits=LIMITS
    )
    event = MessageRead(chat.id, ALICE, READ.message_id, ids, 2, 9)
    assert decision == Decision(
        NewlyRead(chat.id, ids), (AdvanceMark(chat, ALICE, READ), DeliverEphemeral(event, audience))
    )


@pytest.mark.parametrize("mark", [NOTHING_READ, Mark(MessageId(11), 4), READ])
def test_a_mark_never_moves_back(mark: Mark) -> None:
    """A mark that is no further than the known one has no effects, and names no message."""
    chat = chat_of(ALICE, BOB)
    decision = mark_read(chat, actor=ALICE, known=READ, mark=mark, newly_read=(), limits=LIMITS)
    assert decision == Decision(NewlyRead(chat.id, ()))


def test_the_newest_messages_are_named() -> None:
    """The response names the newest 1,000 of the messages that were read, the event the newest 100."""
    ids = tuple(map(MessageId, range(3000, 1500, -1)))
    decision = mark_read(
        chat_of(ALICE, BOB), actor=ALICE, known=NOTHING_READ, mark=READ, newly_read=ids, limits=LIMITS
    )
    assert decision.result.message_ids == ids[:1000]
    delivery = decision.effects[-1]
    assert isinstance(delivery, DeliverEphemeral)
    assert isinstance(delivery.event, MessageRead)
    assert delivery.event.message_ids == ids[:100]


def test_unread_messages_are_counted() -> None:
    """What is unread is the count of messages less the mark's ordinal, and never negative."""
    assert (unread(7, NOTHING_READ), unread(7, READ), unread(4, READ)) == (7, 2, 0)
    assert last_mark(chat_of(ALICE)) == (14, 7)
    empty = evolve(chat_of(ALICE), last_message_id=None, message_count=0)
    assert last_mark(empty) == NOTHING_READ


def test_marks_are_shown_in_small_chats_only() -> None:
    """A chat of more than `read_marks_members` people does not show how far its members have read."""
    check_shows_marks(chat_of(ALICE, BOB, CAROL), LIMITS)
    with pytest.raises(ChatTooLarge, match="at most 3 people"):
        check_shows_marks(chat_of(ALICE, BOB, CAROL, DAVE), LIMITS)

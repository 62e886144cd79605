"""What one reader is shown of a log: what they may see, in order, each message once and as it is now."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from messaging_core import operations
from messaging_core.commands import CreateGroup, DeleteMessage, EditMessage, SendMessage
from messaging_core.effects import AppendEvent, Decision, StoreUser
from messaging_core.events import (
    ChatCreated,
    ChatDeleted,
    Custom,
    DurableEvent,
    MemberAdded,
    MemberRemoved,
    MessageCreated,
    MessageDeleted,
    MessageUpdated,
    event_name,
)
from messaging_core.fanout import announce
from messaging_core.frames import NOTHING_MORE
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.members import add_member, delete_chat, remove_member
from messaging_core.models import Actor, Message, MessageType, User
from messaging_core.operations import Context, MissedEvents
from messaging_core.ports import Transaction
from messaging_core.privacy import EmailVisibility, Privacy
from messaging_core.world import World

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
ALICE, BOB, CAROL = UserId(1), UserId(2), UserId(3)
CHAT = ChatId(1)


def context(user_id: UserId, privacy: Privacy | None = None) -> Context:
    limits = Limits(participants_listed=10)
    return Context(Actor(user_id, SessionId(user_id)), NOW, limits, privacy or Privacy())


class Story:
    """Alice's group with Bob, and what happens in it; the chat's creation is number 1."""

    def __init__(self) -> None:
        self.world = World()
        self.world.transact(self._people)
        self.world.do(operations.create_group(CreateGroup("Team", (BOB,)), context(ALICE)))

    @staticmethod
    def _people(tx: Transaction) -> None:
        for name in ("alice", "bob", "carol"):
            user = User(tx.next_user_id(), f"{name}@test.com", name.title(), name, None, NOW)
            tx.apply(StoreUser(user, "hash", user.email))

    def send(self, author: UserId = ALICE) -> Message:
        command = SendMessage(CHAT, MessageType.TEXT, "Hello")
        return self.world.do(operations.send_message(command, context(author)))[0]

    def edit(self, message: Message) -> None:
        command = EditMessage(message.id, "Changed")
        self.world.do(operations.edit_message(command, context(ALICE)))

    def delete(self, message: Message) -> None:
        self.world.do(operations.delete_message(DeleteMessage(message.id), context(ALICE)))

    def add(self, user_id: UserId, *, reads_all: bool = False) -> None:
        self.world.do(lambda tx: add_member(tx.lock_chat(CHAT), user_id, reads_all=reads_all, now=NOW))

    def remove(self, user_id: UserId) -> None:
        self.world.do(lambda tx: remove_member(tx.lock_chat(CHAT), user_id, now=NOW))

    def end(self) -> None:
        self.world.do(lambda tx: delete_chat(tx.lock_chat(CHAT), deleted_by=ALICE, now=NOW))

    def pin(self) -> None:
        def decide(tx: Transaction) -> Decision[None]:
            chat = tx.lock_chat(CHAT)
            assert chat is not None
            return Decision(None, announce(chat, Custom("acme.pinned", {"n": 1}), now=NOW))

        self.world.do(decide)

    def missed(
        self, reader: UserId, after: int = 0, count: int = 100, privacy: Privacy | None = None
    ) -> MissedEvents:
        query = operations.missed_events(CHAT, after, context(reader, privacy), count=count)
        return self.world.read(query)


@pytest.fixture
def story() -> Story:
    return Story()


def kinds(found: MissedEvents) -> list[tuple[int, type[DurableEvent]]]:
    return [(each.entry.sequence, type(each.event)) for each in found.events]


def messages(found: MissedEvents) -> Sequence[Message]:
    return [each.event.message for each in found.events if isinstance(each.event, MessageCreated)]


def test_events_come_in_parts(story: Story) -> None:
    """A part has as many entries as were wanted, and says whether it is the last."""
    sent = [story.send() for _ in range(3)]
    story.pin()
    first = story.missed(BOB, after=1, count=2)
    assert kinds(first) == [(2, MessageCreated), (3, MessageCreated)]
    assert (first.through, first.is_last) == (3, False)
    second = story.missed(BOB, after=3, count=3)
    assert kinds(second) == [(4, MessageCreated), (5, Custom)]
    assert (second.through, second.is_last) == (5, True)
    assert [*messages(first), *messages(second)] == sent
    assert story.missed(BOB, after=5) == MissedEvents((), 5, is_last=True)
    assert all(each.more is NOTHING_MORE for each in (*first.events, *second.events))


def test_a_message_is_shown_once_as_it_is_now(story: Story) -> None:
    """Where it was created, or else at its last change."""
    old = story.send()
    new = story.send()
    story.edit(old)
    story.edit(new)
    story.delete(old)
    story.edit(new)
    found = story.missed(BOB, after=2)
    assert kinds(found) == [(3, MessageCreated), (6, MessageDeleted)]
    assert [message.content for message in messages(found)] == ["Changed"]
    part = story.missed(BOB, after=2, count=2)
    assert kinds(part) == [(3, MessageCreated), (4, MessageUpdated)]


def test_a_creation_that_is_hidden_hides_no_later_change(story: Story) -> None:
    """A member who comes back and may read everything is shown the changes of what was sent meanwhile."""
    story.remove(BOB)  # 2
    message = story.send()  # 3
    story.add(BOB, reads_all=True)  # 4
    story.edit(message)  # 5
    assert kinds(story.missed(BOB, after=1)) == [
        (2, MemberRemoved),
        (4, MemberAdded),
        (5, MessageUpdated),
    ]


def test_a_stranger_and_a_member_from_later_on_see_nothing_of_before(story: Story) -> None:
    """A new member sees the log from their joining on."""
    earlier = story.send()
    assert story.missed(CAROL) == MissedEvents((), 0, is_last=True)
    story.add(CAROL)
    story.edit(earlier)
    story.send()
    found = story.missed(CAROL)
    assert kinds(found) == [(3, MemberAdded), (5, MessageCreated)]
    assert found.through == 5


def test_a_person_who_left_sees_their_removal_last(story: Story) -> None:
    """And of earlier messages none that was changed after it: only its present state is known."""
    stays, changes, goes, early = story.send(), story.send(), story.send(), story.send()
    story.edit(early)
    story.remove(BOB)
    story.edit(changes)
    story.delete(goes)
    story.send()
    found = story.missed(BOB, after=1)
    assert kinds(found) == [(2, MessageCreated), (5, MessageCreated), (7, MemberRemoved)]
    assert [message.id for message in messages(found)] == [stays.id, early.id]
    assert kinds(story.missed(BOB, after=5)) == [(6, MessageUpdated), (7, MemberRemoved)]
    assert found.is_last


def test_of_a_deleted_chat_the_deletion_is_shown(story: Story) -> None:
    """The chat itself, whose creation was missed too, is not."""
    story.end()
    assert kinds(story.missed(BOB)) == [(2, ChatDeleted)]


def test_people_and_the_chat_are_shown_as_the_reader_sees_them(story: Story) -> None:
    """A new member sees the chat in their own joining, others see the person; e-mails follow the privacy."""
    story.add(CAROL)
    hidden = Privacy(EmailVisibility.SELF)
    created, added = story.missed(BOB, privacy=hidden).events
    assert isinstance(created.event, ChatCreated)
    assert created.more.chat is not None
    assert [user.email for user in created.more.chat.participants] == [None, "bob@test.com", None]
    assert added.more.user is not None
    assert (added.more.user.tag, added.more.user.email, added.more.chat) == ("carol", None, None)
    (own,) = story.missed(CAROL, privacy=hidden).events
    assert own.more.user is not None
    assert own.more.user.email == "carol@test.com"
    assert own.more.chat is not None
    assert own.more.chat.id == CHAT


def test_a_joining_is_not_shown_to_a_person_who_has_left_again(story: Story) -> None:
    """The chat is not theirs to see any more; their removal is."""
    story.add(CAROL)
    story.remove(CAROL)
    assert kinds(story.missed(CAROL)) == [(3, MemberRemoved)]


def test_a_message_that_is_gone_is_left_out(story: Story) -> None:
    """As an event whose subject no storage has any more."""

    def append(tx: Transaction) -> None:
        chat = tx.lock_chat(CHAT)
        assert chat is not None
        for effect in announce(chat, MessageUpdated(story_message), now=NOW):
            if isinstance(effect, AppendEvent):
                tx.apply(effect)

    story_message = Message(
        MessageId(99), CHAT, ALICE, MessageType.TEXT, "", None, NOW, None, None, None, 1, 5
    )
    story.world.transact(append)
    assert kinds(story.missed(BOB, after=1)) == []


def test_chats_are_shown_to_their_members(story: Story) -> None:
    """With the number up to which they are true; those of others, and deleted ones, are left out."""
    story.send()
    query = operations.chat_views((CHAT, ChatId(9)), context(BOB))
    (current,) = story.world.read(query)
    assert (current.id, current.chat.sequence) == (CHAT, 2)
    assert current.last_message is not None
    assert [user.tag for user in current.participants] == ["alice", "bob"]
    assert story.world.read(operations.chat_views((CHAT,), context(CAROL))) == ()


def test_how_far_a_person_reaches(story: Story) -> None:
    """Every chat of the person, those that they have left included."""
    assert story.world.read(operations.reaches(context(BOB))) == {CHAT: (1, True)}
    story.remove(BOB)
    story.send()
    assert story.world.read(operations.reaches(context(BOB))) == {CHAT: (2, False)}


def test_names_of_events_are_those_of_the_log(story: Story) -> None:
    """A frame is named after the event that it shows."""
    story.pin()
    for each in story.missed(BOB).events:
        assert event_name(each.event) == each.entry.name

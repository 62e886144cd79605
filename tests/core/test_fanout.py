"""Fan-out: the table of events, one number per event and chat, and replay from the log."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from attrs import asdict, astuple, evolve, fields
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.effects import (
    AdvanceChat,
    AdvanceMark,
    AppendEvent,
    ChangeChat,
    ChangeMessage,
    DeleteChat,
    Deliver,
    DeliverEphemeral,
    EndMembership,
    StoreChat,
    StoreMember,
    StoreMessage,
    StoreRole,
)
from messaging_core.events import (
    EVENTS,
    OWN_NAMESPACES,
    ChatCreated,
    ChatDeleted,
    ChatUpdated,
    Custom,
    DurableEvent,
    EphemeralEvent,
    Event,
    Facts,
    LogEntry,
    MemberAdded,
    MemberRemoved,
    MemberSubject,
    MemberUpdated,
    MessageCreated,
    MessageDeleted,
    MessageRead,
    MessageSubject,
    MessageUpdated,
    Needs,
    Typing,
    creation,
    event_name,
    kind_of,
    log_entry,
    readers,
    rebuild,
    rebuild_ephemeral,
)
from messaging_core.fanout import announce, announce_ephemeral, replay
from messaging_core.frames import (
    NOTHING_MORE,
    ForViewer,
    Frame,
    MemberAddedData,
    MemberData,
    PlainFrame,
    PlainMessage,
    Views,
)
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.marks import NOTHING_READ, Mark
from messaging_core.models import (
    Chat,
    ChatView,
    Member,
    Message,
    MessageType,
    Role,
    Tombstone,
    User,
    UserView,
)
from messaging_core.positions import FOUNDER, Range, ended
from messaging_core.profiles import full
from messaging_core.testing import strategies as values

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
NAMES = {
    ChatCreated: "chat.created",
    ChatUpdated: "chat.updated",
    ChatDeleted: "chat.deleted",
    MemberAdded: "member.added",
    MemberUpdated: "member.updated",
    MemberRemoved: "member.removed",
    MessageCreated: "message.created",
    MessageUpdated: "message.updated",
    MessageDeleted: "message.deleted",
    Custom: None,
    Typing: "typing",
    MessageRead: "message.read",
}
"""The contract's names; they never change."""


def delivery_of(chat: Chat, event: DurableEvent) -> Deliver:
    *_, delivery = announce(chat, event, now=NOW)
    assert isinstance(delivery, Deliver)
    return delivery


# --- the table ----------------------------------------------------------------------------------------------


def test_every_kind_of_event_has_one_row() -> None:
    """Each class of `Event` has a row, under the contract's name, in a namespace of the library."""
    assert {kind.event: kind.name for kind in EVENTS} == NAMES
    assert {kind.event for kind in EVENTS} == set(get_args(Event))
    assert len(EVENTS) == len(NAMES)
    assert {name.partition(".")[0] for name in NAMES.values() if name} <= OWN_NAMESPACES


def test_the_table_says_which_events_are_durable() -> None:
    """Exactly the classes of `DurableEvent` are durable, and the others are those of `EphemeralEvent`."""
    durable, ephemeral = set(get_args(DurableEvent)), set(get_args(EphemeralEvent))
    assert {kind.event: kind.is_durable for kind in EVENTS} == {
        **dict.fromkeys(durable, True),
        **dict.fromkeys(ephemeral, False),
    }


@given(values.events())
def test_an_event_is_rebuilt_from_its_facts(event: DurableEvent) -> None:
    """The facts in a signal are enough to rebuild the event; without facts there is no event."""
    facts = kind_of(event).facts(event)
    assert rebuild(event_name(event), facts) == event
    assert rebuild(event_name(event), Facts()) is None
    with pytest.raises(ValueError, match="names a durable event"):
        rebuild_ephemeral(event_name(event), facts)


@given(values.ephemeral_events)
def test_an_ephemeral_event_is_rebuilt_from_its_facts(event: EphemeralEvent) -> None:
    """Its facts are enough; without them, or with another value in them, there is no event."""
    name, facts = event_name(event), kind_of(event).facts(event)
    assert rebuild_ephemeral(name, facts) == event
    for data in (None, {}, {**(facts.data or {}), "chat_id": "1"}):
        assert rebuild_ephemeral(name, evolve(facts, data=data)) is None
    with pytest.raises(ValueError, match="names an ephemeral event"):
        rebuild(name, facts)


@given(values.chats(), values.ephemeral_events)
def test_an_ephemeral_event_is_delivered_and_not_logged(chat: Chat, event: EphemeralEvent) -> None:
    """Typing is delivered to the others in the chat, a reading to all; the log refuses both."""
    is_heard = isinstance(event, MessageRead)
    people = tuple(user_id for user_id in chat.member_ids if is_heard or user_id != event.user_id)
    assert announce_ephemeral(chat, event) == DeliverEphemeral(event, people)
    with pytest.raises(TypeError, match="is ephemeral"):
        log_entry(chat.id, 1, event, NOW)  # type: ignore[arg-type]


@given(values.events() | values.ephemeral_events)
def test_profile_1_shows_created_and_updated_messages_only(event: Event) -> None:
    """Profile 1 shows a deletion as an update, and no other events."""
    frame = kind_of(event).plain(event)
    if not isinstance(event, MessageCreated | MessageUpdated | MessageDeleted):
        assert frame is None
        return
    assert frame is not None
    assert frame.event == ("message.created" if isinstance(event, MessageCreated) else "message.updated")
    message = event.message
    assert astuple(frame.data) == (
        message.id,
        message.chat_id,
        message.author_id,
        message.type,
        message.content,
        message.payload,
        message.ts,
    )


VIEWS = Views(
    user=lambda user: ("user", user), chat=lambda chat: ("chat", chat), message=lambda m: ("message", m)
)


@given(values.events(), values.ephemeral_events)
def test_profile_2_shows_every_event_under_its_name(event: DurableEvent, ephemeral: EphemeralEvent) -> None:
    """A durable event has its chat and its number at the root, an ephemeral one has neither."""
    profile = full(VIEWS, receive=lambda _: (), refuse=lambda *_: b"", keepalive=b"{}")
    entry = LogEntry(ChatId(5), 7, event_name(event), MessageSubject(MessageId(1)), NOW)
    frame = profile.show(event, entry)
    assert (frame.event, frame.chat_id, frame.sequence) == (event_name(event), 5, 7)
    if isinstance(event, MessageCreated | MessageUpdated | MessageDeleted):
        assert frame.data == ("message", event.message)
    assert profile.defers(event) == (kind_of(event).needs is not None)
    frame = profile.show(ephemeral, None)
    assert isinstance(frame, Frame)
    assert (frame.event, asdict(frame.data)) == (event_name(ephemeral), asdict(ephemeral))  # type: ignore[arg-type]
    assert not profile.defers(ephemeral)


PERSON = User(UserId(3), "carol@test.com", "Carol", "carol", None, NOW)
SEEN = UserView(*astuple(PERSON))
CHAT_SEEN = ChatView(Chat(ChatId(5), "Team", True, NOW, (), 7, NOW, None), (SEEN,), Role.MEMBER, None)
CAROL = Member(UserId(3), Role.ADMIN, NOW)


@pytest.mark.parametrize(
    ("event", "needs", "data"),
    [
        (
            ChatCreated(Chat(ChatId(5), "", True, NOW, (), 1, NOW, None)),
            Needs(chat=True),
            ("chat", CHAT_SEEN),
        ),
        (
            MemberAdded(CAROL, 4),
            Needs(UserId(3), chat=True),
            MemberAddedData(ChatId(5), ("user", SEEN), Role.ADMIN, NOW, 4, ("chat", CHAT_SEEN)),
        ),
        (
            MemberRemoved(CAROL, 3),
            Needs(UserId(3)),
            MemberData(ChatId(5), ("user", SEEN), Role.ADMIN, NOW, 3),
        ),
    ],
)
def test_what_an_event_shows_of_people_and_chats_is_read_for_its_viewer(
    event: DurableEvent, needs: Needs, data: object
) -> None:
    """The person it is about, and the chat, which of a new member only that person sees."""
    kind = kind_of(event)
    assert kind.needs is not None
    assert kind.needs(event, UserId(3)) == needs
    assert kind.needs(event, UserId(9)).chat == isinstance(event, ChatCreated)
    entry = LogEntry(ChatId(5), 7, event_name(event), MemberSubject(UserId(3)), NOW)
    assert kind.full(event, entry, VIEWS, ForViewer(SEEN, CHAT_SEEN)) == data
    gone = kind.full(event, entry, VIEWS, NOTHING_MORE)
    assert gone is None or (gone.user, getattr(gone, "chat", None)) == (None, None)  # type: ignore[attr-defined]


def test_the_plain_frame() -> None:
    """A frame has two root keys, and its message has the checklist's seven keys in their order."""
    assert [field.name for field in fields(PlainFrame)] == ["event", "data"]
    assert [field.name for field in fields(PlainMessage)] == [
        "id",
        "chat_id",
        "author_id",
        "type",
        "content",
        "payload",
        "ts",
    ]


@pytest.mark.parametrize("name", ["acme.pinned", "a.b", "acme_2.poll.opened", "a." + "b" * 62])
def test_names_of_custom_events(name: str) -> None:
    """A custom event has a lower-case name in an importer's namespace."""
    assert event_name(Custom(name, {})) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "pinned",
        "Acme.pinned",
        "acme.",
        ".pinned",
        "acme pinned",
        "2acme.pinned",
        "a." + "b" * 63,
        "acme.é",
    ]
    + [f"{namespace}.{name}" for namespace in sorted(OWN_NAMESPACES) for name in ("pinned", "one.two")],
)
def test_invalid_names_of_custom_events(name: str) -> None:
    """A bare word, and a name in a namespace of the library, are refused."""
    with pytest.raises(ValueError, match="cannot name a custom event"):
        Custom(name, {})


# --- effects ------------------------------------------------------------------------------------------------


@given(st.data(), values.chats())
def test_every_event_is_stored_logged_and_delivered_in_this_order(data: st.DataObject, chat: Chat) -> None:
    """An event takes the chat's next number, and is delivered last, to the members and those it adds."""
    event = data.draw(values.events(chat=chat))
    *stored, delivery = announce(chat, event, now=NOW)
    number = chat.sequence + 1
    entry = log_entry(chat.id, number, event, NOW)
    assert entry.name == event_name(event)
    moved = evolve(chat, sequence=number)
    people = chat.member_ids
    match event:
        case ChatCreated(created):
            assert stored == [StoreChat(evolve(created, sequence=number)), AppendEvent(entry)]
        case ChatDeleted(tombstone):
            assert stored == [DeleteChat(tombstone, people), AppendEvent(entry)]
        case MemberAdded(member):
            people = (*people, member.user_id)
            read = AdvanceMark(
                chat, member.user_id, Mark(MessageId(chat.last_message_id or 0), chat.message_count)
            )
            assert stored == [StoreMember(chat.id, member), read, AdvanceChat(moved), AppendEvent(entry)]
        case ChatUpdated(_, title, avatar_url, history):
            changed = evolve(moved, title=title, avatar_url=avatar_url, history=history)
            assert stored == [ChangeChat(changed), AdvanceChat(changed), AppendEvent(entry)]
        case MemberUpdated(member):
            role = StoreRole(chat.id, member.user_id, member.role)
            assert stored == [role, AdvanceChat(moved), AppendEvent(entry)]
        case MemberRemoved(member):
            ending = EndMembership(chat.id, member.user_id, number)
            assert stored == [ending, AdvanceChat(moved), AppendEvent(entry)]
        case MessageCreated(message):
            entry = creation(message)
            author, read_by_author = message.author_id, Mark(message.id, chat.message_count + 1)
            moved = evolve(
                moved,
                active_at=message.ts,
                last_message_id=message.id,
                message_count=read_by_author.ordinal,
                marks=tuple(
                    read_by_author if member.user_id == author else mark
                    for member, mark in zip(chat.members, chat.marks or [NOTHING_READ] * 2, strict=False)
                    if not chat.is_group
                ),
            )
            own = [AdvanceMark(moved, author, read_by_author)] if chat.is_group and author else []
            stored_message = StoreMessage(message, chat.message_count + 1)
            assert stored == [stored_message, AdvanceChat(moved), *own], "which logs it as well"
        case MessageUpdated(message) | MessageDeleted(message):
            people = readers(chat.members, number, message.sequence)
            assert entry.subject == MessageSubject(message.id)
            assert stored == [ChangeMessage(message), AdvanceChat(moved), AppendEvent(entry)]
        case Custom():
            assert stored == [AdvanceChat(moved), AppendEvent(entry)]
    assert delivery == Deliver(event, people, entry)


@given(values.chats(), values.chats())
def test_a_changed_chat_is_rebuilt_from_its_present_state(chat: Chat, now: Chat) -> None:
    """Replay shows what the chat is called now; a signal carries what the event says, not the members."""
    event = ChatUpdated(chat.id, chat.title, chat.avatar_url, chat.history)
    assert kind_of(event).facts(event).chat is None
    entry = delivery_of(chat, event).entry
    again = replay(entry, now.members, chat=now)
    assert again is not None
    assert again.event == ChatUpdated(now.id, now.title, now.avatar_url, now.history)
    assert replay(entry, chat.members) is None


@given(
    values.chats(), values.messages(), st.lists(st.sampled_from([MessageCreated, MessageUpdated]), max_size=8)
)
def test_numbers_have_no_gaps(
    chat: Chat, message: Message, kinds: list[type[MessageCreated | MessageUpdated]]
) -> None:
    """Consecutive events, each decided on the state that the last one stored, have consecutive numbers."""
    first, numbers = chat.sequence, []
    for kind in kinds:
        message = evolve(message, sequence=chat.sequence + 1)
        _, moved, *_, delivery = announce(chat, kind(message), now=NOW)
        assert isinstance(moved, AdvanceChat)
        assert isinstance(delivery, Deliver)
        numbers.append(delivery.entry.sequence)
        chat = moved.chat
    assert numbers == list(range(first + 1, first + 1 + len(kinds)))


# --- replay -------------------------------------------------------------------------------------------------


def after(chat: Chat, event: Event) -> tuple[Chat | None, Tombstone | None, tuple[Member, ...]]:
    """The chat after its next event, what stays of a deleted one, and the memberships that ended with it."""
    number = chat.sequence + 1
    match event:
        case ChatDeleted(tombstone):
            return None, tombstone, tuple(evolve(m, range=ended(m.range, number)) for m in chat.members)
        case MemberAdded(member):
            return evolve(chat, sequence=number, members=(*chat.members, member)), None, ()
        case MemberUpdated(member):
            others = tuple(member if each.user_id == member.user_id else each for each in chat.members)
            return evolve(chat, sequence=number, members=others), None, ()
        case MemberRemoved(member):
            others = tuple(each for each in chat.members if each.user_id != member.user_id)
            return evolve(chat, sequence=number, members=others), None, (member,)
        case ChatCreated(created):
            return created, None, ()
        case _:
            return evolve(chat, sequence=number), None, ()


@given(st.data(), values.chats())
def test_replay_gives_the_same_delivery_while_nothing_has_changed(data: st.DataObject, chat: Chat) -> None:
    """Replay of an unchanged event reaches the same people, whatever the clocks say."""
    event = data.draw(values.events(chat=chat))
    delivery = delivery_of(chat, event)
    message = kind_of(event).facts(event).message
    now, tombstone, gone = after(chat, event)
    members = (*(now.members if now else ()), *gone)
    for at in (delivery.entry.at, chat.created_at - timedelta(seconds=3)):
        entry = evolve(delivery.entry, at=at)
        again = replay(entry, members, chat=now, tombstone=tombstone, message=message)
        assert again is not None
        assert (again.event, again.entry) == (event, entry)
        assert sorted(again.audience) == sorted(delivery.audience)


@given(values.chats(), values.messages(), values.messages())
def test_replay_shows_a_message_as_it_is_now(chat: Chat, message: Message, now: Message) -> None:
    """Replay shows the current text of a message, and nothing of a message that is gone."""
    delivery = delivery_of(chat, MessageCreated(message))
    again = replay(delivery.entry, chat.members, chat=chat, message=now)
    assert again is not None
    assert again.event == MessageCreated(now)
    assert replay(delivery.entry, chat.members, chat=chat) is None


def test_replay_excludes_later_and_former_members() -> None:
    """Who joined in the same second, but with a later number, receives nothing earlier; nor does who left."""
    founder, later, gone = (
        Member(UserId(number), Role.MEMBER, NOW, range_)
        for number, range_ in enumerate((FOUNDER, Range(7, 1), Range(1, 1, 4)), 1)
    )
    message = Message(
        MessageId(9), ChatId(5), founder.user_id, MessageType.TEXT, "", None, NOW, None, None, None, 1, 1
    )
    audiences = []
    for number in (4, 5, 6, 7):
        message = evolve(message, sequence=number)
        delivery = replay(creation(message), (founder, later, gone), message=message)
        assert delivery is not None
        audiences.append(delivery.audience)
    assert audiences == [(1, 3), (1,), (1,), (1, 2)]

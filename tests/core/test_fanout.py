"""Fan-out: one number per event and chat, and what a plain socket is told."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import astuple, evolve, fields
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.effects import AdvanceChat, AppendEvent, ChangeMessage, Deliver, StoreChat, StoreMessage
from messaging_core.events import (
    ChatCreated,
    Event,
    LogEntry,
    MessageCreated,
    MessageUpdated,
    MessageWithdrawn,
)
from messaging_core.fanout import PlainFrame, PlainMessage, announce, event_name, plain_frame, retell
from messaging_core.models import Chat, Message
from messaging_core.testing import strategies as values

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)

events: st.SearchStrategy[Event] = st.one_of(
    st.builds(ChatCreated, values.chats()),
    *(st.builds(kind, values.messages()) for kind in (MessageCreated, MessageUpdated, MessageWithdrawn)),
)


@pytest.mark.parametrize(
    ("kind", "name", "plain"),
    [
        (MessageCreated, "message.created", "message.created"),
        (MessageUpdated, "message.updated", "message.updated"),
        (MessageWithdrawn, "message.deleted", "message.updated"),
    ],
)
@given(message=values.messages())
def test_message_events(
    kind: type[MessageCreated | MessageUpdated | MessageWithdrawn], name: str, plain: str, message: Message
) -> None:
    """A plain socket hears of messages under two names, a deletion as an update."""
    event = kind(message)
    assert event_name(event) == name
    frame = plain_frame(event)
    assert frame is not None
    assert frame.event == plain
    assert astuple(frame.data) == (
        message.id,
        message.chat_id,
        message.author_id,
        message.type,
        message.content,
        message.payload,
        message.ts,
    )


@given(values.chats())
def test_a_plain_socket_hears_of_messages_only(chat: Chat) -> None:
    """Everything else that happens is not for a plain socket."""
    assert event_name(ChatCreated(chat)) == "chat.created"
    assert plain_frame(ChatCreated(chat)) is None


def test_the_plain_frame() -> None:
    """A frame has two root keys, and its message the checklist's seven, in their order."""
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


@given(values.chats(), events)
def test_every_event_is_kept_logged_and_told_in_this_order(chat: Chat, event: Event) -> None:
    """The event takes the chat's next number, and is told last, to the members as they were."""
    *kept, delivered = announce(chat, event, now=NOW)
    number = chat.sequence + 1
    entry: LogEntry
    match event:
        case ChatCreated(created):
            entry = LogEntry(chat.id, number, "chat.created", None, NOW)
            assert kept == [StoreChat(evolve(created, sequence=number)), AppendEvent(entry)]
        case MessageCreated(message):
            entry = LogEntry(message.chat_id, number, "message.created", message.id, message.ts)
            moved = evolve(chat, sequence=number, active_at=message.ts, last_message_id=message.id)
            assert kept == [StoreMessage(message, number), AdvanceChat(moved)], "which logs it as well"
        case MessageUpdated(message) | MessageWithdrawn(message):
            entry = LogEntry(chat.id, number, event_name(event), message.id, NOW)
            moved = evolve(chat, sequence=number)
            assert kept == [ChangeMessage(message), AdvanceChat(moved), AppendEvent(entry)]
    assert delivered == Deliver(event, chat.member_ids, entry)


@given(
    values.chats(), values.messages(), st.lists(st.sampled_from([MessageCreated, MessageUpdated]), max_size=8)
)
def test_numbers_have_no_gaps(
    chat: Chat, message: Message, kinds: list[type[MessageCreated | MessageUpdated]]
) -> None:
    """Events one after another, each deciding on what the last one kept, count up by one."""
    first, numbers = chat.sequence, []
    for kind in kinds:
        _, moved, *_, delivered = announce(chat, kind(message), now=NOW)
        assert isinstance(moved, AdvanceChat)
        assert isinstance(delivered, Deliver)
        numbers.append(delivered.entry.sequence)
        chat = moved.chat
    assert numbers == list(range(first + 1, first + 1 + len(kinds)))


@given(values.chats(), events)
def test_what_is_read_from_the_log_is_told_as_it_was(chat: Chat, event: Event) -> None:
    """As long as nothing has changed since. The founders hear it, whatever the clocks say."""
    if isinstance(event, ChatCreated):
        event = ChatCreated(chat)
    *_, delivered = announce(chat, event, now=NOW)
    assert isinstance(delivered, Deliver)
    message = None if isinstance(event, ChatCreated) else event.message
    assert retell(delivered.entry, chat, message) == delivered
    early = evolve(delivered.entry, at=chat.created_at - timedelta(seconds=3))
    assert retell(early, chat, message) == evolve(delivered, entry=early)


@given(values.chats(), values.messages(), values.messages())
def test_what_is_read_from_the_log_is_told_as_it_is_now(chat: Chat, message: Message, now: Message) -> None:
    """A text that was changed since is not told any more; of a message that is gone, nothing is."""
    *_, delivered = announce(chat, MessageCreated(message), now=NOW)
    assert isinstance(delivered, Deliver)
    told = retell(delivered.entry, chat, now)
    assert told is not None
    assert told.event == MessageCreated(now)
    assert retell(delivered.entry, chat, None) is None


@given(values.chats(is_group=True), values.messages())
def test_who_comes_into_a_chat_is_not_told_what_was_before(chat: Chat, message: Message) -> None:
    """Whoever reads the log on whose behalf."""
    entry = LogEntry(chat.id, chat.sequence, "message.created", message.id, chat.created_at)
    *_, last = chat.members
    late = evolve(last, joined_at=chat.created_at + timedelta(seconds=1))
    told = retell(entry, evolve(chat, members=(*chat.members[:-1], late)), message)
    assert told is not None
    assert told.audience == chat.member_ids[:-1]

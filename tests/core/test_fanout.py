"""Fan-out: one number per event and chat, and what a plain socket is told."""

from datetime import UTC, datetime

import pytest
from attrs import astuple, evolve, fields
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.effects import AdvanceChat, AppendEvent, Deliver, StoreChat
from messaging_core.events import (
    ChatCreated,
    Event,
    LogEntry,
    MessageCreated,
    MessageUpdated,
    MessageWithdrawn,
)
from messaging_core.fanout import PlainFrame, PlainMessage, announce, event_name, plain_frame
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
    kept, appended, delivered = announce(chat, event, now=NOW)
    message = None if isinstance(event, ChatCreated) else event.message
    about = None if message is None else message.id
    entry = LogEntry(chat.id, chat.sequence + 1, event_name(event), about, NOW)
    assert appended == AppendEvent(entry)
    assert delivered == Deliver(event, chat.member_ids, entry)
    match event:
        case ChatCreated():
            assert kept == StoreChat(evolve(event.chat, sequence=entry.sequence))
        case MessageCreated():
            assert message is not None
            moved = evolve(chat, sequence=entry.sequence, active_at=message.ts, last_message_id=message.id)
            assert kept == AdvanceChat(moved)
        case _:
            assert kept == AdvanceChat(evolve(chat, sequence=entry.sequence))


@given(
    values.chats(), values.messages(), st.lists(st.sampled_from([MessageCreated, MessageUpdated]), max_size=8)
)
def test_numbers_have_no_gaps(
    chat: Chat, message: Message, kinds: list[type[MessageCreated | MessageUpdated]]
) -> None:
    """Events one after another, each deciding on what the last one kept, count up by one."""
    first, numbers = chat.sequence, []
    for kind in kinds:
        kept, appended, _ = announce(chat, kind(message), now=NOW)
        assert isinstance(kept, AdvanceChat)
        assert isinstance(appended, AppendEvent)
        numbers.append(appended.entry.sequence)
        chat = kept.chat
    assert numbers == list(range(first + 1, first + 1 + len(kinds)))

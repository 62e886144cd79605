"""Messages: who may send, edit and delete, the order of the effects, and the paging of history."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.commands import EditMessage, ListMessages, SendMessage
from messaging_core.constraints import UNSET
from messaging_core.effects import AdvanceChat, AppendEvent, ChangeMessage, Decision, Deliver, StoreMessage
from messaging_core.errors import (
    ChatNotFound,
    Invalid,
    MessageAlreadyDeleted,
    MessageNotFound,
    NotAParticipant,
    NotTheAuthor,
)
from messaging_core.events import (
    LogEntry,
    MessageCreated,
    MessageDeleted,
    MessageSubject,
    MessageUpdated,
    creation,
)
from messaging_core.fanout import announce
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.limits import Limits
from messaging_core.marks import NOTHING_READ, Mark
from messaging_core.messages import check_page, delete_message, edit_message, page, send_message
from messaging_core.models import Chat, Member, Message, MessageType, Page, Role
from messaging_core.positions import Range, may_see
from messaging_core.testing import strategies as values

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
LIMITS = Limits()
ALICE, BOB, STRANGER = UserId(1), UserId(2), UserId(3)
CHAT = Chat(
    ChatId(5),
    "Direct Message",
    False,
    NOW,
    (Member(ALICE, Role.MEMBER, NOW), Member(BOB, Role.MEMBER, NOW)),
    6,
    NOW,
    None,
)
MESSAGE = Message(MessageId(9), CHAT.id, ALICE, MessageType.TEXT, "hello", None, NOW, None, None, None, 4, 4)
HELLO = SendMessage(CHAT.id, MessageType.TEXT, "hello")


def send(
    command: SendMessage = HELLO,
    *,
    chat: Chat | None = CHAT,
    author: UserId = ALICE,
    replied_to: Message | None = None,
) -> Decision[Message]:
    return send_message(
        chat, command, author=author, replied_to=replied_to, message_id=MessageId(9), now=LATER, limits=LIMITS
    )


def edit(
    command: EditMessage,
    *,
    chat: Chat | None = CHAT,
    message: Message | None = MESSAGE,
    editor: UserId = ALICE,
) -> Decision[Message]:
    return edit_message(chat, message, command, editor=editor, now=LATER, limits=LIMITS)


def delete(
    *, chat: Chat | None = CHAT, message: Message | None = MESSAGE, deleter: UserId = ALICE
) -> Decision[None]:
    return delete_message(chat, message, deleter=deleter, now=LATER)


def group(**roles: Role) -> Chat:
    members = {"alice": ALICE, "bob": BOB}
    return evolve(
        CHAT, is_group=True, members=tuple(Member(members[name], role, NOW) for name, role in roles.items())
    )


def wrong(refused: pytest.ExceptionInfo[Invalid]) -> list[tuple[str, str]]:
    return [(error.field, error.code) for error in refused.value.errors]


# --- sending ------------------------------------------------------------------------------------------------


def test_sending() -> None:
    """Sending stores the message under its event's number, advances the chat, then delivers to members."""
    message = evolve(MESSAGE, ts=LATER, sequence=7, revision=7)
    advanced = evolve(
        CHAT,
        sequence=7,
        active_at=LATER,
        last_message_id=message.id,
        message_count=1,
        marks=(Mark(message.id, 1), NOTHING_READ),
    )
    entry = LogEntry(CHAT.id, 7, "message.created", MessageSubject(message.id), LATER)
    assert send() == Decision(
        message,
        (
            StoreMessage(message, 1),
            AdvanceChat(advanced),
            Deliver(MessageCreated(message), (ALICE, BOB), entry),
        ),
    )


@given(st.data(), values.chats())
def test_any_sent_message(data: st.DataObject, chat: Chat) -> None:
    """The audience is the members, the sequence advances by one, the message has the command's values."""
    command = data.draw(values.send_commands(chat_id=st.just(chat.id)))
    author = data.draw(st.sampled_from(chat.member_ids))
    decision = send(command, chat=chat, author=author)
    stored, advanced, *_, delivered = decision.effects
    assert isinstance(stored, StoreMessage)
    assert isinstance(advanced, AdvanceChat)
    assert isinstance(delivered, Deliver)
    assert delivered.audience == chat.member_ids
    assert author in delivered.audience
    assert delivered.entry == creation(stored.message)
    assert stored.message.sequence == advanced.chat.sequence == chat.sequence + 1
    same: dict[str, Any] = {
        "sequence": 0,
        "active_at": NOW,
        "last_message_id": None,
        "message_count": 0,
        "marks": (),
    }
    assert evolve(advanced.chat, **same) == evolve(chat, **same)
    message = decision.result
    assert stored.message == message
    assert delivered.event == MessageCreated(message)
    assert (message.type, message.content, message.payload) == (
        command.type,
        command.content,
        command.payload,
    )
    assert (message.author_id, message.chat_id, message.ts) == (author, chat.id, LATER)
    assert (message.edited_at, message.deleted_at, message.reply_to_id) == (None, None, None)


def test_only_participants_send() -> None:
    """A missing chat is not found, and only participants may send."""
    with pytest.raises(ChatNotFound):
        send(chat=None)
    with pytest.raises(NotAParticipant):
        send(author=STRANGER)


@pytest.mark.parametrize(
    ("command", "errors"),
    [
        (SendMessage(CHAT.id, MessageType.TEXT), [("content", "required")]),
        (SendMessage(CHAT.id, MessageType.TEXT, ""), [("content", "blank")]),
        (SendMessage(CHAT.id, MessageType.TEXT, " \n "), [("content", "blank")]),
        (SendMessage(CHAT.id, MessageType.TEXT, "x" * 4001), [("content", "too_long")]),
        (SendMessage(CHAT.id, MessageType.SYSTEM, "x"), [("type", "not_allowed")]),
        (
            SendMessage(CHAT.id, MessageType.VOICE, None, {"a": "\x00"}),
            [("payload.a", "unstorable_character")],
        ),
    ],
)
def test_invalid_messages_are_refused(command: SendMessage, errors: list[tuple[str, str]]) -> None:
    """Empty, too long, non-text and system messages are refused, before membership is checked."""
    for chat, author in ((CHAT, ALICE), (None, STRANGER)):
        with pytest.raises(Invalid) as refused:
            send(command, chat=chat, author=author)
        assert wrong(refused) == errors


@pytest.mark.parametrize(
    ("content", "payload"), [("x", None), (None, {}), (None, {"a": 1}), ("x", {"a": 1}), ("", {"a": 1})]
)
def test_content_or_payload(content: str | None, payload: dict[str, Any] | None) -> None:
    """Content or payload may be null, but not both; an empty payload counts as a payload."""
    message = send(SendMessage(CHAT.id, MessageType.FILE, content, payload)).result
    assert (message.content, message.payload) == (content, payload)


def test_replying() -> None:
    """A reply refers to a message of the same chat, deleted or not."""
    command = evolve(HELLO, reply_to_id=MessageId(4))
    for replied_to in (evolve(MESSAGE, id=MessageId(4)), evolve(MESSAGE, id=MessageId(4), deleted_at=NOW)):
        assert send(command, replied_to=replied_to).result.reply_to_id == MessageId(4)
    for missing in (None, evolve(MESSAGE, id=MessageId(4), chat_id=ChatId(6))):
        with pytest.raises(Invalid) as refused:
            send(command, replied_to=missing)
        assert wrong(refused) == [("reply_to_id", "message_not_found")]


# --- editing ------------------------------------------------------------------------------------------------


def test_editing() -> None:
    """An edited message has the time of the edit; the chat's last activity and last message do not change."""
    edited = evolve(MESSAGE, content="hi", edited_at=LATER, revision=7)
    entry = LogEntry(CHAT.id, 7, "message.updated", MessageSubject(MESSAGE.id), LATER)
    assert edit(EditMessage(MESSAGE.id, "hi")) == Decision(
        edited,
        (
            ChangeMessage(edited),
            AdvanceChat(evolve(CHAT, sequence=7)),
            AppendEvent(entry),
            Deliver(MessageUpdated(edited), (ALICE, BOB), entry),
        ),
    )


@pytest.mark.parametrize(
    ("content", "payload", "expected"),
    [
        ("new", UNSET, ("new", {"a": 1})),
        (UNSET, {"b": 2}, ("old", {"b": 2})),
        ("new", {"b": 2}, ("new", {"b": 2})),
        (None, UNSET, (None, {"a": 1})),
        (UNSET, None, ("old", None)),
        (None, {"b": 2}, (None, {"b": 2})),
    ],
)
def test_an_omitted_field_does_not_change(content: Any, payload: Any, expected: tuple[Any, Any]) -> None:
    """An omitted field keeps its value, and null removes it."""
    message = evolve(MESSAGE, content="old", payload={"a": 1})
    edited = edit(EditMessage(MESSAGE.id, content, payload), message=message).result
    assert (edited.content, edited.payload) == expected


@pytest.mark.parametrize(
    "command",
    [
        EditMessage(MESSAGE.id),
        EditMessage(MESSAGE.id, None),
        EditMessage(MESSAGE.id, None, None),
    ],
)
def test_an_edit_without_content_is_refused(command: EditMessage) -> None:
    """An edit that changes nothing, or that would leave neither content nor payload, is refused."""
    with pytest.raises(Invalid) as refused:
        edit(command)
    assert wrong(refused) == [("content", "required")]


def test_edits_have_the_bounds_of_messages() -> None:
    """An edit is refused for the same values as a message."""
    with pytest.raises(Invalid) as refused:
        edit(EditMessage(MESSAGE.id, " "))
    assert wrong(refused) == [("content", "blank")]


def test_who_may_edit() -> None:
    """Only the author may edit, while a participant and until the deletion; owners may not."""
    command = EditMessage(MESSAGE.id, "hi")
    with pytest.raises(MessageNotFound):
        edit(command, message=None)
    with pytest.raises(ChatNotFound):
        edit(command, chat=None)
    with pytest.raises(NotAParticipant):
        edit(command, message=evolve(MESSAGE, author_id=STRANGER), editor=STRANGER)
    for chat in (CHAT, group(alice=Role.MEMBER, bob=Role.OWNER)):
        with pytest.raises(NotTheAuthor):
            edit(command, chat=chat, editor=BOB)
    with pytest.raises(NotTheAuthor):
        edit(command, message=evolve(MESSAGE, author_id=None))
    with pytest.raises(MessageAlreadyDeleted):
        edit(command, message=evolve(MESSAGE, deleted_at=NOW))


# --- deleting -----------------------------------------------------------------------------------------------


def test_deleting() -> None:
    """A deleted message keeps its place, author and time, without its content and payload."""
    message = evolve(MESSAGE, payload={"a": 1}, reply_to_id=MessageId(2), edited_at=NOW)
    gone = evolve(message, content=None, payload={"deleted": True}, deleted_at=LATER, revision=7)
    entry = LogEntry(CHAT.id, 7, "message.deleted", MessageSubject(MESSAGE.id), LATER)
    assert delete(message=message) == Decision(
        None,
        (
            ChangeMessage(gone),
            AdvanceChat(evolve(CHAT, sequence=7)),
            AppendEvent(entry),
            Deliver(MessageDeleted(gone), (ALICE, BOB), entry),
        ),
    )


def test_deleting_again() -> None:
    """Deleting a deleted message has no effect and no event."""
    assert delete(message=evolve(MESSAGE, deleted_at=NOW)) == Decision(None)


@pytest.mark.parametrize(
    ("role", "is_group", "allowed"),
    [
        (Role.OWNER, True, True),
        (Role.ADMIN, True, True),
        (Role.MEMBER, True, False),
        (Role.MEMBER, False, False),
        (Role.ADMIN, False, False),
    ],
)
def test_who_may_delete(role: Role, is_group: bool, allowed: bool) -> None:
    """The author may delete, and in a group also its owner and admins."""
    chat = evolve(group(alice=Role.MEMBER, bob=role), is_group=is_group)
    assert delete(chat=chat).effects
    if allowed:
        assert delete(chat=chat, deleter=BOB).effects
        assert delete(chat=chat, deleter=BOB, message=evolve(MESSAGE, author_id=None)).effects
    else:
        with pytest.raises(NotTheAuthor):
            delete(chat=chat, deleter=BOB)


def test_a_message_out_of_reach_cannot_be_deleted() -> None:
    """A missing message, one of a missing chat, and one of a chat that the user left cannot be deleted."""
    with pytest.raises(MessageNotFound):
        delete(message=None)
    with pytest.raises(ChatNotFound):
        delete(chat=None)
    with pytest.raises(NotAParticipant):
        delete(message=evolve(MESSAGE, author_id=STRANGER), deleter=STRANGER)


# --- paging -------------------------------------------------------------------------------------------------


def test_the_size_of_a_page() -> None:
    """A page holds 50 messages by default, and at most 200."""
    assert check_page(ListMessages(CHAT.id), LIMITS) == 50
    assert check_page(ListMessages(CHAT.id, limit=1), LIMITS) == 1
    assert check_page(ListMessages(CHAT.id, limit=200, around_id=MessageId(1)), LIMITS) == 200
    for limit in (0, -1, 201, 10**100):
        with pytest.raises(Invalid) as refused:
            check_page(ListMessages(CHAT.id, limit=limit), LIMITS)
        assert wrong(refused) == [("limit", "out_of_range")]


def test_one_anchor() -> None:
    """A page is before, after or around a message; two anchors are refused."""
    with pytest.raises(Invalid) as refused:
        check_page(ListMessages(CHAT.id, before_id=MessageId(1), around_id=MessageId(2)), LIMITS)
    assert wrong(refused) == [("before_id", "conflict"), ("around_id", "conflict")]


def history(count: int) -> list[Message]:
    """Messages with odd ids, oldest first."""
    return [evolve(MESSAGE, id=MessageId(2 * number + 1)) for number in range(count)]


def older(messages: list[Message], before_id: int | None, count: int) -> list[Message]:
    return [m for m in reversed(messages) if before_id is None or m.id < before_id][:count]


def newer(messages: list[Message], after_id: int, count: int) -> list[Message]:
    return [m for m in messages if m.id > after_id][:count]


counts, sizes = st.integers(0, 25), st.integers(1, 8)


@given(counts, sizes)
def test_pages_backward_hold_everything_once(count: int, size: int) -> None:
    """Pages chained by `next_cursor` hold the history once, newest first; `has_more` is false at its end."""
    messages = history(count)
    cursor: int | None = None
    seen: list[Message] = []
    while True:
        cut = page(older(messages, cursor, size + 1), (), size=size)
        seen += cut.messages
        assert cut.has_more == (cut.next_cursor is not None) == (len(seen) < count)
        if cut.next_cursor is None:
            break
        assert len(cut.messages) == size
        cursor = cut.next_cursor
    assert seen == messages[::-1]


@given(counts, sizes, st.integers(0, 60))
def test_pages_forward_hold_everything_once(count: int, size: int, after_id: int) -> None:
    """Pages chained by their newest message hold later messages once; `has_more` is true until the end."""
    messages = history(count)
    cursor, seen = after_id, list[Message]()
    while True:
        cut = page(
            older(messages, cursor + 1, size + 1), newer(messages, cursor, size + 1), size=size, forward=True
        )
        ids = [message.id for message in cut.messages]
        assert ids == sorted(ids, reverse=True)
        seen += reversed(cut.messages)
        if not cut.has_more:
            break
        assert len(cut.messages) == size
        cursor = cut.messages[0].id
    assert seen == [message for message in messages if message.id > after_id]


@given(counts, sizes, st.integers(-1, 60))
def test_a_page_around_a_message(count: int, size: int, around_id: int) -> None:
    """A page around a message holds it, has no gap, is full if possible, and continues below."""
    messages = history(count)
    cut = page(older(messages, around_id + 1, size + 1), newer(messages, around_id, size + 1), size=size)
    shown = list(reversed(cut.messages))
    assert len(shown) <= size
    if shown:
        start = messages.index(shown[0])
        assert shown == messages[start : start + len(shown)]
        assert cut.has_more == (cut.next_cursor is not None) == (start > 0)
        assert cut.next_cursor in {None, shown[0].id}
    if any(message.id == around_id for message in messages):
        assert around_id in [message.id for message in shown]
        above = sum(message.id > around_id for message in shown)
        below = sum(message.id <= around_id for message in messages)
        assert above == min(count - below, max(size // 2, size - below))


def test_an_empty_page() -> None:
    """A page without messages has no further page."""
    assert page((), (), size=5) == page((), (), size=5, forward=True) == Page((), False, None)


# --- what a member may not read -----------------------------------------------------------------------------


def later_member(chat: Chat, user_id: UserId, role: Role = Role.MEMBER) -> Chat:
    """The chat with a member who joined it with its last number, and reads it from there on."""
    member = Member(user_id, role, NOW, Range(chat.sequence, chat.sequence))
    return evolve(chat, is_group=True, members=(*chat.members, member))


def audience_of(decision: Decision[Any]) -> tuple[UserId, ...]:
    *_, delivery = decision.effects
    assert isinstance(delivery, Deliver)
    return delivery.audience


def test_an_event_about_a_hidden_message_is_not_delivered() -> None:
    """Who may not read a message learns of none of its changes, and hears of new messages."""
    chat = later_member(CHAT, STRANGER)
    for decision in (edit(EditMessage(MESSAGE.id, "new"), chat=chat), delete(chat=chat)):
        assert audience_of(decision) == (ALICE, BOB)
    assert audience_of(send(chat=chat)) == (ALICE, BOB, STRANGER)


def test_a_hidden_message_cannot_be_named() -> None:
    """For who may not read it, a message does not exist: it cannot be edited, deleted or replied to."""
    chat = later_member(evolve(CHAT, members=CHAT.members[1:]), ALICE, Role.ADMIN)
    with pytest.raises(MessageNotFound):
        edit(EditMessage(MESSAGE.id, "new"), chat=chat)
    with pytest.raises(MessageNotFound):
        delete(chat=chat)
    reply = evolve(HELLO, reply_to_id=MESSAGE.id)
    with pytest.raises(Invalid) as refused:
        send(reply, chat=chat, replied_to=MESSAGE)
    assert wrong(refused) == [("reply_to_id", "message_not_found")]
    assert send(reply, chat=chat, author=BOB, replied_to=MESSAGE).result.reply_to_id == MESSAGE.id


@given(st.data(), values.chats())
def test_the_audience_is_those_who_may_see(data: st.DataObject, chat: Chat) -> None:
    """A new message, and a change of any message, reach exactly the members who may see them."""
    number = chat.sequence + 1
    for is_new in (True, False):
        message = data.draw(values.messages(chat=chat, is_new=is_new))
        event = MessageCreated(message) if is_new else MessageUpdated(message)
        *_, delivery = announce(chat, event, now=NOW)
        assert isinstance(delivery, Deliver)
        assert delivery.audience == tuple(
            member.user_id for member in chat.members if may_see(member.range, number, message.sequence)
        )

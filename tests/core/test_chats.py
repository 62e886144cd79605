"""Chats: the one direct chat of two people, and groups."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.chats import create_group, latest_first, open_direct_chat, readable, view
from messaging_core.commands import CreateGroup, OpenDirectChat
from messaging_core.effects import AppendEvent, Decision, Deliver, StoreChat
from messaging_core.errors import ChatNotFound, DirectChatWithSelf, Invalid, NotAParticipant, UserNotFound
from messaging_core.events import THE_CHAT, ChatCreated, LogEntry
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Chat, ChatView, Member, Role, User
from messaging_core.privacy import Privacy, shown
from messaging_core.testing import strategies as values

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LIMITS = Limits()
ALICE, BOB, CAROL = (
    User(UserId(number), f"{name}@test.com", name.title(), name, None, NOW)
    for number, name in enumerate(("alice", "bob", "carol"), 1)
)


def direct(actor: User, other: User | None, existing: Chat | None = None) -> Decision[Chat]:
    return open_direct_chat(
        OpenDirectChat(UserId(99) if other is None else other.id),
        actor=actor.id,
        other=other,
        existing=existing,
        chat_id=ChatId(5),
        now=NOW,
    )


def group(*member_ids: int, title: str = "A group", known: set[int] | None = None) -> Decision[Chat]:
    ids = tuple(UserId(number) for number in member_ids)
    return create_group(
        CreateGroup(title, ids),
        actor=ALICE.id,
        known=set(ids) if known is None else {UserId(number) for number in known},
        chat_id=ChatId(5),
        now=NOW,
        limits=LIMITS,
    )


# --- direct chats -------------------------------------------------------------------------------------------


def test_a_direct_chat_is_made() -> None:
    """Two people who have no chat get one, titled, both plain members; it is stored, logged, then told."""
    decision = direct(ALICE, BOB)
    members = (Member(ALICE.id, Role.MEMBER, NOW), Member(BOB.id, Role.MEMBER, NOW))
    chat = Chat(ChatId(5), "Direct Message", False, NOW, members, 1, NOW, None)
    entry = LogEntry(ChatId(5), 1, "chat.created", THE_CHAT, NOW)
    assert decision == Decision(
        chat,
        (StoreChat(chat), AppendEvent(entry), Deliver(ChatCreated(chat), (ALICE.id, BOB.id), entry)),
    )


def test_a_direct_chat_is_made_once() -> None:
    """The chat that two people have is answered, from either side, and nothing else happens."""
    chat = direct(ALICE, BOB).result
    assert direct(ALICE, BOB, chat) == direct(BOB, ALICE, chat) == Decision(chat)


def test_a_direct_chat_takes_two() -> None:
    """Nobody chats with themselves, or with somebody who does not exist."""
    with pytest.raises(DirectChatWithSelf):
        direct(ALICE, ALICE)
    with pytest.raises(UserNotFound):
        direct(ALICE, None)


# --- groups -------------------------------------------------------------------------------------------------


def test_a_group_is_made() -> None:
    """A group's first member is its owner, the others follow in the order in which they were named."""
    decision = group(3, 2, title="  Título ")
    members = (
        Member(ALICE.id, Role.OWNER, NOW),
        Member(CAROL.id, Role.MEMBER, NOW),
        Member(BOB.id, Role.MEMBER, NOW),
    )
    chat = Chat(ChatId(5), "Título", True, NOW, members, 1, NOW, None)
    entry = LogEntry(ChatId(5), 1, "chat.created", THE_CHAT, NOW)
    assert decision == Decision(
        chat, (StoreChat(chat), AppendEvent(entry), Deliver(ChatCreated(chat), chat.member_ids, entry))
    )


@given(st.lists(st.integers(1, 6), max_size=12))
def test_people_are_counted_once(member_ids: list[int]) -> None:
    """Whoever is named twice, and the actor, is one member."""
    chat = group(*member_ids).result
    assert chat.member_ids[0] == ALICE.id
    assert sorted(chat.member_ids) == sorted({1, *member_ids})
    assert [member.role for member in chat.members] == [Role.OWNER] + [Role.MEMBER] * (len(chat.members) - 1)


def test_a_group_of_one() -> None:
    """A group may begin with its owner alone."""
    assert group().result.member_ids == (ALICE.id,)


def test_people_who_do_not_exist() -> None:
    """Each unknown person is named by position."""
    with pytest.raises(Invalid) as refused:
        group(2, 77, 3, 78, known={2, 3})
    assert [(error.field, error.code) for error in refused.value.errors] == [
        ("member_ids.1", "user_not_found"),
        ("member_ids.3", "user_not_found"),
    ]


def test_a_group_is_bounded() -> None:
    """The owner counts, whether named or not; people named twice count once."""
    few = Limits(group_members=3)
    command = CreateGroup("A group", tuple(map(UserId, (1, 2, 3))))
    known = {UserId(number) for number in (1, 2, 3, 4)}
    made = create_group(command, actor=ALICE.id, known=known, chat_id=ChatId(5), now=NOW, limits=few)
    assert len(made.result.members) == 3
    with pytest.raises(Invalid) as refused:
        create_group(
            CreateGroup("A group", tuple(map(UserId, (2, 3, 4)))),
            actor=ALICE.id,
            known=known,
            chat_id=ChatId(5),
            now=NOW,
            limits=few,
        )
    assert [(error.field, error.code) for error in refused.value.errors] == [("member_ids", "too_long")]


@pytest.mark.parametrize("title", ["", "   ", "t" * 129, "a\nb", "\x00"])
def test_titles_are_bound(title: str) -> None:
    """A group has a title of one line, up to 128 characters."""
    with pytest.raises(Invalid) as refused:
        group(title=title)
    assert [error.field for error in refused.value.errors] == ["title"]


# --- reading ------------------------------------------------------------------------------------------------


def test_a_chat_is_for_its_members() -> None:
    """No chat is not found; a chat of others is forbidden."""
    chat = direct(ALICE, BOB).result
    assert readable(chat, BOB.id) is chat
    with pytest.raises(NotAParticipant):
        readable(chat, CAROL.id)
    with pytest.raises(ChatNotFound):
        readable(None, ALICE.id)


def test_a_chat_is_shown_with_its_people() -> None:
    """The view holds the participants as users, in the order in which they joined."""
    chat = direct(BOB, ALICE).result
    people = {
        user.id: shown(user, viewer=ALICE.id, shares_chat=True, privacy=Privacy())
        for user in (ALICE, BOB, CAROL)
    }
    participants = (people[BOB.id], people[ALICE.id])
    assert view(chat, people) == ChatView(ChatId(5), "Direct Message", False, NOW, participants)


@given(st.lists(values.chats()))
def test_latest_first(chats: list[Chat]) -> None:
    """Chats come by last activity; within a second by last message, then by id: a total order."""
    ordered = latest_first(chats)
    assert sorted(map(repr, ordered)) == sorted(map(repr, chats))
    keys = [(chat.active_at, chat.last_message_id or 0, chat.id) for chat in ordered]
    assert keys == sorted(keys, reverse=True)


def test_latest_first_within_a_second() -> None:
    """Of two chats of one second, the one with the later message comes first."""
    chat = direct(ALICE, BOB).result
    empty = evolve(chat, id=ChatId(9))
    older, newer = (evolve(chat, id=ChatId(8 - n), last_message_id=MessageId(n)) for n in (1, 2))
    later = evolve(chat, id=ChatId(1), active_at=NOW + timedelta(seconds=1))
    assert latest_first([empty, older, newer, later]) == [later, newer, older, empty]
    assert latest_first([later, newer, older, empty]) == [later, newer, older, empty]

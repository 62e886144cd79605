"""Chats: the one direct chat of two people, and groups."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.chats import (
    CHATS_AT_ONCE,
    PARTICIPANTS_AT_ONCE,
    Listing,
    check_listing,
    create_group,
    cursor,
    excerpt,
    head,
    latest,
    listing,
    open_direct_chat,
    readable,
    slices,
    sort_key,
)
from messaging_core.commands import CreateGroup, ListChats, OpenDirectChat
from messaging_core.effects import AppendEvent, Decision, Deliver, StoreChat
from messaging_core.errors import (
    ChatNotFound,
    DirectChatWithSelf,
    Invalid,
    NotAParticipant,
    TooManyChats,
    UserNotFound,
)
from messaging_core.events import THE_CHAT, ChatCreated, LogEntry
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Chat, Excerpt, History, Member, Role, User
from messaging_core.testing import strategies as values

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LIMITS = Limits()
ALICE, BOB, CAROL = (
    User(UserId(number), f"{name}@test.com", name.title(), name, None, NOW)
    for number, name in enumerate(("alice", "bob", "carol"), 1)
)


def direct(
    actor: User, other: User | None, existing: Chat | None = None, *, created_before: int = 0
) -> Decision[Chat]:
    return open_direct_chat(
        OpenDirectChat(UserId(99) if other is None else other.id),
        actor=actor.id,
        other=other,
        existing=existing,
        created_before=created_before,
        chat_id=ChatId(5),
        now=NOW,
        limits=LIMITS,
    )


def group(
    *member_ids: int, title: str = "A group", known: set[int] | None = None, created_before: int = 0
) -> Decision[Chat]:
    ids = tuple(UserId(number) for number in member_ids)
    return create_group(
        CreateGroup(title, ids),
        actor=ALICE.id,
        known=set(ids) if known is None else {UserId(number) for number in known},
        created_before=created_before,
        chat_id=ChatId(5),
        now=NOW,
        limits=LIMITS,
    )


# --- direct chats -------------------------------------------------------------------------------------------


def test_creating_a_direct_chat() -> None:
    """Two users without a chat get a titled one, both as members; it is stored, logged, then delivered."""
    decision = direct(ALICE, BOB)
    members = (Member(ALICE.id, Role.MEMBER, NOW), Member(BOB.id, Role.MEMBER, NOW))
    chat = Chat(ChatId(5), "Direct Message", False, NOW, members, 1, NOW, None)
    entry = LogEntry(ChatId(5), 1, "chat.created", THE_CHAT, NOW)
    assert decision == Decision(
        chat,
        (StoreChat(chat), AppendEvent(entry), Deliver(ChatCreated(chat), (ALICE.id, BOB.id), entry)),
    )


def test_a_direct_chat_is_created_once() -> None:
    """Either user gets the existing chat of the two, without effects."""
    chat = direct(ALICE, BOB).result
    assert direct(ALICE, BOB, chat) == direct(BOB, ALICE, chat) == Decision(chat)


def test_a_direct_chat_has_two_members() -> None:
    """A direct chat with oneself, or with a user who does not exist, is refused."""
    with pytest.raises(DirectChatWithSelf):
        direct(ALICE, ALICE)
    with pytest.raises(UserNotFound):
        direct(ALICE, None)


# --- groups -------------------------------------------------------------------------------------------------


def test_creating_a_group() -> None:
    """A group's first member is its owner; the others follow in the command's order."""
    decision = group(3, 2, title="  Título ")
    members = (
        Member(ALICE.id, Role.OWNER, NOW),
        Member(CAROL.id, Role.MEMBER, NOW),
        Member(BOB.id, Role.MEMBER, NOW),
    )
    chat = Chat(ChatId(5), "Título", True, NOW, members, 1, NOW, None, History.JOINED)
    entry = LogEntry(ChatId(5), 1, "chat.created", THE_CHAT, NOW)
    assert decision == Decision(
        chat, (StoreChat(chat), AppendEvent(entry), Deliver(ChatCreated(chat), chat.member_ids, entry))
    )


@given(st.lists(st.integers(1, 6), max_size=12))
def test_a_member_counts_once(member_ids: list[int]) -> None:
    """A user who is named twice, and the actor, is one member."""
    chat = group(*member_ids).result
    assert chat.member_ids[0] == ALICE.id
    assert sorted(chat.member_ids) == sorted({1, *member_ids})
    assert [member.role for member in chat.members] == [Role.OWNER] + [Role.MEMBER] * (len(chat.members) - 1)


def test_a_group_of_one() -> None:
    """A group may have its owner only."""
    assert group().result.member_ids == (ALICE.id,)


def test_unknown_members_are_refused() -> None:
    """Each unknown user is named by position."""
    with pytest.raises(Invalid) as refused:
        group(2, 77, 3, 78, known={2, 3})
    assert [(error.field, error.code) for error in refused.value.errors] == [
        ("member_ids.1", "user_not_found"),
        ("member_ids.3", "user_not_found"),
    ]


def test_a_group_is_bounded() -> None:
    """The owner counts, named or not; users who are named twice count once."""
    few = Limits(group_members=3)
    command = CreateGroup("A group", tuple(map(UserId, (1, 2, 3))))
    known = {UserId(number) for number in (1, 2, 3, 4)}
    made = create_group(
        command, actor=ALICE.id, known=known, created_before=0, chat_id=ChatId(5), now=NOW, limits=few
    )
    assert len(made.result.members) == 3
    with pytest.raises(Invalid) as refused:
        create_group(
            CreateGroup("A group", tuple(map(UserId, (2, 3, 4)))),
            actor=ALICE.id,
            known=known,
            created_before=0,
            chat_id=ChatId(5),
            now=NOW,
            limits=few,
        )
    assert [(error.field, error.code) for error in refused.value.errors] == [("member_ids", "too_long")]


def test_a_user_creates_a_bounded_number_of_chats() -> None:
    """A user with `chats_per_user` created chats cannot create another, but can open an existing one."""
    most = LIMITS.chats_per_user
    chat = direct(ALICE, BOB, created_before=most - 1).result
    group(2, created_before=most - 1)
    assert direct(ALICE, BOB, chat, created_before=most).result is chat
    for make in (partial(direct, ALICE, CAROL), partial(group, 2)):
        with pytest.raises(TooManyChats, match=f"created {most} chats"):
            make(created_before=most)


@pytest.mark.parametrize("title", ["", "   ", "t" * 129, "a\nb", "\x00"])
def test_titles_are_bounded(title: str) -> None:
    """A group has a title of one line, up to 128 characters."""
    with pytest.raises(Invalid) as refused:
        group(title=title)
    assert [error.field for error in refused.value.errors] == ["title"]


# --- reading ------------------------------------------------------------------------------------------------


def test_a_chat_is_for_its_members() -> None:
    """A missing chat is not found; a chat of others is forbidden."""
    chat = direct(ALICE, BOB).result
    assert readable(chat, BOB.id) is chat
    with pytest.raises(NotAParticipant):
        readable(chat, CAROL.id)
    with pytest.raises(ChatNotFound):
        readable(None, ALICE.id)


@given(values.chats(), st.data())
def test_the_members_of_an_excerpt(chat: Chat, data: st.DataObject) -> None:
    """An excerpt has the viewer first, then the owner, admins, and others, each in the order of joining."""
    roles = data.draw(st.lists(st.sampled_from(Role), min_size=len(chat.members), max_size=len(chat.members)))
    members = tuple(evolve(m, role=role) for m, role in zip(chat.members, roles, strict=True))
    chat = evolve(chat, members=members)
    viewer = data.draw(st.sampled_from(chat.member_ids))
    count = data.draw(st.integers(1, len(members) + 2))
    shown = excerpt(chat, viewer, count)
    if len(members) <= count:
        assert shown is chat
        return
    assert head(shown) == head(chat)
    assert head(chat) == Excerpt(
        chat.id,
        chat.title,
        chat.is_group,
        chat.created_at,
        chat.active_at,
        chat.last_message_id,
        len(members),
        chat.sequence,
        chat.history,
        chat.avatar_url,
        chat.message_count,
    )
    assert isinstance(shown, Excerpt)
    assert shown.viewer == chat.member(viewer)

    def rank(member: Member) -> tuple[bool, bool, bool, int]:
        others = (member.user_id != viewer, member.role is not Role.OWNER, member.role is Role.MEMBER)
        return (*others, members.index(member))

    assert shown.member_ids == tuple(m.user_id for m in sorted(members, key=rank)[:count])


# --- lists --------------------------------------------------------------------------------------------------

heads = st.lists(
    st.builds(
        Excerpt,
        st.integers(1, 1000).map(ChatId),
        st.just("Title"),
        st.just(True),
        st.just(NOW),
        st.sampled_from([NOW, NOW + timedelta(seconds=1), NOW + timedelta(days=1)]),
        st.none() | st.integers(1, 3).map(MessageId),
        st.sampled_from([1, 2, 10, 11, 99, 100, 101, 1000]),
    ),
    max_size=40,
    unique_by=lambda chat: chat.id,
)
FEW = Limits(chats_listed=12, participants_listed_in_all=150, chats_page=5, chats_page_max=7)


def listed(found: Sequence[Chat | Excerpt], command: ListChats, limits: Limits = FEW) -> Listing:
    return listing(found, command, check_listing(command, limits), limits=limits)


@given(heads)
def test_a_list_is_bounded(found: list[Excerpt]) -> None:
    """The latest chats come first, each with up to 100 participants while the total allows, at least 10."""
    shown = listed(found, ListChats())
    expected = sorted(found, key=sort_key, reverse=True)[: FEW.chats_listed]
    assert list(shown.sizes) == [each.id for each in expected]
    assert shown.next_cursor is None
    assert sum(shown.sizes.values()) <= FEW.participants_listed_in_all
    short = False
    for each in expected:
        most, least = min(each.member_count, FEW.participants_listed), min(each.member_count, 10)
        short = short or shown.sizes[each.id] < most
        assert shown.sizes[each.id] == (least if short else most)
    if short:
        lacking = (min(e.member_count, FEW.participants_listed) - shown.sizes[e.id] for e in expected)
        first = next(people for people in lacking if people)
        assert sum(shown.sizes.values()) + first > FEW.participants_listed_in_all, (
            "more participants would have fitted"
        )


@given(heads, st.none() | st.integers(1, 7), st.data())
def test_pages_show_every_chat_once(found: list[Excerpt], limit: int | None, data: st.DataObject) -> None:
    """Pages hold every chat once, in order; a chat that becomes active meanwhile is not on later pages."""
    pages: list[list[ChatId]] = []
    by_id = {each.id: each for each in found}
    moved: set[ChatId] = set()
    command = ListChats(limit or FEW.chats_page)
    while True:
        shown = listed(list(by_id.values()), command)
        assert all(size == min(by_id[id_].member_count, 100) for id_, size in shown.sizes.items())
        pages.append(list(shown.sizes))
        if shown.next_cursor is None:
            break
        assert len(pages[-1]) == (limit or FEW.chats_page)
        command = ListChats(limit, shown.next_cursor)
        for id_ in data.draw(st.lists(st.sampled_from(sorted(by_id)), max_size=3)):
            moved.add(id_)
            by_id[id_] = by_id[id_]._replace(active_at=NOW + timedelta(days=2))
    ids = [id_ for page in pages for id_ in page]
    still = [each.id for each in sorted(found, key=sort_key, reverse=True) if each.id not in moved]
    assert [id_ for id_ in ids if id_ not in moved] == still
    assert len(set(ids)) == len(ids)


@given(heads, st.sampled_from([ListChats(), ListChats(3)]))
def test_chats_can_be_listed_in_parts(found: list[Excerpt], command: ListChats) -> None:
    """`latest` of any parts yields the same list as all chats together."""
    parts: list[Chat | Excerpt] = []
    for start in range(0, len(found), 7):
        parts = latest([*parts, *found[start : start + 7]], command, None, limits=FEW)
    assert len(parts) <= 13
    assert listed(parts, command) == listed(found, command)


@pytest.mark.parametrize(
    "text",
    ["", "x", "a.b.c", "MS4yLjM=", "MS4yLjN", "MS4yLj", "MS4yLjMuNA", "MSAuMi4z", "é", "\ud800", "MS4yLjM\n"]
    + [urlsafe_b64encode(text.encode()).decode().rstrip("=") for text in ("1.2", "1.2.x", f"{10**30}.2.3")],
)
def test_a_malformed_cursor_is_refused(text: str) -> None:
    """Any text that is no `next_cursor` is refused with the field's name."""
    with pytest.raises(Invalid) as refused:
        check_listing(ListChats(cursor=text), LIMITS)
    assert [(error.field, error.code) for error in refused.value.errors] == [("cursor", "malformed")]


@given(heads.filter(bool))
def test_a_cursor_is_a_position(found: list[Excerpt]) -> None:
    """A cursor encodes the position of a chat, in characters that a query needs not escape."""
    for each in found:
        text = cursor(sort_key(each))
        assert re.fullmatch("[A-Za-z0-9_-]+", text)
        assert check_listing(ListChats(cursor=text), LIMITS) == sort_key(each)


def test_cursors_of_any_length_are_read() -> None:
    """Whatever the number of characters and the last of them."""
    for digits in range(16):
        for number in range(12):
            at = (NOW, number, ChatId(10**digits + number))
            assert check_listing(ListChats(cursor=cursor(at)), LIMITS) == at


def test_a_chat_without_messages_comes_after_one_with_a_message() -> None:
    """Of two chats that were active in the same second, the one with a message is later."""
    assert sort_key(excerpt_with(None, 9)) == (NOW, 0, 9) < sort_key(excerpt_with(1, 2)) == (NOW, 1, 2)


def excerpt_with(last_message_id: int | None, chat_id: int) -> Excerpt:
    message_id = None if last_message_id is None else MessageId(last_message_id)
    return Excerpt(ChatId(chat_id), "", True, NOW, NOW, message_id, 2, 1, History.ALL, None, 0)


@pytest.mark.parametrize("limit", [0, 201])
def test_a_page_is_bounded(limit: int) -> None:
    """A page has 1 to 200 chats."""
    with pytest.raises(Invalid, match="limit"):
        check_listing(ListChats(limit), LIMITS)


@given(st.lists(st.integers(1, 1000), max_size=300))
def test_parts_are_bounded(sizes: list[int]) -> None:
    """A part of a list holds at most 50 chats and 1,000 participants; the parts together are the list."""
    whole = {ChatId(number): size for number, size in enumerate(sizes)}
    found = slices(whole)
    assert [item for part in found for item in part.items()] == list(whole.items())
    for part in found:
        assert bool(sizes) <= len(part) <= CHATS_AT_ONCE
        assert sum(part.values()) <= PARTICIPANTS_AT_ONCE
    for one, other in pairwise(found):
        following = next(iter(other.values()))
        assert len(one) == CHATS_AT_ONCE or sum(one.values()) + following > PARTICIPANTS_AT_ONCE

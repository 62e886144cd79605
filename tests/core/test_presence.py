"""Who types is announced to the others of a small chat, and soon forgotten."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.commands import ReportTyping
from messaging_core.effects import DeliverEphemeral
from messaging_core.events import Typing
from messaging_core.ids import ChatId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Chat, Member, Role
from messaging_core.presence import Typists, others_who_type, report_typing

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
ALICE, BOB, CAROL = UserId(1), UserId(2), UserId(3)
LIMITS = Limits(typing_members=3)


def chat_of(*people: UserId) -> Chat:
    members = tuple(Member(user_id, Role.MEMBER, NOW) for user_id in people)
    return Chat(ChatId(1), "Chat", True, NOW, members, 0, NOW, None)


@pytest.mark.parametrize("is_typing", [True, False])
def test_typing_is_announced_to_the_others(is_typing: bool) -> None:
    """Everybody else in the chat receives it; the decision stores nothing."""
    command = ReportTyping(ChatId(1), is_typing)
    decision = report_typing(command, chat_of(BOB, ALICE, CAROL), actor=ALICE, limits=LIMITS)
    assert decision.effects == (DeliverEphemeral(Typing(ChatId(1), ALICE, is_typing), (BOB, CAROL)),)


def test_typing_in_a_large_chat_is_announced_to_nobody() -> None:
    """With more people than `typing_members` nothing is announced, and nothing refused."""
    chat = chat_of(ALICE, BOB, CAROL, UserId(4))
    assert report_typing(ReportTyping(ChatId(1), True), chat, actor=ALICE, limits=LIMITS).effects == ()


def test_only_other_members_are_shown() -> None:
    """Neither the caller nor somebody who has left meanwhile is among those who type."""
    typists = (CAROL, ALICE, BOB)
    assert others_who_type(chat_of(ALICE, BOB), typists, actor=ALICE) == (BOB,)


reports = st.lists(
    st.tuples(
        st.integers(0, 6),  # seconds since the report before
        st.builds(Typing, st.integers(1, 2).map(ChatId), st.integers(1, 3).map(UserId), st.booleans()),
    ),
    max_size=40,
)


@given(reports, st.integers(0, 12))
def test_a_report_holds_for_some_seconds(reports: list[tuple[int, Typing]], later: int) -> None:
    """Who said so last, less than `typing_time` ago, types; of one chat only, in the order of the reports."""
    limits = evolve(LIMITS, typing_time=timedelta(seconds=10))
    typists = Typists(limits)
    now = NOW
    last: dict[tuple[ChatId, UserId], tuple[datetime, bool]] = {}
    for pause, event in reports:
        now += timedelta(seconds=pause)
        typists.note(event, now)
        last.pop((event.chat_id, event.user_id), None)
        last[event.chat_id, event.user_id] = (now, event.is_typing)
    now += timedelta(seconds=later)
    for chat_id in (ChatId(1), ChatId(2)):
        assert typists.of_chat(chat_id, now) == tuple(
            user_id
            for (in_chat, user_id), (at, is_typing) in last.items()
            if in_chat == chat_id and is_typing and now - at < limits.typing_time
        )
    typists.of_chat(ChatId(1), now + limits.typing_time)
    assert (typists._chats, len(typists._reports)) == ({}, 0)

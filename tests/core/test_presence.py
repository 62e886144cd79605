"""Who is there, by leases and sightings; and who types, which is soon forgotten."""

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core import presence
from messaging_core.commands import ReportTyping
from messaging_core.effects import (
    DeliverEphemeral,
    EndPresence,
    HoldPresence,
    StoreLease,
    StoreSighting,
)
from messaging_core.events import Typing
from messaging_core.ids import ChatId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Chat, Member, Presence, PresenceStatus, Role, Sighting
from messaging_core.presence import (
    LEASE,
    Attendance,
    Changes,
    Typists,
    heartbeat,
    others_who_type,
    presence_of,
    report_typing,
    update_lease,
)

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
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


# --- who is there -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sighting", "status", "last_seen"),
    [
        (None, "offline", None),
        (Sighting(NOW - MINUTE, NOW + SECOND), "online", NOW),
        (Sighting(NOW - MINUTE, NOW), "offline", NOW - MINUTE),
    ],
)
def test_presence(sighting: Sighting | None, status: str, last_seen: datetime | None) -> None:
    """Somebody is online until the end of their sighting, and was last seen at its time."""
    assert presence_of(ALICE, sighting, NOW) == Presence(ALICE, PresenceStatus(status), last_seen)


def test_a_heartbeat_lasts_some_minutes() -> None:
    """The first one is stored, and each that prolongs it by more than a tenth; the others cost nothing."""
    limits = Limits(heartbeat_time=5 * MINUTE)
    seen = Sighting(NOW, NOW + 5 * MINUTE)
    assert heartbeat(ALICE, None, now=NOW, limits=limits).effects == (StoreSighting(ALICE, seen),)
    assert heartbeat(ALICE, seen, now=NOW + 29 * SECOND, limits=limits).effects == ()
    assert heartbeat(ALICE, seen, now=NOW + 30 * SECOND, limits=limits).effects != ()


def test_a_lease_is_updated_by_what_has_changed() -> None:
    """A new lease is stored first; who has left counts as being there for the grace."""
    changes = Changes(came=(BOB, ALICE), left=(CAROL,))
    decided = update_lease("a", changes, is_new=True, now=NOW, limits=Limits(presence_grace=MINUTE))
    assert decided.effects == (
        StoreLease("a", NOW + LEASE),
        HoldPresence("a", ALICE),
        HoldPresence("a", BOB),
        EndPresence("a", CAROL),
        StoreSighting(CAROL, Sighting(NOW, NOW + MINUTE)),
    )
    again = update_lease("a", Changes(), is_new=False, now=NOW, limits=Limits())
    assert again.effects == ()


steps = st.lists(st.tuples(st.sampled_from(["come", "go", "store", "lose"]), st.integers(1, 4)), max_size=60)


@given(steps, st.integers(1, 3))
def test_the_storage_comes_to_hold_who_is_present(steps: list[tuple[str, int]], at_once: int) -> None:
    """After any arrivals, departures and lost leases, stored changes make the storage hold who is there.

    Somebody who comes and leaves between two stores costs nothing.
    """
    attendance, present, held = Attendance(), set[UserId](), set[UserId]()

    def store() -> None:
        changes = attendance.changes()
        assert not held & set(changes.came)
        assert held >= set(changes.left)
        assert len(changes.came) + len(changes.left) <= at_once
        held.update(changes.came)
        held.difference_update(changes.left)
        attendance.stored(changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence, "CHANGES_AT_ONCE", at_once)
        for step, number in steps:
            user_id = UserId(number)
            match step:
                case "come":
                    attendance.come(user_id)
                    present.add(user_id)
                case "go":
                    attendance.go(user_id)
                    present.discard(user_id)
                case "store":
                    store()
                case _:
                    attendance.begin_anew()
                    held.clear()
            assert attendance.is_empty == (not present and not held)
        while attendance.has_changed:
            store()
        assert held == present

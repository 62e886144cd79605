"""System messages: one function renders them, from the names that people have now."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given

from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Message, MessageType, User
from messaging_core.system_messages import (
    chat_renamed,
    member_left,
    member_removed,
    members_added,
    named,
    owner_changed,
    rendered,
    shown,
)
from messaging_core.testing import strategies as values

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
ALICE, BOB, CAROL = UserId(1), UserId(2), UserId(3)
PEOPLE = {
    UserId(number): User(UserId(number), "", name, name.lower(), None, NOW)
    for number, name in enumerate(("Alice", "Bob", "Carol", "Dave"), 1)
}


def message(facts: Mapping[str, Any] | None) -> Message:
    return Message(
        MessageId(9), ChatId(5), None, MessageType.SYSTEM, None, facts, NOW, None, None, None, 4, 4
    )


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (members_added(ALICE, [BOB]), "Alice added Bob."),
        (members_added(ALICE, [BOB, CAROL]), "Alice added Bob and Carol."),
        (members_added(ALICE, [BOB, CAROL, UserId(4)]), "Alice added Bob, Carol and Dave."),
        (members_added(ALICE, range(2, 6)), "Alice added Bob, Carol, Dave and 1 other."),  # type: ignore[arg-type]
        (members_added(ALICE, range(2, 15)), "Alice added Bob, Carol, Dave and 10 others."),  # type: ignore[arg-type]
        (member_removed(ALICE, BOB), "Alice removed Bob."),
        (member_left(BOB), "Bob left."),
        (chat_renamed(ALICE, "Trip"), "Alice renamed the group to “Trip”."),
        (owner_changed(ALICE, BOB), "Alice made Bob an owner of the group."),
        (owner_changed(None, BOB), "Bob is now an owner of the group."),
        (member_removed(UserId(99), UserId(98)), "Somebody removed Somebody."),
        ({"event": "of a later version"}, "The group was changed."),
        (None, "The group was changed."),
    ],
)
def test_sentences(facts: Mapping[str, Any] | None, sentence: str) -> None:
    """A sentence names at most three people; who has no account any more is somebody."""
    written = rendered(message(facts), PEOPLE)
    assert written == evolve(message(facts), content=sentence)


def test_a_new_name_shows_in_old_messages() -> None:
    """The sentence has the name that the person has now."""
    renamed = {**PEOPLE, ALICE: evolve(PEOPLE[ALICE], display_name="Alisa")}
    assert rendered(message(member_left(ALICE)), renamed).content == "Alisa left."


def test_whose_names_are_looked_up() -> None:
    """The actor and the first three people; the others are counted."""
    assert named(members_added(ALICE, range(2, 15))) == {1, 2, 3, 4}  # type: ignore[arg-type]
    assert named(owner_changed(None, BOB)) == {BOB}
    assert named(None) == set()


@given(values.messages())
def test_other_messages_are_shown_as_they_are(sent: Message) -> None:
    """Nobody is looked up for a page without system messages; within one, only they are rendered."""
    looked_up: list[Collection[UserId]] = []

    def users(user_ids: Collection[UserId]) -> Mapping[UserId, User]:
        looked_up.append(user_ids)
        return PEOPLE

    assert rendered(sent, {}) is sent
    assert shown((page := (sent, sent)), users) is page
    assert looked_up == []
    left = message(member_left(BOB))
    assert list(shown((sent, left), users)) == [sent, rendered(left, PEOPLE)]
    assert looked_up == [{BOB}]

"""Groups: changing them, adding and removing people, leaving, and what the server writes about it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.commands import AddMembers, ChangeRole, ListMembers, RemoveMember, UpdateGroup
from messaging_core.cursors import encode_cursor
from messaging_core.effects import Decision, Deliver, DeliveryEffect, StoreMessage
from messaging_core.errors import (
    AlreadyAMember,
    ChatNotFound,
    Invalid,
    MemberNotFound,
    NotAGroup,
    NotAParticipant,
)
from messaging_core.events import (
    ChatDeleted,
    ChatUpdated,
    MemberAdded,
    MemberRemoved,
    MemberUpdated,
    MessageCreated,
)
from messaging_core.groups import (
    add_members,
    change_role,
    check_members_page,
    concerned,
    may_delete,
    members_page,
    named_in,
    remove_member,
    update_group,
)
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Chat, History, Member, Role, User
from messaging_core.positions import Range
from messaging_core.testing import strategies as values

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LIMITS = Limits()
ALICE, BOB, CAROL, DAVE, EVE = (UserId(number) for number in range(1, 6))
NAMES = dict(zip((ALICE, BOB, CAROL, DAVE, EVE), ("Alice", "Bob", "Carol", "Dave", "Eve"), strict=True))
PEOPLE = {id_: User(id_, f"{name}@test.com", name, name.lower(), None, NOW) for id_, name in NAMES.items()}
MEMBERS = (
    Member(ALICE, Role.OWNER, NOW),
    Member(BOB, Role.MEMBER, NOW),
    Member(CAROL, Role.ADMIN, NOW, Range(3, 1)),
)
CHAT = Chat(ChatId(5), "A group", True, NOW, MEMBERS, 6, NOW, None, History.JOINED)
DIRECT = Chat(ChatId(6), "Direct Message", False, NOW, MEMBERS[:2], 1, NOW, None)
IDS = (MessageId(9), MessageId(10))


def update(command: UpdateGroup, chat: Chat | None = CHAT, actor: UserId = ALICE) -> Decision[Chat]:
    return update_group(chat, command, actor=actor, people=PEOPLE, message_id=IDS[0], now=NOW, limits=LIMITS)


def add(
    *user_ids: UserId, chat: Chat | None = CHAT, people: dict[UserId, User] = PEOPLE, limits: Limits = LIMITS
) -> Decision[Chat]:
    command = AddMembers(CHAT.id, user_ids=user_ids)
    return add_members(chat, command, actor=ALICE, people=people, message_id=IDS[0], now=NOW, limits=limits)


def give(user_id: UserId, role: Role, chat: Chat | None = CHAT) -> Decision[Chat]:
    command = ChangeRole(CHAT.id, user_id, role)
    return change_role(chat, command, actor=ALICE, people=PEOPLE, message_id=IDS[0], now=NOW)


def remove(user_id: UserId, chat: Chat | None = CHAT, actor: UserId = ALICE) -> Decision[None]:
    command = RemoveMember(CHAT.id, user_id)
    return remove_member(chat, command, actor=actor, people=PEOPLE, message_ids=IDS, now=NOW)


def events_of(decision: Decision[Any]) -> list[tuple[int, str | type, tuple[UserId, ...]]]:
    """The number, the sentence or the kind, and the audience of each event."""
    return [
        (
            effect.entry.sequence,
            (effect.event.message.content or "")
            if isinstance(effect.event, MessageCreated)
            else type(effect.event),
            effect.audience,
        )
        for effect in decision.effects
        if isinstance(effect, Deliver)
    ]


def test_renaming() -> None:
    """The title changes, and the server writes who renamed the group, with the number after that."""
    decision = update(UpdateGroup(CHAT.id, "  Trip "))
    everybody = CHAT.member_ids
    assert events_of(decision) == [
        (7, ChatUpdated, everybody),
        (8, "Alice renamed the group to “Trip”.", everybody),
    ]
    renamed = evolve(CHAT, title="Trip", sequence=8, active_at=NOW, last_message_id=IDS[0], message_count=1)
    assert decision.result == renamed


def test_an_avatar_and_the_history_are_no_message() -> None:
    """One event says what has changed of them; only a new title is written about."""
    command = UpdateGroup(CHAT.id, avatar_url="https://example.com/a.png", history=History.ALL)
    decision = update(command)
    assert decision.result == evolve(
        CHAT, avatar_url="https://example.com/a.png", history=History.ALL, sequence=7
    )
    assert events_of(decision) == [(7, ChatUpdated, CHAT.member_ids)]
    removed = update(UpdateGroup(CHAT.id, avatar_url=None), decision.result).result
    assert removed.avatar_url is None


def test_nothing_to_change() -> None:
    """A change to what is so already has no effects; a change of nothing is refused."""
    assert update(UpdateGroup(CHAT.id, CHAT.title, None, CHAT.history)) == Decision(CHAT)
    with pytest.raises(Invalid, match="give title, avatar_url or history"):
        update(UpdateGroup(CHAT.id))
    with pytest.raises(Invalid, match="title"):
        update(UpdateGroup(CHAT.id, " "))


@pytest.mark.parametrize(("history", "reads_from"), [(History.JOINED, 7), (History.ALL, 1)])
def test_adding_people(history: History, reads_from: int) -> None:
    """They join together, read what the group's history says, and see the message about their joining."""
    decision = add(DAVE, EVE, DAVE, chat=evolve(CHAT, history=history))
    everybody = (*CHAT.member_ids, DAVE, EVE)
    assert events_of(decision) == [
        (7, MemberAdded, everybody),
        (8, MemberAdded, everybody),
        (9, "Alice added Dave and Eve.", everybody),
    ]
    joined = tuple(Member(id_, Role.MEMBER, NOW, Range(7, reads_from)) for id_ in (DAVE, EVE))
    assert decision.result.members == (*MEMBERS, *joined)


def test_all_or_nobody_is_added() -> None:
    """An unknown person, or one who is a member, is named by their field, and nobody is added."""
    with pytest.raises(Invalid) as unknown:
        add(DAVE, EVE, DAVE, people={ALICE: PEOPLE[ALICE], DAVE: PEOPLE[DAVE]})
    assert [(error.field, error.code) for error in unknown.value.errors] == [("user_ids.1", "user_not_found")]
    with pytest.raises(AlreadyAMember) as known:
        add(DAVE, BOB, CAROL)
    assert [error.field for error in known.value.errors] == ["user_ids.1", "user_ids.2"]
    for field, people, refusal in (("user_id", {}, Invalid), ("user_id", PEOPLE, AlreadyAMember)):
        command = AddMembers(CHAT.id, BOB)
        with pytest.raises(refusal) as one:
            add_members(CHAT, command, actor=ALICE, people=people, message_id=IDS[0], now=NOW, limits=LIMITS)
        assert [error.field for error in one.value.errors] == [field]


def test_a_group_is_bounded() -> None:
    """No more people are added than a group may have, or a request may name."""
    with pytest.raises(Invalid, match="makes a group of 5, at most 4"):
        add(DAVE, EVE, limits=Limits(group_members=4))
    with pytest.raises(Invalid, match="user_ids"):
        add(DAVE, EVE, limits=Limits(members_added=1))


@pytest.mark.parametrize(
    "command",
    [AddMembers(CHAT.id), AddMembers(CHAT.id, DAVE, (EVE,)), AddMembers(CHAT.id, user_ids=())],
    ids=["nobody", "both", "an empty list"],
)
def test_whom_to_add(command: AddMembers) -> None:
    """A request names one person, or a list of people that is not empty."""
    with pytest.raises(Invalid, match="user_id"):
        named_in(command, LIMITS)


def test_another_owner_is_written_about() -> None:
    """Who owns the group is what people expect to see; who administers it is an event alone."""
    assert events_of(give(BOB, Role.OWNER)) == [
        (7, MemberUpdated, CHAT.member_ids),
        (8, "Alice made Bob an owner of the group.", CHAT.member_ids),
    ]
    assert events_of(give(BOB, Role.ADMIN)) == [(7, MemberUpdated, CHAT.member_ids)]
    assert give(BOB, Role.MEMBER) == Decision(CHAT)


def test_removing() -> None:
    """The removed person's last event is their removal; the others read who removed them."""
    assert events_of(remove(BOB)) == [
        (7, MemberRemoved, CHAT.member_ids),
        (8, "Alice removed Bob.", (ALICE, CAROL)),
    ]


def test_leaving() -> None:
    """The person's last event is their removal; the others read that they left."""
    assert events_of(remove(BOB, actor=BOB)) == [
        (7, MemberRemoved, CHAT.member_ids),
        (8, "Bob left.", (ALICE, CAROL)),
    ]


@pytest.mark.parametrize(
    ("members", "heir"),
    [(MEMBERS, "Carol"), (MEMBERS[:2], "Bob"), ((MEMBERS[1], MEMBERS[0]), "Bob")],
    ids=["the first admin", "without an admin the first member", "the one who joined first"],
)
def test_the_last_owner_hands_over(members: tuple[Member, ...], heir: str) -> None:
    """The longest-standing admin, else member, is an owner before the last owner has left."""
    others = tuple(member.user_id for member in members if member.user_id != ALICE)
    decision = remove(ALICE, evolve(CHAT, members=members))
    everybody = tuple(member.user_id for member in members)
    assert events_of(decision) == [
        (7, MemberUpdated, everybody),
        (8, MemberRemoved, everybody),
        (9, "Alice left.", others),
        (10, f"{heir} is now an owner of the group.", others),
    ]


def test_an_owner_who_is_not_the_last_just_leaves() -> None:
    """Where another owner stays, nobody else becomes one."""
    chat = evolve(CHAT, members=(MEMBERS[0], evolve(MEMBERS[1], role=Role.OWNER)))
    assert [kind for _, kind, _ in events_of(remove(ALICE, chat))] == [MemberRemoved, "Alice left."]


def test_the_last_member_deletes_the_group() -> None:
    """There is nobody left to read anything."""
    chat = evolve(CHAT, members=MEMBERS[:1])
    assert events_of(remove(ALICE, chat)) == [(7, ChatDeleted, (ALICE,))]


def test_refusals() -> None:
    """A missing chat, one of others, a direct chat and a missing member are refused, in this order."""
    attempts = (
        lambda chat, actor: update(UpdateGroup(CHAT.id, "New"), chat, actor),
        may_delete,
        lambda chat, actor: remove(BOB, chat, actor),
        lambda chat, actor: add_members(
            chat,
            AddMembers(CHAT.id, EVE),
            actor=actor,
            people=PEOPLE,
            message_id=IDS[0],
            now=NOW,
            limits=LIMITS,
        ),
        lambda chat, actor: change_role(
            chat,
            ChangeRole(CHAT.id, BOB, Role.ADMIN),
            actor=actor,
            people=PEOPLE,
            message_id=IDS[0],
            now=NOW,
        ),
    )
    for attempt in attempts:
        for chat, actor, refusal in (
            (None, ALICE, ChatNotFound),
            (CHAT, EVE, NotAParticipant),
            (DIRECT, ALICE, NotAGroup),
        ):
            with pytest.raises(refusal):
                attempt(chat, actor)
    with pytest.raises(MemberNotFound):
        remove(EVE)
    with pytest.raises(MemberNotFound):
        give(EVE, Role.ADMIN)


def test_system_messages_are_stored_without_a_name() -> None:
    """Their facts are stored, and no content: names are looked up when they are shown."""
    stored = [effect.message for effect in remove(ALICE).effects if isinstance(effect, StoreMessage)]
    assert [(message.author_id, message.content) for message in stored] == [(None, None)] * 2
    assert [message.payload for message in stored] == [
        {"event": "member.left", "actor_id": ALICE, "user_ids": [ALICE]},
        {"event": "owner.changed", "actor_id": None, "user_ids": [CAROL]},
    ]


def test_storage_comes_before_delivery() -> None:
    """Several events of one decision are all stored before any is delivered."""
    for decision in (remove(ALICE), add(DAVE), update(UpdateGroup(CHAT.id, "New")), give(BOB, Role.OWNER)):
        kinds = [isinstance(effect, DeliveryEffect) for effect in decision.effects]
        assert kinds == sorted(kinds)


@pytest.mark.parametrize(
    ("command", "actor", "expected"),
    [
        (UpdateGroup(CHAT.id, "New"), ALICE, {ALICE}),
        (AddMembers(CHAT.id, DAVE), ALICE, {ALICE, DAVE}),
        (AddMembers(CHAT.id, user_ids=(DAVE, EVE)), ALICE, {ALICE, DAVE, EVE}),
        (ChangeRole(CHAT.id, BOB, Role.ADMIN), ALICE, {ALICE, BOB}),
        (RemoveMember(CHAT.id, BOB), ALICE, {ALICE, BOB}),
        (RemoveMember(CHAT.id, BOB), BOB, {BOB}),
        (RemoveMember(CHAT.id, ALICE), ALICE, {ALICE, CAROL}),
        (RemoveMember(CHAT.id, EVE), EVE, {EVE}),
    ],
)
def test_who_is_looked_up(
    command: UpdateGroup | AddMembers | ChangeRole | RemoveMember, actor: UserId, expected: set[UserId]
) -> None:
    """The people whom a command and the messages about it name, the next owner included."""
    assert concerned(CHAT, command, actor) == expected
    assert actor in concerned(None, command, actor)


# --- pages of members ---------------------------------------------------------------------------------------


@given(values.chats(is_group=True), st.integers(1, 4))
def test_pages_of_members_are_complete(chat: Chat, size: int) -> None:
    """The pages hold each member once, in the order in which they joined; the last has no cursor."""
    found: list[Member] = []
    cursor = None
    while True:
        command = ListMembers(chat.id, size, cursor)
        page, cursor = members_page(chat, command, check_members_page(command, LIMITS), LIMITS)
        found += page
        if cursor is None:
            break
        assert len(page) == size
    assert found == sorted(chat.members, key=lambda each: (each.range.first, each.user_id))


@pytest.mark.parametrize(
    "command",
    [
        ListMembers(CHAT.id, 0),
        ListMembers(CHAT.id, 201),
        ListMembers(CHAT.id, cursor="?"),
        ListMembers(CHAT.id, cursor=encode_cursor((1, 2, 3))),
        ListMembers(CHAT.id, cursor=encode_cursor((1, 2)) + "="),
    ],
)
def test_bad_pages_of_members(command: ListMembers) -> None:
    """A page has 1 to 200 members, and a cursor is one that the page above gave."""
    with pytest.raises(Invalid, match=r"limit|cursor"):
        check_members_page(command, LIMITS)

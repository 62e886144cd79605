"""The table of rights, walked cell by cell: what the decisions allow is what the table says."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pytest
from attrs import evolve

from messaging_core.commands import AddMembers, ChangeRole, EditMessage, RemoveMember, UpdateGroup
from messaging_core.errors import InsufficientRole, LastOwner, NotTheAuthor
from messaging_core.groups import add_members, change_role, may_delete, remove_member, update_group
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.limits import Limits
from messaging_core.messages import delete_message, edit_message
from messaging_core.models import Chat, History, Member, Message, MessageType, Role, User
from messaging_core.rights import REMOVAL, RIGHTS, ROLE_CHANGES, Right, includes, require, table

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LIMITS = Limits()
ACTOR, OTHER, OWNER, NEW = (UserId(number) for number in range(1, 5))
PEOPLE = {
    user_id: User(user_id, f"{user_id}@test.com", f"User {user_id}", f"user{user_id}", None, NOW)
    for user_id in (ACTOR, OTHER, OWNER, NEW)
}
CHAT_ID, MESSAGE_ID = ChatId(5), MessageId(9)
MESSAGE = Message(MESSAGE_ID, CHAT_ID, OTHER, MessageType.TEXT, "hello", None, NOW, None, None, None, 2, 2)


def group(role: Role, other: Role = Role.MEMBER) -> Chat:
    """A group of the actor, the one whom they act upon, and another owner."""
    roles = {ACTOR: role, OTHER: other, OWNER: Role.OWNER}
    return Chat(
        CHAT_ID, "A group", True, NOW, tuple(Member(id_, roles[id_], NOW) for id_ in roles), 6, NOW, None
    )


def update(role: Role, command: UpdateGroup) -> object:
    chat = group(role)
    return update_group(
        chat, command, actor=ACTOR, people=PEOPLE, message_id=MESSAGE_ID, now=NOW, limits=LIMITS
    )


def add(role: Role) -> object:
    command = AddMembers(CHAT_ID, NEW)
    return add_members(
        group(role), command, actor=ACTOR, people=PEOPLE, message_id=MESSAGE_ID, now=NOW, limits=LIMITS
    )


def remove(role: Role, target: UserId = OTHER, other: Role = Role.MEMBER) -> object:
    command = RemoveMember(CHAT_ID, target)
    return remove_member(
        group(role, other), command, actor=ACTOR, people=PEOPLE, message_ids=(MESSAGE_ID,), now=NOW
    )


def give(role: Role, *, before: Role, after: Role, target: UserId = OTHER) -> object:
    command = ChangeRole(CHAT_ID, target, after)
    return change_role(
        group(role, before), command, actor=ACTOR, people=PEOPLE, message_id=MESSAGE_ID, now=NOW
    )


def step_down(role: Role) -> object:
    if role is Role.MEMBER:
        raise InsufficientRole  # there is no lower one
    return give(role, before=Role.MEMBER, after=Role.MEMBER, target=ACTOR)


def change_system_message(role: Role) -> object:
    written = evolve(MESSAGE, author_id=None, type=MessageType.SYSTEM)
    with pytest.raises(NotTheAuthor):
        delete_message(group(role), written, deleter=ACTOR, now=NOW)
    command = EditMessage(MESSAGE_ID, "changed")
    return edit_message(group(role), written, command, editor=ACTOR, now=NOW, limits=LIMITS)


ATTEMPTS: dict[Right, Callable[[Role], object]] = {
    Right.LEAVE: partial(remove, target=ACTOR),
    Right.EDIT: partial(update, command=UpdateGroup(CHAT_ID, "New", "https://example.com/a.png")),
    Right.CHANGE_HISTORY: partial(update, command=UpdateGroup(CHAT_ID, history=History.JOINED)),
    Right.DELETE_GROUP: lambda role: may_delete(group(role), ACTOR),
    Right.ADD: add,
    **{right: partial(remove, other=other) for other, right in REMOVAL.items()},
    **{right: partial(give, before=before, after=after) for (before, after), right in ROLE_CHANGES.items()},
    Right.STEP_DOWN: step_down,
    Right.DELETE_MESSAGES: lambda role: delete_message(group(role), MESSAGE, deleter=ACTOR, now=NOW),
    Right.CHANGE_SYSTEM_MESSAGES: change_system_message,
}
"""What a member does who uses a right."""


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("right", list(Right))
def test_every_cell_of_the_table(right: Right, role: Role) -> None:
    """A member may do exactly what the table says; a refusal names the role that it takes."""
    attempt = partial(ATTEMPTS[right], role)
    if includes(role, right):
        attempt()
        return
    with pytest.raises((InsufficientRole, NotTheAuthor)):
        attempt()


def test_the_table_is_complete() -> None:
    """Every right has a row; each role has a right to remove it, and to change it into each other one."""
    assert set(RIGHTS) == set(Right) == set(ATTEMPTS)
    assert set(REMOVAL) == set(Role)
    assert set(ROLE_CHANGES) == {(one, other) for one in Role for other in Role if one is not other}
    assert len(table().splitlines()) == 2 + len(Right)


@pytest.mark.parametrize(
    ("role", "right", "detail"),
    [
        (
            Role.MEMBER,
            Right.ADD,
            "Only an owner or an admin may add people; you are a member.",
        ),
        (
            Role.ADMIN,
            Right.DELETE_GROUP,
            "Only an owner may delete the group; you are an admin.",
        ),
        (Role.OWNER, Right.REMOVE_OWNER, "Nobody may remove an owner; you are an owner."),
    ],
)
def test_refusals_say_whose_right_it_is(role: Role, right: Right, detail: str) -> None:
    """The reader learns what it takes, and what they have."""
    with pytest.raises(InsufficientRole) as refused:
        require(role, right)
    assert refused.value.detail == detail


@pytest.mark.parametrize("role", [Role.OWNER, Role.ADMIN])
def test_nobody_raises_their_own_role(role: Role) -> None:
    """An admin does not become an owner by themselves, and an owner has no higher role."""
    chat = group(role)
    if role is Role.OWNER:
        assert give(role, before=Role.MEMBER, after=Role.OWNER, target=ACTOR).effects == ()  # type: ignore[attr-defined]
        return
    with pytest.raises(InsufficientRole):
        change_role(
            chat,
            ChangeRole(CHAT_ID, ACTOR, Role.OWNER),
            actor=ACTOR,
            people=PEOPLE,
            message_id=MESSAGE_ID,
            now=NOW,
        )


def test_the_last_owner_does_not_step_down() -> None:
    """A group always has an owner: the last one makes somebody else an owner first, or leaves."""
    chat = group(Role.OWNER)
    alone = evolve(chat, members=chat.members[:2])
    with pytest.raises(LastOwner):
        change_role(
            alone,
            ChangeRole(CHAT_ID, ACTOR, Role.ADMIN),
            actor=ACTOR,
            people=PEOPLE,
            message_id=MESSAGE_ID,
            now=NOW,
        )

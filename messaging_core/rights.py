"""Who may do what in a group: one table, which decisions ask, the documentation prints and the tests walk.

The two people of a direct chat have no rights over it or over each other.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from messaging_core.errors import InsufficientRole
from messaging_core.models import Role


class Right(StrEnum):
    """Something that a member of a group may do; the value completes "an admin may"."""

    LEAVE = "leave"
    EDIT = "change the title and the avatar"
    CHANGE_HISTORY = "change the history that new members read"
    DELETE_GROUP = "delete the group"
    ADD = "add people"
    REMOVE_MEMBER = "remove a member"
    REMOVE_ADMIN = "remove an admin"
    REMOVE_OWNER = "remove an owner"
    MEMBER_TO_ADMIN = "make a member an admin"
    MEMBER_TO_OWNER = "make a member an owner"
    ADMIN_TO_OWNER = "make an admin an owner"
    ADMIN_TO_MEMBER = "make an admin a member"
    OWNER_TO_ADMIN = "make another owner an admin"
    OWNER_TO_MEMBER = "make another owner a member"
    STEP_DOWN = "take a lower role themselves"
    DELETE_MESSAGES = "delete messages of others"
    CHANGE_SYSTEM_MESSAGES = "change or delete a system message"


OWNERS: Final = frozenset({Role.OWNER})
ADMINS: Final = frozenset({Role.OWNER, Role.ADMIN})
EVERYBODY: Final = frozenset(Role)
NOBODY: Final[frozenset[Role]] = frozenset()

RIGHTS: Final[Mapping[Right, frozenset[Role]]] = MappingProxyType(
    {
        Right.LEAVE: EVERYBODY,
        Right.EDIT: ADMINS,
        Right.CHANGE_HISTORY: OWNERS,
        Right.DELETE_GROUP: OWNERS,
        Right.ADD: ADMINS,
        Right.REMOVE_MEMBER: ADMINS,
        Right.REMOVE_ADMIN: OWNERS,
        Right.REMOVE_OWNER: NOBODY,
        Right.MEMBER_TO_ADMIN: OWNERS,
        Right.MEMBER_TO_OWNER: OWNERS,
        Right.ADMIN_TO_OWNER: OWNERS,
        Right.ADMIN_TO_MEMBER: OWNERS,
        Right.OWNER_TO_ADMIN: NOBODY,
        Right.OWNER_TO_MEMBER: NOBODY,
        Right.STEP_DOWN: ADMINS,
        Right.DELETE_MESSAGES: ADMINS,
        Right.CHANGE_SYSTEM_MESSAGES: NOBODY,
    }
)
"""The roles that have each right."""

REMOVAL: Final[Mapping[Role, Right]] = MappingProxyType(
    {
        Role.MEMBER: Right.REMOVE_MEMBER,
        Role.ADMIN: Right.REMOVE_ADMIN,
        Role.OWNER: Right.REMOVE_OWNER,
    }
)
"""The right to remove somebody else, by the role that they have."""

ROLE_CHANGES: Final[Mapping[tuple[Role, Role], Right]] = MappingProxyType(
    {
        (Role.MEMBER, Role.ADMIN): Right.MEMBER_TO_ADMIN,
        (Role.MEMBER, Role.OWNER): Right.MEMBER_TO_OWNER,
        (Role.ADMIN, Role.OWNER): Right.ADMIN_TO_OWNER,
        (Role.ADMIN, Role.MEMBER): Right.ADMIN_TO_MEMBER,
        (Role.OWNER, Role.ADMIN): Right.OWNER_TO_ADMIN,
        (Role.OWNER, Role.MEMBER): Right.OWNER_TO_MEMBER,
    }
)
"""The right to give somebody else another role, by the one that they have and the one that they get."""


def includes(role: Role, right: Right) -> bool:
    """Whether members with this role have the right."""
    return role in RIGHTS[right]


def require(role: Role, right: Right) -> None:
    """Raise `InsufficientRole` unless members with this role have the right."""
    having = RIGHTS[right]
    if role not in having:
        allowed = " or ".join(_with_article(each) for each in Role if each in having)
        who = f"Only {allowed}" if allowed else "Nobody"
        raise InsufficientRole(f"{who} may {right}; you are {_with_article(role)}.")


def _with_article(role: Role) -> str:
    return f"a {role}" if role is Role.MEMBER else f"an {role}"


def table() -> str:
    """The table in Markdown, as the documentation prints it."""
    lines = [
        "| may | " + " | ".join(f"`{role}`" for role in Role) + " |",
        "|---|" + "---|" * len(Role),
    ]
    for right, having in RIGHTS.items():
        lines.append(f"| {right} | " + " | ".join("yes" if role in having else "-" for role in Role) + " |")
    return "\n".join(lines) + "\n"

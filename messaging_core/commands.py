"""Commands: every field, its type and its constraint.

A transport builds a command from a path, a query and a body; the decisions check its constraints.
"""

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from messaging_core.constraints import (
    UNSET,
    AllBut,
    Count,
    Identifiers,
    JsonObject,
    NormalForm,
    Text,
    Unset,
    constrained,
)
from messaging_core.ids import ChatId, MessageId, MessageIdOrZero, UserId
from messaging_core.models import History, MessageType, Role

EMAIL = Text(
    "email_characters",
    form=NormalForm.ADDRESS,
    pattern=r"[^\s@]+@[^\s@]+",
    expected="an e-mail address",
    example="alice@example.com",
)
PASSWORD = Text(
    "password_max_characters",
    minimum="password_min_characters",
    form=NormalForm.SECRET,
    lines=True,
    blank=True,
    example="correct horse battery staple",
)
ANY_EMAIL = Text("email_characters", any_spelling=True, lines=True, blank=True, example=EMAIL.example)
ANY_PASSWORD = Text(
    "password_max_characters",
    form=NormalForm.SECRET,
    any_spelling=True,
    lines=True,
    blank=True,
    example=PASSWORD.example,
)
DISPLAY_NAME = Text("display_name_characters", form=NormalForm.NAME, example="Alice")
AVATAR_URL = Text(
    "avatar_url_characters",
    form=NormalForm.URL,
    # Browsers decode a host's escapes, which may stand for any character.
    pattern=r"https?://[^\s%/?#\\]+([/?#\\][^\s]*)?",
    expected="an http or https address, with no % in its host",
    example=None,  # the setting avatar_hosts may refuse any
)
TITLE = Text("title_characters", form=NormalForm.NAME, example="Friday evening")
CONTENT = Text("message_characters", form=NormalForm.COUNTED, lines=True, blank=True, example="Hello!")
PAYLOAD = JsonObject("message_payload_bytes", "message_payload_depth")
SENT_TYPE = AllBut((MessageType.SYSTEM,), "only the server creates system messages")


@frozen
class RegisterUser:
    email: str = field(metadata=constrained(EMAIL))
    password: str = field(repr=False, metadata=constrained(PASSWORD))
    display_name: str = field(metadata=constrained(DISPLAY_NAME))
    avatar_url: str | None = field(default=None, metadata=constrained(AVATAR_URL))


@frozen
class LogIn:
    """Both fields are bounded and storable; any other fault in them has the response of a wrong password."""

    email: str = field(metadata=constrained(ANY_EMAIL))
    password: str = field(repr=False, metadata=constrained(ANY_PASSWORD))


@frozen
class RefreshTokens:
    refresh_token: str = field(repr=False)


@frozen
class LogOut:
    pass


@frozen
class GetOwnUser:
    pass


@frozen
class GetUser:
    user_id: UserId


@frozen
class FindUserByTag:
    tag: str


@frozen
class ListChats:
    """The first chats of the caller's list, or, with a limit or a cursor, a page of it."""

    limit: int | None = field(default=None, metadata=constrained(Count("chats_page_max")))
    cursor: str | None = None
    """The `next_cursor` of the page above."""


@frozen
class GetChat:
    chat_id: ChatId


@frozen
class OpenDirectChat:
    user_id: UserId


@frozen
class CreateGroup:
    title: str = field(metadata=constrained(TITLE))
    member_ids: tuple[UserId, ...] = field(metadata=constrained(Identifiers("group_members")))
    is_group: Literal[True] = True
    history: History = History.JOINED


@frozen
class UpdateGroup:
    """Change a group; omitted fields stay, and null removes the avatar."""

    chat_id: ChatId
    title: str | Unset = field(default=UNSET, metadata=constrained(TITLE))
    avatar_url: str | Unset | None = field(default=UNSET, metadata=constrained(AVATAR_URL))
    history: History | Unset = UNSET


@frozen
class DeleteGroup:
    chat_id: ChatId


@frozen
class ListMembers:
    """A page of a chat's members, in the order in which they joined."""

    chat_id: ChatId
    limit: int | None = field(default=None, metadata=constrained(Count("members_page_max")))
    cursor: str | None = None
    """The `next_cursor` of the page above."""


@frozen
class AddMembers:
    """Add one person, or several: all of them or none."""

    chat_id: ChatId
    user_id: UserId | None = None
    user_ids: tuple[UserId, ...] | None = field(
        default=None, metadata=constrained(Identifiers("members_added"))
    )


@frozen
class ChangeRole:
    chat_id: ChatId
    user_id: UserId
    role: Role


@frozen
class RemoveMember:
    """Remove a person from a group, or leave it: the own id."""

    chat_id: ChatId
    user_id: UserId


@frozen
class SendMessage:
    chat_id: ChatId
    type: MessageType = field(metadata=constrained(SENT_TYPE))
    content: str | None = field(default=None, metadata=constrained(CONTENT))
    payload: Mapping[str, Any] | None = field(default=None, metadata=constrained(PAYLOAD))
    reply_to_id: MessageId | None = None


@frozen
class EditMessage:
    message_id: MessageId
    content: str | Unset | None = field(default=UNSET, metadata=constrained(CONTENT))
    payload: Mapping[str, Any] | Unset | None = field(default=UNSET, metadata=constrained(PAYLOAD))


@frozen
class DeleteMessage:
    message_id: MessageId


@frozen
class ListMessages:
    """A page of a chat's history; at most one of the three anchors. `after_id` 0 is the beginning."""

    chat_id: ChatId
    limit: int | None = field(default=None, metadata=constrained(Count("history_page_max")))
    before_id: MessageId | None = None
    after_id: MessageIdOrZero | None = None
    around_id: MessageId | None = None


@frozen
class MarkRead:
    """Move one's read mark forward to a message, or to the last one."""

    chat_id: ChatId
    message_id: MessageId | None = None


@frozen
class ListReads:
    chat_id: ChatId


@frozen
class ReportTyping:
    """Repeat it every few seconds while somebody types, as it is soon forgotten."""

    chat_id: ChatId
    is_typing: bool


@frozen
class ListTypists:
    chat_id: ChatId


@frozen
class SendHeartbeat:
    pass


@frozen
class GetPresence:
    user_id: UserId


@frozen
class GetOwnPresence:
    pass

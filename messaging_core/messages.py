"""Messages: who may send, edit and delete them, and how history is paged.

The caller passes the chat as read under its lock, or None where there is no such chat.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from attrs import evolve

from messaging_core import rights
from messaging_core.characters import is_blank
from messaging_core.commands import (
    EditMessage,
    ListMessages,
    SendMessage,
)
from messaging_core.constraints import UNSET, check
from messaging_core.effects import Decision
from messaging_core.errors import (
    ChatNotFound,
    FieldError,
    Invalid,
    MessageAlreadyDeleted,
    MessageNotFound,
    NotAParticipant,
    NotTheAuthor,
)
from messaging_core.events import MessageCreated, MessageDeleted, MessageUpdated
from messaging_core.fanout import announce
from messaging_core.ids import MessageId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Chat, Member, Message, MessageType, Page
from messaging_core.positions import may_see
from messaging_core.rights import Right

OTHER_CHARACTERS = 250
"""Characters of a message's JSON besides its content and its payload."""


def found(message: Message | None) -> Message:
    """The message that was looked up; raises `MessageNotFound`."""
    if message is None:
        raise MessageNotFound
    return message


def send_message(
    chat: Chat | None,
    command: SendMessage,
    *,
    author: UserId,
    replied_to: Message | None,
    message_id: MessageId,
    now: datetime,
    limits: Limits,
) -> Decision[Message]:
    """A new message; its effects store it, and number, log and deliver its event to every member.

    `replied_to` is the message that `reply_to_id` names. Raises `Invalid`, `ChatNotFound`, `NotAParticipant`.
    """
    check(command, limits)
    _require_substance(command.content, command.payload)
    chat, member = _participant(chat, author)
    if command.reply_to_id is not None and (
        replied_to is None or replied_to.chat_id != chat.id or not _is_seen(replied_to, chat, member)
    ):
        raise Invalid(
            FieldError(
                "reply_to_id",
                MessageNotFound.code,
                "there is no such message in this chat",
            )
        )
    message = Message(
        message_id,
        chat.id,
        author,
        command.type,
        command.content,
        command.payload,
        ts=now,
        reply_to_id=command.reply_to_id,
        edited_at=None,
        deleted_at=None,
        sequence=chat.sequence + 1,
        revision=chat.sequence + 1,
    )
    return _announced(chat, MessageCreated(message), now)


def edit_message(
    chat: Chat | None,
    message: Message | None,
    command: EditMessage,
    *,
    editor: UserId,
    now: datetime,
    limits: Limits,
) -> Decision[Message]:
    """The message with the fields that the command sets, at least one; null removes a field.

    Raises `Invalid`, `MessageNotFound`, `NotAParticipant`, `NotTheAuthor`, `MessageAlreadyDeleted`.
    """
    check(command, limits)
    if command.content is UNSET and command.payload is UNSET:
        _require_substance(None, None)
    message = found(message)
    chat, _ = _reader(chat, message, editor)
    _require_an_author(message)
    if message.author_id != editor:
        raise NotTheAuthor
    if message.deleted_at is not None:
        raise MessageAlreadyDeleted
    content = message.content if command.content is UNSET else command.content
    payload = message.payload if command.payload is UNSET else command.payload
    _require_substance(content, payload)
    edited = evolve(message, content=content, payload=payload, edited_at=now, revision=chat.sequence + 1)
    return _announced(chat, MessageUpdated(edited), now)


def delete_message(
    chat: Chat | None,
    message: Message | None,
    *,
    deleter: UserId,
    now: datetime,
) -> Decision[None]:
    """Remove a message's content and keep its position; a deleted message stays as it is, without an event.

    The author may delete it, and in a group its owner and admins. Raises `MessageNotFound`,
    `NotAParticipant`, `NotTheAuthor`.
    """
    message = found(message)
    chat, member = _reader(chat, message, deleter)
    _require_an_author(message)
    moderates = chat.is_group and rights.includes(member.role, Right.DELETE_MESSAGES)
    if message.author_id != deleter and not moderates:
        raise NotTheAuthor("Only the author of a message, or an admin of its group, may delete it.")
    if message.deleted_at is not None:
        return Decision(None)
    deleted = evolve(
        message, content=None, payload={"deleted": True}, deleted_at=now, revision=chat.sequence + 1
    )
    return Decision(None, _announced(chat, MessageDeleted(deleted), now).effects)


def characters_of(message: Message) -> int:
    """About how many characters a message has as JSON."""
    payload = 0 if message.payload is None else len(str(message.payload))
    return OTHER_CHARACTERS + len(message.content or "") + payload


def check_page(command: ListMessages, limits: Limits) -> int:
    """The maximum number of messages in the page; raises `Invalid`."""
    check(command, limits)
    anchors = [name for name in ("before_id", "after_id", "around_id") if getattr(command, name) is not None]
    if len(anchors) > 1:
        raise Invalid(
            *(FieldError(name, "conflict", "give one of before_id, after_id, around_id") for name in anchors)
        )
    return command.limit or limits.history_page


def page(
    older: Sequence[Message],
    newer: Sequence[Message],
    *,
    size: int,
    forward: bool = False,
) -> Page:
    """A page of the messages on both sides of its anchor.

    `older` is ordered newest first and `newer` oldest first, away from the anchor; each holds one message
    more than fits the page, where there is one. With `forward`, the page holds newer messages only, and
    `has_more` says whether still newer ones exist; otherwise it says whether still older ones exist.
    """
    if forward:
        shown_newer = newer[:size]
        shown_older: Sequence[Message] = ()
    else:
        # Half of the page for each side; one side uses the room that the other leaves.
        shown_newer = newer[: max(size // 2, size - len(older))]
        shown_older = older[: size - len(shown_newer)]
    messages = (*reversed(shown_newer), *shown_older)
    more_older = len(older) > len(shown_older)
    return Page(
        messages,
        has_more=len(newer) > len(shown_newer) if forward else more_older,
        next_cursor=messages[-1].id if messages and more_older else None,
    )


def _participant(chat: Chat | None, user_id: UserId) -> tuple[Chat, Member]:
    if chat is None:
        raise ChatNotFound
    member = chat.member(user_id)
    if member is None:
        raise NotAParticipant
    return chat, member


def _reader(chat: Chat | None, message: Message, user_id: UserId) -> tuple[Chat, Member]:
    """The message's chat, and its member who may read the message."""
    chat, member = _participant(chat, user_id)
    if not _is_seen(message, chat, member):
        raise MessageNotFound
    return chat, member


def _require_an_author(message: Message) -> None:
    """Raise `NotTheAuthor` for a system message: see `rights`."""
    if message.type is MessageType.SYSTEM:
        raise NotTheAuthor("The server wrote this message: nobody may change or delete it.")


def _is_seen(message: Message, chat: Chat, member: Member) -> bool:
    return may_see(member.range, chat.sequence, message.sequence)


def _require_substance(content: str | None, payload: Mapping[str, Any] | None) -> None:
    if payload is None and content is None:
        raise Invalid(FieldError("content", "required", "give content, payload, or both"))
    if payload is None and content is not None and is_blank(content):
        raise Invalid(FieldError("content", "blank", "is blank, and there is no payload"))


def _announced(
    chat: Chat, event: MessageCreated | MessageUpdated | MessageDeleted, now: datetime
) -> Decision[Message]:
    return Decision(event.message, announce(chat, event, now=now))

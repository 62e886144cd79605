"""Who hears what, and in which words.

Every durable event takes the next number of its chat, is written to the chat's log under that number,
and is delivered to the chat's members. A plain socket (profile 1) knows two event names only.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, assert_never

from attrs import evolve, frozen

from messaging_core.effects import (
    AdvanceChat,
    AppendEvent,
    ChangeMessage,
    Deliver,
    Effect,
    StoreChat,
    StoreMessage,
)
from messaging_core.events import (
    CREATED,
    ChatCreated,
    Event,
    LogEntry,
    MessageCreated,
    MessageUpdated,
    MessageWithdrawn,
    creation,
)
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, Message, MessageType


@frozen(slots=False)
class PlainMessage:
    """A message as a plain socket is told of it: the checklist's seven keys."""

    id: MessageId
    chat_id: ChatId
    author_id: UserId | None
    type: MessageType
    content: str | None
    payload: Mapping[str, Any] | None
    ts: datetime


@frozen(slots=False)
class PlainFrame:
    """The only frame that a plain socket receives."""

    event: Literal["message.created", "message.updated"]
    data: PlainMessage


def announce(chat: Chat, event: Event, *, now: datetime) -> tuple[Effect, ...]:
    """The effects that number, log and deliver `event`, which happened in `chat` as it was before.

    `chat` must have been read under its lock: the number is taken from it.
    """
    sequence = chat.sequence + 1
    match event:
        case MessageCreated(message):
            entry = creation(message, sequence)
            kept: tuple[Effect, ...] = (
                StoreMessage(message, sequence),
                AdvanceChat(
                    # Spelled out, for it is done for every message: `evolve` takes three times as long.
                    Chat(
                        chat.id,
                        chat.title,
                        chat.is_group,
                        chat.created_at,
                        chat.members,
                        sequence,
                        active_at=message.ts,
                        last_message_id=message.id,
                    )
                ),
            )
        case MessageUpdated(message) | MessageWithdrawn(message):
            entry = LogEntry(chat.id, sequence, event_name(event), message.id, now)
            advanced = evolve(chat, sequence=sequence)
            kept = (ChangeMessage(message), AdvanceChat(advanced), AppendEvent(entry))
        case ChatCreated(created):
            entry = LogEntry(chat.id, sequence, event_name(event), None, now)
            kept = (StoreChat(evolve(created, sequence=sequence)), AppendEvent(entry))
        case _:
            assert_never(event)
    return (*kept, Deliver(event, chat.member_ids, entry))


def event_name(event: Event) -> str:
    """The event's name on the wire and in the log."""
    match event:
        case ChatCreated():
            return "chat.created"
        case MessageCreated():
            return CREATED
        case MessageUpdated():
            return "message.updated"
        case MessageWithdrawn():
            return "message.deleted"
        case _:
            assert_never(event)


def retell(entry: LogEntry, chat: Chat, message: Message | None) -> Deliver | None:
    """What an entry of a chat's log is delivered as now; None where what it is about is gone.

    The chat and the message are as they are by now, not as they were. It is for those who were members when
    it was logged, as far as clocks tell; those who were there from the beginning were, whatever these say.
    """
    match entry.name:
        case "chat.created":
            event: Event = ChatCreated(chat)
        case "message.created" if message is not None:
            event = MessageCreated(message)
        case "message.updated" if message is not None:
            event = MessageUpdated(message)
        case "message.deleted" if message is not None:
            event = MessageWithdrawn(message)
        case _:
            return None
    latest = max(entry.at, chat.created_at)
    audience = tuple([member.user_id for member in chat.members if member.joined_at <= latest])
    return Deliver(event, audience, entry)


def plain_frame(event: Event) -> PlainFrame | None:
    """What a plain socket is told of `event`: a deletion is an update, None is nothing at all."""
    match event:
        case MessageCreated(message):
            return PlainFrame("message.created", _plain(message))
        case MessageUpdated(message) | MessageWithdrawn(message):
            return PlainFrame("message.updated", _plain(message))
        case ChatCreated():
            return None
        case _:
            assert_never(event)


def _plain(message: Message) -> PlainMessage:
    return PlainMessage(
        message.id,
        message.chat_id,
        message.author_id,
        message.type,
        message.content,
        message.payload,
        message.ts,
    )

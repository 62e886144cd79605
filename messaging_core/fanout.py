"""From an event to its effects: it is numbered, stored, logged, and delivered to the chat's members.

`replay` gives the same delivery again from the log.
"""

from datetime import datetime
from typing import assert_never

from attrs import evolve

from messaging_core.effects import (
    AdvanceChat,
    AppendEvent,
    ChangeMessage,
    Deliver,
    Effect,
    StorageEffect,
    StoreChat,
    StoreMessage,
)
from messaging_core.events import (
    ChatCreated,
    ChatSubject,
    Custom,
    CustomSubject,
    Event,
    Facts,
    LogEntry,
    MessageCreated,
    MessageDeleted,
    MessageSubject,
    MessageUpdated,
    creation,
    event_name,
    kind_of,
    rebuild,
)
from messaging_core.models import Chat, Message


def announce(chat: Chat, event: Event, *, now: datetime) -> tuple[Effect, ...]:
    """The effects that number, store, log and deliver `event`; `chat` is as it was before.

    `chat` must have been read under its lock: the number is taken from it.
    """
    sequence = chat.sequence + 1
    match event:
        case MessageCreated(message):
            entry = creation(message, sequence)
            stored: tuple[StorageEffect, ...] = (
                StoreMessage(message, sequence),
                AdvanceChat(
                    # The hot path: `evolve` takes three times as long.
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
        case MessageUpdated(message) | MessageDeleted(message):
            entry = _entry(chat, sequence, event, now)
            stored = (
                ChangeMessage(message),
                AdvanceChat(evolve(chat, sequence=sequence)),
                AppendEvent(entry),
            )
        case ChatCreated(created):
            entry = _entry(chat, sequence, event, now)
            stored = (StoreChat(evolve(created, sequence=sequence)), AppendEvent(entry))
        case Custom():
            entry = _entry(chat, sequence, event, now)
            stored = (AdvanceChat(evolve(chat, sequence=sequence)), AppendEvent(entry))
        case _:
            assert_never(event)
    return (*stored, Deliver(event, chat.member_ids, entry))


def _entry(chat: Chat, sequence: int, event: Event, now: datetime) -> LogEntry:
    return LogEntry(chat.id, sequence, event_name(event), kind_of(event).subject(event), now)


def replay(entry: LogEntry, chat: Chat, message: Message | None) -> Deliver | None:
    """The delivery of a log's entry as its subject is now; None where the subject is gone.

    `message` is that of a `MessageSubject`. The audience is who was a member when the entry was logged, as
    far as whole seconds can tell, and every founder, whatever the clocks say.
    """
    match entry.subject:
        case ChatSubject():
            facts = Facts(chat=chat)
        case MessageSubject():
            facts = Facts(message=message)
        case CustomSubject(data):
            facts = Facts(data=data)
        case _:
            assert_never(entry.subject)
    event = rebuild(entry.name, facts)
    if event is None:
        return None
    latest = max(entry.at, chat.created_at)
    audience = tuple([member.user_id for member in chat.members if member.joined_at <= latest])
    return Deliver(event, audience, entry)

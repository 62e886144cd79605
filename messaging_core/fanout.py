"""Turns a durable event into the effects that number, store, log and deliver it.

An ephemeral event is its delivery alone. `replay` builds the delivery of a durable event from the log.
"""

from datetime import datetime
from typing import assert_never

from attrs import evolve

from messaging_core.effects import (
    AdvanceChat,
    AppendEvent,
    ChangeMessage,
    Deliver,
    DeliverEphemeral,
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
    DurableEvent,
    EphemeralEvent,
    Facts,
    LogEntry,
    MessageCreated,
    MessageDeleted,
    MessageSubject,
    MessageUpdated,
    creation,
    kind_of,
    log_entry,
    rebuild,
)
from messaging_core.models import Chat, Message


def announce(chat: Chat, event: DurableEvent, *, now: datetime) -> tuple[Effect, ...]:
    """The effects that number, store, log and deliver `event`; `chat` is its state before the event.

    Read `chat` under its lock: the event's number is the one after `chat.sequence`.
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
            entry = log_entry(chat.id, sequence, event, now)
            stored = (
                ChangeMessage(message),
                AdvanceChat(evolve(chat, sequence=sequence)),
                AppendEvent(entry),
            )
        case ChatCreated(created):
            entry = log_entry(chat.id, sequence, event, now)
            stored = (StoreChat(evolve(created, sequence=sequence)), AppendEvent(entry))
        case Custom():
            entry = log_entry(chat.id, sequence, event, now)
            stored = (AdvanceChat(evolve(chat, sequence=sequence)), AppendEvent(entry))
        case _:
            assert_never(event)
    return (*stored, Deliver(event, kind_of(event).audience(event, chat), entry))


def announce_ephemeral(chat: Chat, event: EphemeralEvent) -> DeliverEphemeral:
    """The delivery of an event that is not logged."""
    return DeliverEphemeral(event, kind_of(event).audience(event, chat))


def replay(entry: LogEntry, chat: Chat, message: Message | None) -> Deliver | None:
    """The delivery of a log's entry with the current state of its subject; None where the subject is gone.

    `message` is that of a `MessageSubject`. The audience is the chat's founders, whatever the clocks say, and
    those who were members in the second in which the entry was logged.
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

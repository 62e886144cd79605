"""What became true: facts that were stored, and that people are told of."""

from datetime import datetime

from attrs import frozen

from messaging_core.ids import ChatId, MessageId
from messaging_core.models import Chat, Message


@frozen
class ChatCreated:
    chat: Chat


@frozen
class MessageCreated:
    message: Message


@frozen
class MessageUpdated:
    message: Message


@frozen
class MessageWithdrawn:
    """A message was deleted by its author or an admin; its place stays."""

    message: Message


Event = ChatCreated | MessageCreated | MessageUpdated | MessageWithdrawn


@frozen
class LogEntry:
    """One durable event in a chat's own order, by reference: what it is about is read when it is told.

    Keeping no copy of a message means that an edited or deleted text is gone from the log too.
    """

    chat_id: ChatId
    sequence: int
    """Counts the chat's events from 1, without gaps."""
    name: str
    message_id: MessageId | None
    at: datetime


CREATED = "message.created"


def creation(message: Message, sequence: int) -> LogEntry:
    """What a chat's log says of a new message; kept with the message, and nowhere else."""
    return LogEntry(message.chat_id, sequence, CREATED, message.id, message.ts)

"""What a socket of profile 1 receives: two event names, and the checklist's seven keys of a message."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from attrs import frozen

from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Message, MessageType


@frozen(slots=False)
class PlainMessage:
    """A message as profile 1 shows it; its keys and their order are frozen."""

    id: MessageId
    chat_id: ChatId
    author_id: UserId | None
    type: MessageType
    content: str | None
    payload: Mapping[str, Any] | None
    ts: datetime


@frozen(slots=False)
class PlainFrame:
    """The only frame of profile 1."""

    event: Literal["message.created", "message.updated"]
    data: PlainMessage


def plain_message(message: Message) -> PlainMessage:
    return PlainMessage(
        message.id,
        message.chat_id,
        message.author_id,
        message.type,
        message.content,
        message.payload,
        message.ts,
    )

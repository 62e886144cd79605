"""Envelopes as bytes: JSON arrays, of bells that are each within a bound."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import assert_never

import msgspec

from messaging_core.bells import Bell, Envelope, Reference
from messaging_core.effects import CloseSockets, Deliver, DeliveryEffect
from messaging_core.events import (
    ChatCreated,
    Event,
    LogEntry,
    MessageCreated,
    MessageUpdated,
    MessageWithdrawn,
)
from messaging_core.fanout import event_name
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.models import Chat, Message

HEAD_BYTES = 160
"""More than an envelope takes beside its bells: a name of 32 characters, two numbers, brackets."""


class MalformedEnvelope(Exception):
    """The bytes are no envelope: another program uses the channel, or another version of this one."""


class _Event(msgspec.Struct, array_like=True, tag="event"):
    sequence: int
    at: datetime
    name: str
    audience: tuple[UserId, ...]
    about: Message | None
    chat: Chat | None


class _Reference(msgspec.Struct, array_like=True, tag="reference"):
    chat_id: ChatId
    sequence: int
    audience: tuple[UserId, ...] | None


class _Ended(msgspec.Struct, array_like=True, tag="ended"):
    session_id: SessionId
    reason: str


class _Envelope(msgspec.Struct, array_like=True):
    publisher: str
    number: int | None
    sent_at: float
    bells: list[msgspec.Raw]
    is_last: bool = False


_encode = msgspec.json.Encoder().encode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_bell = msgspec.json.Decoder(_Event | _Reference | _Ended).decode


def write_bell(effect: DeliveryEffect, most_bytes: int) -> bytes:
    """A bell of at most so many bytes: of an event that is larger, a reference to the log."""
    match effect:
        case Deliver(event, audience, entry):
            message = None if isinstance(event, ChatCreated) else event.message
            chat = event.chat if isinstance(event, ChatCreated) else None
            told = _encode(_Event(entry.sequence, entry.at, event_name(event), audience, message, chat))
            if len(told) > most_bytes:
                told = _encode(_Reference(entry.chat_id, entry.sequence, audience))
            if len(told) > most_bytes:
                told = _encode(_Reference(entry.chat_id, entry.sequence, None))
            return told
        case CloseSockets(session_id, reason):
            return _encode(_Ended(session_id, reason))
        case _:
            assert_never(effect)


def write_envelope(
    publisher: str, number: int | None, sent_at: float, bells: Sequence[bytes], *, is_last: bool = False
) -> bytes:
    return _encode(_Envelope(publisher, number, sent_at, [msgspec.Raw(bell) for bell in bells], is_last))


def pack(bells: Iterable[bytes], most_bytes: int) -> Iterator[list[bytes]]:
    """The bells in order, in parts that fit an envelope of so many bytes."""
    part: list[bytes] = []
    size = HEAD_BYTES
    for bell in bells:
        if part and size + len(bell) + 1 > most_bytes:
            yield part
            part, size = [], HEAD_BYTES
        part.append(bell)
        size += len(bell) + 1
    if part:
        yield part


def read_envelope(payload: bytes, *, own: str) -> Envelope:
    """An envelope; one of this process's `own` comes back without the bells. Raises `MalformedEnvelope`."""
    try:
        envelope = _decode_envelope(payload)
        bells = () if envelope.publisher == own else tuple(map(_read_bell, envelope.bells))
    except (msgspec.MsgspecError, ValueError) as error:
        raise MalformedEnvelope(str(error)) from error
    return Envelope(envelope.publisher, envelope.number, envelope.sent_at, bells, envelope.is_last)


def _read_bell(raw: msgspec.Raw) -> Bell:
    told: _Event | _Reference | _Ended = _decode_bell(raw)
    match told:
        case _Event():
            event, chat_id, message_id = _read_event(told)
            return Deliver(
                event, told.audience, LogEntry(chat_id, told.sequence, told.name, message_id, told.at)
            )
        case _Reference():
            return Reference(told.chat_id, told.sequence, told.audience)
        case _Ended():
            return CloseSockets(told.session_id, told.reason)
        case _:
            assert_never(told)


def _read_event(told: _Event) -> tuple[Event, ChatId, MessageId | None]:
    match told:
        case _Event(name="chat.created", chat=Chat() as chat):
            return ChatCreated(chat), chat.id, None
        case _Event(name="message.created", about=Message() as message):
            return MessageCreated(message), message.chat_id, message.id
        case _Event(name="message.updated", about=Message() as message):
            return MessageUpdated(message), message.chat_id, message.id
        case _Event(name="message.deleted", about=Message() as message):
            return MessageWithdrawn(message), message.chat_id, message.id
        case _:
            raise ValueError(f"there is no event {told.name} as it is told")

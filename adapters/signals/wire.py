"""Envelopes as bytes: JSON arrays of signals, each within a bound."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, assert_never

import msgspec

from messaging_core.effects import CloseSockets, Deliver, DeliverEphemeral, DeliveryEffect
from messaging_core.events import Facts, event_name, kind_of, log_entry, rebuild, rebuild_ephemeral
from messaging_core.ids import ChatId, SessionId, UserId
from messaging_core.models import Chat, Member, Message, Tombstone
from messaging_core.signals import Envelope, Reference, Signal, refer_to

HEAD_BYTES = 160
"""An upper bound of an envelope without its signals: a name of 32 characters, two numbers, brackets."""


class MalformedEnvelope(Exception):
    """The bytes are no envelope: another program uses the channel, or another version of this one."""


class _EventSignal(msgspec.Struct, array_like=True, tag="event"):
    chat_id: ChatId
    sequence: int
    at: datetime
    name: str
    audience: tuple[UserId, ...]
    chat: Chat | None
    message: Message | None
    data: Mapping[str, Any] | None
    member: Member | None = None
    member_count: int = 0
    tombstone: Tombstone | None = None


class _EphemeralSignal(msgspec.Struct, array_like=True, tag="ephemeral"):
    name: str
    audience: tuple[UserId, ...]
    chat: Chat | None
    message: Message | None
    data: Mapping[str, Any] | None


class _ReferenceSignal(msgspec.Struct, array_like=True, tag="reference"):
    chat_id: ChatId
    sequence: int
    audience: tuple[UserId, ...] | None
    person: UserId | None = None


class _SessionSignal(msgspec.Struct, array_like=True, tag="ended"):
    session_id: SessionId
    reason: str


_AnySignal = _EventSignal | _EphemeralSignal | _ReferenceSignal | _SessionSignal


class _Envelope(msgspec.Struct, array_like=True):
    publisher: str
    number: int | None
    sent_at: float
    signals: list[msgspec.Raw]
    is_last: bool = False


_encode = msgspec.json.Encoder().encode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_signal = msgspec.json.Decoder(_AnySignal).decode


def write_signal(effect: DeliveryEffect, max_bytes: int) -> bytes | None:
    """A signal of at most `max_bytes`; a larger event becomes a reference to the log.

    None for an ephemeral event that is larger: it is shed.
    """
    match effect:
        case Deliver():
            written = _encode(_event_signal(effect))
            if len(written) > max_bytes:
                written = _encode(_reference_signal(effect, names_audience=True))
            if len(written) > max_bytes:
                written = _encode(_reference_signal(effect, names_audience=False))
            return written
        case DeliverEphemeral():
            written = _encode(_ephemeral_signal(effect))
            return written if len(written) <= max_bytes else None
        case CloseSockets(session_id, reason):
            return _encode(_SessionSignal(session_id, reason))
        case _:
            assert_never(effect)


def write_envelope(
    publisher: str, number: int | None, sent_at: float, signals: Sequence[bytes], *, is_last: bool = False
) -> bytes:
    return _encode(_Envelope(publisher, number, sent_at, [msgspec.Raw(each) for each in signals], is_last))


def pack(signals: Iterable[bytes], max_bytes: int) -> Iterator[list[bytes]]:
    """Yields the signals in order, in parts that each fit an envelope of `max_bytes`."""
    part: list[bytes] = []
    size = HEAD_BYTES
    for signal in signals:
        if part and size + len(signal) + 1 > max_bytes:
            yield part
            part, size = [], HEAD_BYTES
        part.append(signal)
        size += len(signal) + 1
    if part:
        yield part


def read_envelope(payload: bytes, *, own: str) -> Envelope:
    """The envelope in a payload, without signals if `own` published it. Raises `MalformedEnvelope`."""
    try:
        envelope = _decode_envelope(payload)
        signals = () if envelope.publisher == own else tuple(map(_read_signal, envelope.signals))
    except (msgspec.MsgspecError, ValueError) as error:
        raise MalformedEnvelope(str(error)) from error
    return Envelope(envelope.publisher, envelope.number, envelope.sent_at, signals, envelope.is_last)


def _event_signal(delivery: Deliver) -> _EventSignal:
    entry, event = delivery.entry, delivery.event
    facts = kind_of(event).facts(event)
    return _EventSignal(
        entry.chat_id,
        entry.sequence,
        entry.at,
        event_name(event),
        delivery.audience,
        facts.chat,
        facts.message,
        facts.data,
        facts.member,
        facts.member_count,
        facts.tombstone,
    )


def _ephemeral_signal(delivery: DeliverEphemeral) -> _EphemeralSignal:
    event = delivery.event
    facts = kind_of(event).facts(event)
    return _EphemeralSignal(event_name(event), delivery.audience, facts.chat, facts.message, facts.data)


def _reference_signal(delivery: Deliver, *, names_audience: bool) -> _ReferenceSignal:
    found = refer_to(delivery, names_audience=names_audience)
    return _ReferenceSignal(found.chat_id, found.sequence, found.audience, found.person)


def _read_signal(raw: msgspec.Raw) -> Signal:
    signal: _AnySignal = _decode_signal(raw)
    match signal:
        case _EventSignal():
            return _read_event(signal)
        case _EphemeralSignal():
            return _read_ephemeral(signal)
        case _ReferenceSignal():
            return Reference(signal.chat_id, signal.sequence, signal.audience, signal.person)
        case _SessionSignal():
            return CloseSockets(signal.session_id, signal.reason)
        case _:
            assert_never(signal)


def _read_event(signal: _EventSignal) -> Deliver:
    facts = Facts(
        signal.chat, signal.message, signal.data, signal.member, signal.member_count, signal.tombstone
    )
    event = rebuild(signal.name, facts)
    if event is None:
        raise ValueError(f"the event {signal.name} does not carry its subject")
    return Deliver(event, signal.audience, log_entry(signal.chat_id, signal.sequence, event, signal.at))


def _read_ephemeral(signal: _EphemeralSignal) -> DeliverEphemeral:
    event = rebuild_ephemeral(signal.name, Facts(signal.chat, signal.message, signal.data))
    if event is None:
        raise ValueError(f"the event {signal.name} does not carry its own data")
    return DeliverEphemeral(event, signal.audience)

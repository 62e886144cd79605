"""Signals as bytes, and the queue of outgoing signals: a lost signal always leaves a gap in the numbers."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.signals import MalformedEnvelope, Outgoing, read_envelope
from adapters.signals.wire import HEAD_BYTES, pack, write_envelope, write_signal
from messaging_core.effects import CloseSockets, Deliver, DeliverEphemeral, DeliveryEffect
from messaging_core.events import MemberAdded, MemberRemoved, MemberUpdated, Typing
from messaging_core.fanout import announce, announce_ephemeral
from messaging_core.ids import ChatId, SessionId, UserId
from messaging_core.signals import Envelope, Reference
from messaging_core.testing import strategies as values
from messaging_core.testing.bus_contract import CHAT, delivery

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)


@st.composite
def deliveries(draw: st.DrawFn) -> Deliver:
    """Deliveries of every kind of event in the table."""
    chat = draw(values.chats())
    *_, delivery = announce(chat, draw(values.events(chat=chat)), now=NOW)
    assert isinstance(delivery, Deliver)
    return delivery


ephemeral = st.builds(
    DeliverEphemeral, values.ephemeral_events, st.lists(values.user_ids, max_size=100).map(tuple)
)
effects: st.SearchStrategy[DeliveryEffect] = (
    deliveries()
    | ephemeral
    | st.builds(CloseSockets, values.session_ids, st.sampled_from(["session_revoked", "token_expired"]))
)


def written(effect: DeliveryEffect, max_bytes: int) -> bytes:
    signal = write_signal(effect, max_bytes)
    assert signal is not None
    return signal


@settings(deadline=None)
@given(st.lists(effects, max_size=6), st.none() | st.integers(1, 2**40), st.floats(0, 1e9))
def test_an_envelope_is_read_as_it_was_written(
    signals: list[DeliveryEffect], number: int | None, sent_at: float
) -> None:
    """Every event is read unchanged; a process reads its own envelope without the signals."""
    payload = write_envelope("somebody", number, sent_at, [written(effect, 2**20) for effect in signals])
    assert read_envelope(payload, own="me") == Envelope("somebody", number, sent_at, tuple(signals))
    assert read_envelope(payload, own="somebody") == Envelope("somebody", number, sent_at, ())


@settings(deadline=None)
@given(deliveries(), st.integers(80, 3000))
def test_a_signal_fits(sent: Deliver, most: int) -> None:
    """If an event does not fit, it becomes a reference; if that does not fit, one without an audience.

    Either names the person whose membership the event is about.
    """
    payload = write_envelope("x", 1, 0.0, [written(sent, most)])
    (signal,) = read_envelope(payload, own="me").signals
    about = (
        sent.event.member.user_id
        if isinstance(sent.event, MemberAdded | MemberUpdated | MemberRemoved)
        else None
    )
    reference = Reference(sent.entry.chat_id, sent.entry.sequence, sent.audience, about)
    assert signal in (sent, reference, evolve(reference, audience=None))
    assert len(written(sent, most)) <= most
    larger = written(sent, 2**20)
    assert (signal == sent) == (len(larger) <= most)


@given(ephemeral, st.integers(30, 1500))
def test_an_ephemeral_event_fits_or_is_shed(sent: DeliverEphemeral, most: int) -> None:
    """An ephemeral event that does not fit has no signal, for there is no log to refer to."""
    signal = write_signal(sent, most)
    assert (signal is None) == (len(written(sent, 2**20)) > most)


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=40))
def test_signals_are_packed_in_order_and_within_the_bound(signals: list[bytes]) -> None:
    """Each envelope holds as many signals as fit."""
    parts = list(pack(signals, 1000))
    assert [signal for part in parts for signal in part] == signals
    sizes = [HEAD_BYTES + sum(len(signal) + 1 for signal in part) for part in parts]
    assert all(size <= 1000 for size in sizes)
    assert all(
        size + len(following[0]) + 1 > 1000
        for size, (_, following) in zip(sizes, pairwise(parts), strict=False)
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"\xff",
        b'["x",1]',
        b'["x","1",0.5,[]]',
        b'["x",1,0.5,[{}]]',
        b'["x",1,0.5,[["other",1]]]',
        b'["x",1,0.5,[["event",5,1,"2024-11-04T14:30:00Z","message.created",[1],null,null,null]]]',
        b'["x",1,0.5,[["event",5,1,"2024-11-04T14:30:00Z","user.renamed",[1],null,null,{}]]]',
        b'["x",1,0.5,[["event",5,1,"2024-11-04T14:30:00Z","typing",[1],null,null,{}]]]',
        b'["x",1,0.5,[["ephemeral","typing",[1],null,null,{"chat_id":1,"user_id":2}]]]',
        b'["x",1,0.5,[["ephemeral","acme.pinned",[1],null,null,{}]]]',
    ],
)
def test_a_malformed_envelope_is_refused(payload: bytes) -> None:
    """Bytes of another program or another version raise `MalformedEnvelope`, and nothing else."""
    with pytest.raises(MalformedEnvelope):
        read_envelope(payload, own="me")


# --- the outgoing queue -------------------------------------------------------------------------------------


def outgoing(most: int = 10) -> Outgoing:
    return Outgoing(lambda: 5.0, max_bytes=8000, max_waiting=most)


def sent(waiting: Outgoing) -> list[tuple[int | None, int]]:
    """The number and the count of signals of each envelope to all processes."""
    payloads = waiting.to_all(waiting.write(waiting.take()))
    envelopes = [read_envelope(payload, own="") for payload in payloads]
    assert all(envelope.publisher == waiting.publisher and envelope.sent_at == 5.0 for envelope in envelopes)
    return [(envelope.number, len(envelope.signals)) for envelope in envelopes]


def test_envelopes_are_numbered_from_one() -> None:
    """Every envelope to all processes has the next number, heartbeats included."""
    waiting = outgoing()
    assert sent(waiting) == [(1, 0)]
    waiting.add(delivery(1))
    waiting.add(CloseSockets(SessionId(1), "session_revoked"))
    assert sent(waiting) == [(2, 2)]
    assert sent(waiting) == [(3, 0)]


def test_the_last_envelope_is_marked() -> None:
    """The last envelope comes after the last signals, and has `is_last`."""
    waiting = outgoing()
    payloads = waiting.to_all(waiting.write([delivery(1)]), is_last=True)
    envelopes = [read_envelope(payload, own="") for payload in payloads]
    assert [(each.number, len(each.signals), each.is_last) for each in envelopes] == [
        (1, 1, False),
        (2, 0, True),
    ]


def test_signals_beyond_the_bound_leave_a_gap() -> None:
    """Signals that the full queue drops skip one number, however many they are."""
    waiting = outgoing(most=3)
    for number in range(8):
        waiting.add(delivery(number + 1))
    assert sent(waiting) == [(2, 3)]
    assert sent(waiting) == [(3, 0)]


def test_ephemeral_signals_are_shed_first() -> None:
    """Half of the queue is for durable events alone, and an ephemeral one that is shed skips no number."""
    waiting = outgoing(most=4)
    typing = announce_ephemeral(CHAT, Typing(CHAT.id, UserId(1), is_typing=True))
    for effect in (typing, delivery(1), typing, delivery(2), typing, delivery(3)):
        waiting.add(effect)
    assert waiting.take() == [typing, delivery(1), delivery(2), delivery(3)]
    waiting.add(DeliverEphemeral(typing.event, tuple(map(UserId, range(10_000)))))
    assert sent(waiting) == [(1, 0)]


def test_lose_leaves_a_gap() -> None:
    """`lose` skips a number and drops the queue, because other processes then read the log."""
    waiting = outgoing()
    waiting.add(delivery(1))
    waiting.lose()
    assert sent(waiting) == [(2, 0)]


def test_a_signal_that_cannot_be_encoded_leaves_a_gap() -> None:
    """A signal that cannot be encoded skips a number, and the other signals are sent."""
    waiting = outgoing()
    waiting.add(delivery(1, audience=(UserId(1), object())))  # type: ignore[arg-type]
    waiting.add(delivery(2))
    assert sent(waiting) == [(2, 1)]


def test_an_envelope_to_some_processes_has_no_number() -> None:
    """An envelope to some processes has no number, because the others would see a gap."""
    waiting = outgoing()
    (payload,) = waiting.to_some(waiting.write([delivery(1)]))
    assert read_envelope(payload, own="").number is None
    assert sent(waiting) == [(1, 0)]


def test_publishers_have_different_names() -> None:
    """Every publisher has a new name, a restarted process included."""
    assert len({outgoing().publisher for _ in range(10)}) == 10


def test_a_reference_has_the_chat_and_the_log_number() -> None:
    """A reference names the log entry by its chat and sequence."""
    sent = delivery(7)
    (signal,) = read_envelope(write_envelope("x", 1, 0.0, [written(sent, 60)]), own="").signals
    assert signal == Reference(ChatId(5), 7, sent.audience)

"""One socket's protocol: in whichever order things happen, frames leave in order, once, and a close last."""

from collections.abc import Sequence
from itertools import pairwise
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from messaging_core.ids import ChatId
from messaging_core.limits import Limits
from messaging_core.profiles import PLAIN, PROFILES, Close, Profile, Reply, SocketEffect
from messaging_core.sockets import (
    GONE,
    RESTARTING,
    SLOW_CONSUMER,
    WRITE_BYTES,
    Bundle,
    Positions,
    SocketProtocol,
    Span,
    bundles,
    payloads,
    text_frame,
)

SMALL = Limits(outbox_frames=4)
SILENCE = 45.0


def echo(message: str | bytes) -> Sequence[SocketEffect]:
    return (Reply(message if isinstance(message, bytes) else message.encode()),)


LIVELY = Profile(lambda *_: None, receive=echo, counts=True, silence=SILENCE, keepalive=b"still here")
"""A profile that has everything that a profile may have."""

names = st.sampled_from([ChatId(1), ChatId(2)])


class ProtocolMachine(RuleBasedStateMachine):
    """A socket, a connection that accepts what the test lets it, and the writer that the protocol needs."""

    profile = LIVELY

    def __init__(self) -> None:
        super().__init__()
        self.protocol = SocketProtocol(self.profile, SMALL)
        self.now = 100.0
        self.is_open = self.has_writer = False
        self.rest = b""
        """What the connection still has to write of an offer."""
        self.written = b""
        self.closed: Close | None = None
        self.sent: list[tuple[bytes, bool]] = []
        """Each frame that was accepted or may have been shed, and whether it is ephemeral."""
        self.numbers: dict[ChatId, int] = {}
        self.accepted: dict[ChatId, int] = {}
        self.frames = 0

    # --- what happens ---

    @precondition(lambda self: not self.is_open)
    @rule()
    def open(self) -> None:
        self.is_open = True
        self.has_writer = self.protocol.open(self.now)

    @rule(
        chat=names,
        events=st.lists(st.booleans(), min_size=1, max_size=3),
        room=st.integers(0, 30),
        skipped=st.sampled_from([0, 0, 0, 0, 1]),
    )
    def deliver(self, chat: ChatId, events: list[bool], room: int, skipped: int) -> None:
        """Durable events of a chat, some of which the profile does not show, and some lost on the way."""
        first = self.numbers.get(chat, 0) + 1 + skipped
        shown = [
            (number, self.payload() if visible else None) for number, visible in enumerate(events, first)
        ]
        self.numbers[chat] = shown[-1][0]
        (bundle,) = bundles(shown, log_of=chat)
        assert bundle.span == Span(chat, first, first + len(events) - 1)
        position = self.accepted.get(chat)
        if self.protocol.closing is not None:
            self.put(bundle, room, expected=False)
        elif position is None or first == position + 1:
            self.put(bundle, room, expected=True)
            self.accepted[chat] = self.numbers[chat]
        else:
            self.put(bundle, room, expected=False)
            assert self.protocol.positions is not None
            assert chat in self.protocol.positions.behind

    @rule(count=st.integers(1, 3), room=st.integers(0, 30))
    def deliver_ephemeral(self, count: int, room: int) -> None:
        (bundle,) = bundles([(0, self.payload()) for _ in range(count)], is_ephemeral=True)
        self.put(bundle, room, expected=self.protocol.closing is None)

    @rule(chat=names)
    def replay(self, chat: ChatId) -> None:
        """The log was read: the chat's events up to its end were accepted."""
        assert self.protocol.positions is not None
        if chat in self.protocol.positions.behind:
            self.protocol.positions.catch_up(chat, self.numbers[chat])
            self.accepted[chat] = self.numbers[chat]

    @rule(message=st.text(max_size=3) | st.binary(max_size=3), room=st.integers(0, 30))
    def receive(self, message: str | bytes, room: int) -> None:
        effects = self.protocol.receive(message)
        assert effects == (() if self.protocol.closing is not None else echo(message))
        for effect in effects:
            assert isinstance(effect, Reply)
            self.put(Bundle.of(effect.payload, is_ephemeral=False), room, expected=True)

    @rule(seconds=st.sampled_from([0.0, 1.0, SILENCE - 1.0, SILENCE]), room=st.integers(0, 30))
    def wait(self, seconds: float, room: int) -> None:
        self.now += seconds
        due = self.now >= self.protocol.deadline
        bundle = self.protocol.tick(self.now)
        assert (bundle is not None) == due
        if bundle is not None:
            assert list(payloads(bundle.joined)) == [b"still here"]
            self.put(bundle, room, expected=True)
            assert self.protocol.deadline == (inf if self.protocol.closing else self.now + SILENCE)

    @precondition(lambda self: self.has_writer)
    @rule()
    def write(self) -> None:
        """The connection has room again."""
        self.written += self.rest
        self.rest = b""
        output = self.protocol.next_write()
        if isinstance(output, bytes):
            assert output
            self.written += output
        else:
            self.has_writer = False
            self.closed = output

    @rule(close=st.sampled_from([RESTARTING, Close(1008, "session_revoked")]))
    def close(self, close: Close) -> None:
        before = self.protocol.closing
        needed = self.protocol.close(close)
        assert self.protocol.closing == (before or close)
        assert needed == (before is None and self.is_open and not self.has_writer)
        self.has_writer |= needed

    # --- what holds ---

    def payload(self) -> bytes:
        self.frames += 1
        return b"%d" % self.frames

    def put(self, bundle: Bundle, room: int, *, expected: bool) -> None:
        """Deliver a bundle into a connection with some room."""
        output = self.protocol.deliver(bundle, self.now)
        if expected:
            self.sent += [(frame, bundle.is_ephemeral) for frame in bundle.frames]
        else:
            assert output == b""
        if output:
            assert self.is_open
            assert not self.has_writer
            assert output == bundle.joined
            accepted = min(room, len(output))
            self.written += output[:accepted]
            if accepted < len(output):
                self.rest = output[accepted:] if accepted else b""
                output = self.protocol.stall(bundle, accepted)
                self.has_writer = True
        if output is None:
            assert self.protocol.closing is SLOW_CONSUMER
            assert not bundle.is_ephemeral

    @invariant()
    def frames_leave_in_order(self) -> None:
        """What was written is what was accepted, in order, without some ephemeral frames."""
        left = iter(self.sent)
        for payload in payloads(self.written + self.rest):
            for frame, is_ephemeral in left:
                if frame == text_frame(payload):
                    break
                assert is_ephemeral, "a durable frame was overtaken or lost"
            else:
                raise AssertionError("a frame was written that was never accepted, or twice")
        waiting = [frame for frame, is_ephemeral in left if not is_ephemeral]
        if self.protocol.closing is None:
            assert len(waiting) <= self.protocol.waiting <= SMALL.outbox_frames
        if self.closed is not None and self.closed is not SLOW_CONSUMER:
            assert waiting == [], "a close comes after all frames"

    @invariant()
    def what_waits_has_a_writer(self) -> None:
        if self.is_open and not self.has_writer:
            assert self.protocol.waiting == 0
            assert self.protocol.closing is self.closed

    @invariant()
    def positions_are_what_was_accepted(self) -> None:
        assert self.protocol.positions is not None
        if self.protocol.closing is None:
            assert self.protocol.positions.accepted == self.accepted

    @invariant()
    def a_closing_socket_has_no_deadline(self) -> None:
        if self.protocol.closing is not None or not self.is_open:
            expected = self.protocol.deadline == inf or not self.is_open
        else:
            expected = self.now < self.protocol.deadline <= self.now + SILENCE
        assert expected


class TestProtocol(ProtocolMachine.TestCase):  # type: ignore[misc,valid-type] # Hypothesis makes the class
    """Every sequence of deliveries, messages, ticks, writes and closes."""

    settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# --- profile 1 ----------------------------------------------------------------------------------------------


@given(st.text() | st.binary())
def test_profile_1_ignores_what_its_client_sends(message: str | bytes) -> None:
    """Whatever the client sends asks for nothing."""
    protocol = SocketProtocol(PLAIN, SMALL)
    protocol.open(1.0)
    assert protocol.receive(message) == ()
    assert protocol.closing is None


def test_profile_1_has_no_deadline_and_counts_nothing() -> None:
    """It gets events and nothing else; a number that is left out does not matter to it."""
    protocol = SocketProtocol(PLAIN, SMALL)
    assert protocol.deadline == inf
    protocol.open(1.0)
    assert protocol.deadline == inf
    assert protocol.tick(1e9) is None
    assert protocol.positions is None
    for number in (5, 9, 7):
        (bundle,) = bundles([(number, b"event")])
        assert protocol.deliver(bundle, 2.0) == bundle.joined


def test_the_profiles() -> None:
    """`profile=1` is the checklist's, and there is no other."""
    assert dict(PROFILES) == {"1": PLAIN}


# --- the end ------------------------------------------------------------------------------------------------


def test_after_the_end_nothing_happens() -> None:
    """A connection that is over is neither written to nor closed, and its deadline is infinite."""
    protocol = SocketProtocol(LIVELY, SMALL)
    protocol.open(1.0)
    bundle = Bundle.of(b"event", is_ephemeral=False)
    assert protocol.deliver(bundle, 1.0) == bundle.joined
    protocol.stall(bundle, 0)
    protocol.end()
    assert protocol.closing == GONE
    assert protocol.deadline == inf
    assert protocol.next_write() is None
    assert protocol.deliver(bundle, 2.0) == b""
    assert protocol.receive("x") == ()
    assert protocol.close(RESTARTING) is False
    assert protocol.tick(1e9) is None
    assert protocol.open(3.0) is False
    protocol.end()
    assert protocol.closing == GONE


def test_the_end_keeps_the_close() -> None:
    """The reason why a socket was closed outlives its connection."""
    protocol = SocketProtocol(PLAIN, SMALL)
    assert protocol.close(RESTARTING) is False, "nobody can write it yet"
    protocol.end()
    assert protocol.closing == RESTARTING
    assert protocol.next_write() is None


# --- bundles ------------------------------------------------------------------------------------------------


@given(
    st.lists(st.none() | st.sampled_from([1, 100, 30_000, WRITE_BYTES, 2 * WRITE_BYTES]), max_size=8),
    st.booleans(),
)
def test_bundles_hold_all_events_in_order(sizes: list[int | None], durable: bool) -> None:
    """Each bundle fits one write or is one frame; their spans follow each other and hide nothing."""
    shown = [(7 + n, None if size is None else b"%d" % n * size) for n, size in enumerate(sizes)]
    chat = ChatId(5) if durable else None
    made = bundles(shown, log_of=chat, is_ephemeral=not durable)
    assert b"".join(bundle.joined for bundle in made) == b"".join(
        text_frame(payload) for _, payload in shown if payload is not None
    )
    for bundle in made:
        assert b"".join(bundle.frames) == bundle.joined
        assert len(bundle.joined) <= WRITE_BYTES or len(bundle.frames) == 1
        assert bundle.is_ephemeral is not durable
    for one, next_one in pairwise(made):
        assert len(one.joined) + len(next_one.frames[0]) > WRITE_BYTES
    spans = [bundle.span for bundle in made if bundle.span is not None]
    if not durable:
        assert all(bundle.frames for bundle in made)
    if durable and sizes:
        numbers = [number for span in spans for number in range(span.first, span.last + 1)]
        assert numbers == [number for number, _ in shown]
        assert {span.chat_id for span in spans} == {chat}
    else:
        assert spans == []


# --- positions ----------------------------------------------------------------------------------------------


def test_positions_move_without_gaps() -> None:
    """Events at or below the position are left out; those beyond a gap are, too, until the log was read."""
    positions = Positions()
    one, other = ChatId(1), ChatId(2)
    assert positions.accept(Span(one, 5, 6))
    assert positions.accept(Span(other, 1, 1))
    assert positions.accept(Span(one, 7, 7))
    assert not positions.accept(Span(one, 6, 7))
    assert set(positions.behind) == set()
    assert not positions.accept(Span(one, 7, 8)), "the log has 8, without 7"
    assert set(positions.behind) == {one}
    assert not positions.accept(Span(one, 9, 9))
    assert positions.accepted == {one: 7, other: 1}
    positions.catch_up(one, 9)
    assert set(positions.behind) == set()
    assert positions.accept(Span(one, 10, 12))
    assert positions.accepted == {one: 12, other: 1}

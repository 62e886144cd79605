"""One socket's protocol: in whichever order things happen, frames leave in order, once, and a close last."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from messaging_core.ids import ChatId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Presence, PresenceStatus
from messaging_core.profiles import (
    PLAIN,
    WATCHED_PEOPLE,
    Carry,
    Close,
    Profile,
    Refusal,
    Reply,
    Resume,
    SocketEffect,
    WatchPeople,
)
from messaging_core.sockets import (
    DEFERRED,
    GONE,
    RESTARTING,
    RESUME_EXPECTED,
    RESUME_LATE,
    SLOW_CONSUMER,
    TOO_BIG,
    WRITE_BYTES,
    Bundle,
    Positions,
    SocketProtocol,
    Span,
    WatchList,
    bundles,
    counted_bundles,
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
            assert self.protocol.positions.behind[chat] == self.numbers[chat]

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
            self.put(Bundle.of(effect.payload, is_ephemeral=False), room, expected=True, live=False)

    @rule(seconds=st.sampled_from([0.0, 1.0, SILENCE - 1.0, SILENCE]), room=st.integers(0, 30))
    def wait(self, seconds: float, room: int) -> None:
        self.now += seconds
        due = self.now >= self.protocol.deadline
        bundle = self.protocol.tick(self.now)
        assert (bundle is not None) == due
        if bundle is not None:
            assert isinstance(bundle, Bundle)
            assert list(payloads(bundle.joined)) == [b"still here"]
            self.put(bundle, room, expected=True, live=False)
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

    def put(self, bundle: Bundle, room: int, *, expected: bool, live: bool = True) -> None:
        """Deliver or put a bundle into a connection with some room."""
        output = (self.protocol.deliver if live else self.protocol.put)(bundle, self.now)
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


# --- resuming -----------------------------------------------------------------------------------------------


def asks(message: str | bytes) -> Sequence[SocketEffect]:
    """What the letters of a message ask for."""
    known: dict[str, SocketEffect] = {
        "r": Resume("log", {ChatId(1): 5}),
        "c": Carry("command", in_turn=True),
        "n": Carry("at once"),
        "p": Reply(b"pong"),
        "w": WatchPeople((UserId(2), UserId(1), UserId(2))),
        "u": WatchPeople(()),
    }
    return tuple(known[letter] for letter in str(message) if letter in known)


def refuses(reason: Refusal, effect: Carry | Resume) -> bytes:
    del effect
    return reason.encode()


ASKING = Profile(lambda *_: None, receive=asks, refuse=refuses, counts=True, silence=SILENCE)
ONE, OTHER = ChatId(1), ChatId(2)


def event(number: int, chat: ChatId = ONE) -> Bundle:
    (bundle,) = bundles([(number, b"event")], log_of=chat)
    return bundle


def resuming(limits: Limits = SMALL) -> SocketProtocol:
    protocol = SocketProtocol(ASKING, limits, resumes=True)
    protocol.open(100.0)
    return protocol


def test_a_socket_that_resumes_leaves_out_live_events_until_its_client_has_the_missed_ones() -> None:
    """Durable ones are noted for the log, ephemeral ones are lost; replies and missed events pass."""
    protocol = resuming()
    positions = protocol.positions
    assert positions is not None
    assert protocol.deliver(event(7), 100.0) == b""
    (deferred,) = counted_bundles([(3, DEFERRED)], OTHER)
    assert protocol.deliver(deferred, 100.0) == b""
    assert protocol.deliver(Bundle.of(b"typing", is_ephemeral=True), 100.0) == b""
    assert protocol.put(Bundle.of(b"hello"), 100.0) == text_frame(b"hello")
    assert protocol.receive("r") == asks("r")
    positions.resume({ONE: 5, ChatId(3): 9}, {ONE: 6, ChatId(3): 9})
    assert dict(positions.behind) == {ONE: 7, OTHER: 3}, "what was heard counts, and chat 3 misses nothing"
    assert not protocol.is_behind, "it is not live yet"
    assert protocol.deliver(event(8), 100.0) == b""
    positions.catch_up(ONE, 7)
    assert positions.behind[ONE] == 8
    positions.catch_up(ONE, 8)
    positions.catch_up(OTHER, 3)
    assert dict(positions.behind) == {}
    positions.is_held = False
    assert protocol.deliver(event(9), 100.0)
    assert protocol.deliver(event(10, ChatId(3)), 100.0)
    assert dict(positions.accepted) == {ONE: 9, OTHER: 3, ChatId(3): 10}


def test_a_client_that_starts_over_is_live_at_once() -> None:
    """Its positions are forgotten: each chat begins with its next event."""
    protocol = resuming()
    assert protocol.positions is not None
    protocol.deliver(event(7), 100.0)
    protocol.positions.resume({OTHER: 1}, {OTHER: 2})
    protocol.positions.begin_anew()
    assert not protocol.is_behind
    assert protocol.deliver(event(9), 100.0)
    assert dict(protocol.positions.accepted) == {ONE: 9}


@pytest.mark.parametrize("message", ["", "p", "c", "w", "rp", "x"])
def test_the_first_message_of_a_client_that_resumes_is_its_positions(message: str) -> None:
    """With any other one the socket is closed, with a code after which the client does not come back."""
    assert resuming().receive(message) == (RESUME_EXPECTED,)
    assert 4500 <= RESUME_EXPECTED.code <= 4999


def test_positions_that_come_late_close_the_socket() -> None:
    """The client has 10 s, and may try again; in time, the socket's deadline is that of its silence."""
    protocol = resuming()
    assert protocol.deadline == 110.0
    assert protocol.tick(109.9) is None
    assert protocol.tick(110.0) == RESUME_LATE
    assert 4000 <= RESUME_LATE.code <= 4499
    in_time = resuming()
    in_time.receive("r")
    assert in_time.deadline == 100.0 + SILENCE


def test_positions_are_expected_once() -> None:
    """Later ones, and those of a client that did not ask to resume, are refused."""
    for protocol in (resuming(), SocketProtocol(ASKING, SMALL)):
        if protocol.awaits_resume:
            protocol.receive("r")
        assert protocol.receive("rp") == (Reply(b"resume_unexpected"), Reply(b"pong"))


def test_a_message_that_is_too_big_closes_the_socket() -> None:
    """The bounds are in bytes of UTF-8: one for positions, and one for everything else."""
    limits = Limits(command_bytes=1024, resume_bytes=2048)
    for first, size in ((True, 2048), (False, 1024)):
        for message in ("x" * size, b"x" * size, "é" * (size // 2)):
            protocol = SocketProtocol(ASKING, limits, resumes=first)
            assert protocol.receive(message) == ((RESUME_EXPECTED,) if first else ())
            assert protocol.receive(message[:-1] + message[:2]) == (TOO_BIG,)  # type: ignore[operator]
    assert SocketProtocol(PLAIN, limits).receive("x" * 10_000) == ()


# --- what is shown from the log -----------------------------------------------------------------------------


def test_an_event_that_is_shown_from_the_log_puts_its_chat_behind() -> None:
    """Later events of the chat are left out until the log was read; those of others are not."""
    protocol = SocketProtocol(ASKING, SMALL)
    protocol.open(1.0)
    made = counted_bundles([(4, b"a"), (5, None), (6, DEFERRED), (7, b"b")], ONE)
    assert [(bundle.span, bundle.is_deferred) for bundle in made] == [
        (Span(ONE, 4, 5), False),
        (Span(ONE, 6, 6), True),
        (Span(ONE, 7, 7), False),
    ]
    assert [protocol.deliver(bundle, 1.0) for bundle in made] == [text_frame(b"a"), b"", b""]
    assert protocol.positions is not None
    assert (protocol.positions.accepted[ONE], protocol.positions.behind[ONE]) == (5, 7)
    assert protocol.is_behind
    (new,) = counted_bundles([(1, DEFERRED)], OTHER)
    protocol.deliver(new, 1.0)
    assert (protocol.positions.accepted[OTHER], protocol.positions.behind[OTHER]) == (0, 1)
    protocol.positions.catch_up(OTHER, 1)
    protocol.deliver(new, 1.0)
    assert OTHER not in protocol.positions.behind, "it was accepted from the log already"
    assert counted_bundles([], ONE) == []


def test_the_half_of_the_outbox_is_for_live_events() -> None:
    """What is not live has room in the other half, or alone in an empty outbox."""
    protocol = SocketProtocol(ASKING, Limits(outbox_frames=4, outbox_bytes=100_000, message_characters=1))
    one, two, three = (Bundle([b"x"] * count, b"x" * count) for count in (1, 2, 3))
    large = Bundle.of(b"x" * 60_000)
    assert [protocol.has_room(each) for each in (one, two, three, large)] == [True, True, False, True]
    protocol.put(one, 1.0)
    assert [protocol.has_room(each) for each in (one, two, large)] == [True, False, False]


# --- commands -----------------------------------------------------------------------------------------------


def test_commands_take_turns() -> None:
    """One is carried out at a time, and as many as the limit wait; a further one is refused."""
    protocol = SocketProtocol(ASKING, Limits(commands_queued=2))
    command = Carry("command", in_turn=True)
    assert protocol.carried() is None
    assert protocol.receive("c") == (command,)
    assert protocol.receive("ccnc") == (Carry("at once"), Reply(b"too_many_commands"))
    assert protocol.carried() == command
    assert protocol.receive("c") == ()
    assert protocol.is_carrying
    assert [protocol.carried() for _ in range(3)] == [command, command, None]
    assert protocol.receive("c") == (command,)


def test_a_closing_socket_carries_out_no_waiting_command() -> None:
    """The session may have ended."""
    protocol = SocketProtocol(ASKING, SMALL)
    protocol.receive("cc")
    protocol.close(RESTARTING)
    assert protocol.carried() is None
    assert protocol.receive("c") == ()
    assert protocol.put(Bundle.of(b"ack"), 1.0) == b""


# --- presence -----------------------------------------------------------------------------------------------


def test_a_list_of_watched_people_replaces_the_last() -> None:
    """Nobody is watched at first, after an empty list, and by what a refused or late message names."""
    protocol = resuming()
    assert protocol.receive("w") == (RESUME_EXPECTED,)
    assert protocol.watch_list is None
    protocol = SocketProtocol(ASKING, SMALL)
    assert protocol.receive("w") == asks("w")
    watch_list = protocol.watch_list
    assert watch_list is not None
    assert list(watch_list.user_ids) == [2, 1]
    protocol.receive("w")
    assert protocol.watch_list is not watch_list
    protocol.receive("u")
    assert protocol.watch_list is None
    protocol.end()
    assert protocol.receive("w") == ()
    assert protocol.watch_list is None


def test_a_list_of_watched_people_is_bounded() -> None:
    """Whatever an adapter makes of its client's messages."""
    people = [UserId(number) for number in range(1, WATCHED_PEOPLE + 2)]
    assert len(WatchPeople(tuple(people[1:])).user_ids) == WATCHED_PEOPLE
    with pytest.raises(ValueError, match="user_ids"):
        WatchPeople(tuple(people))


presences = st.builds(
    Presence,
    st.sampled_from([UserId(1), UserId(2), UserId(3)]),
    st.sampled_from(PresenceStatus),
    st.none() | st.sampled_from([datetime(2026, 11, 29, hour, tzinfo=UTC) for hour in range(3)]),
)


@given(st.lists(presences))
def test_news_is_what_a_client_does_not_have(found: list[Presence]) -> None:
    """Each change of a watched person once; of those who are online, not the time."""
    watch_list = WatchList([UserId(1), UserId(2)])
    held: dict[UserId, object] = {}
    for each in found:
        is_online = each.status is PresenceStatus.ONLINE
        shown = each.status if is_online else (each.status, each.last_seen)
        is_new = each.user_id != 3 and held.get(each.user_id) != shown
        assert watch_list.news({each.user_id: each}) == [each] * is_new
        if is_new:
            watch_list.note(each)
            held[each.user_id] = shown
        assert watch_list.news({each.user_id: each}) == []


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

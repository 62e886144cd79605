"""The hub: every socket of the audience receives its events in order, and none slows another."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from math import inf

import pytest
import trio
import trio.testing
from attrs import frozen
from structlog.testing import capture_logs
from trio.abc import Clock

from adapters.runtime import Hub, Subscription, TooManySockets
from adapters.runtime.alarms import Alarms
from messaging_core.effects import Deliver, DeliverEphemeral
from messaging_core.events import (
    THE_CHAT,
    ChatCreated,
    Event,
    LogEntry,
    MessageCreated,
    MessageSubject,
    Typing,
    event_name,
)
from messaging_core.frames import PlainFrame, PlainMessage
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor, Chat, Message, MessageType
from messaging_core.profiles import PLAIN, Carry, Close, Profile, Reply, SocketEffect
from messaging_core.sockets import OUR_FAULT, RESTARTING, SLOW_CONSUMER, payloads

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
ALICE, BOB = Actor(UserId(1), SessionId(1)), Actor(UserId(2), SessionId(2))
CHAT = Chat(ChatId(1), "Direct Message", False, NOW, (), 0, NOW, None)


def written(frame: PlainFrame) -> bytes:
    return str(frame.data.id).encode()


class LimitedTransport:
    """Writes `room` bytes at once, and all others by a task, unless `blocked`; records what it writes."""

    def __init__(self, nursery: trio.Nursery, room: int = 0) -> None:
        self.room = room
        self.rest = b""
        self.received = b""
        self.writes = 0
        self.writers = 0
        self.blocked = False
        self.closed: Close | None = None
        self._nursery = nursery

    def offer(self, frames: bytes) -> int:
        assert not self.rest, "a frame would overtake the rest of another"
        taken = min(self.room, len(frames))
        self.room -= taken
        self.received += frames[:taken]
        self.rest = frames[taken:] if taken else b""
        self.writes += 1
        return taken

    async def write(self, frames: bytes) -> None:
        if self.blocked:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self.received += self.rest + frames
        self.rest = b""

    async def close(self, code: int, reason: str) -> None:
        assert not self.rest
        assert self.closed is None
        await trio.lowlevel.checkpoint()
        self.closed = Close(code, reason)

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        self.writers += 1
        self._nursery.start_soon(task)

    @property
    def messages(self) -> list[str]:
        return [payload.decode() for payload in payloads(self.received)]


@contextmanager
def connected(hub: Hub, actor: Actor) -> Iterator[Subscription]:
    socket = hub.connect(actor)
    try:
        yield socket
    finally:
        hub.disconnect(socket)


async def settled() -> None:
    """Wait until every task waits."""
    await trio.testing.wait_all_tasks_blocked()


async def closed(socket: Subscription) -> tuple[list[str], Close | None]:
    """The messages that a socket writes, and its close."""
    async with trio.open_nursery() as nursery:
        transport = LimitedTransport(nursery)
        socket.attach(transport)
        await settled()
    return transport.messages, transport.closed


def created(number: int, *audience: UserId) -> Deliver:
    message = Message(
        MessageId(number),
        ChatId(1),
        UserId(1),
        MessageType.TEXT,
        "Hello",
        None,
        NOW,
        None,
        None,
        None,
        number,
        number,
    )
    entry = LogEntry(ChatId(1), number, "message.created", MessageSubject(message.id), NOW)
    return Deliver(MessageCreated(message), audience, entry)


@pytest.fixture
def hub() -> Hub:
    return Hub(Limits(outbox_frames=4, sockets_per_user=2), written)


async def test_every_socket_of_the_audience_receives_an_event(hub: Hub) -> None:
    """Two sockets of one user and one of the other user receive it; a stranger's socket does not."""
    with (
        connected(hub, ALICE) as tab,
        connected(hub, ALICE) as other_tab,
        connected(hub, BOB) as bobs,
        connected(hub, Actor(UserId(3), SessionId(3))) as strangers,
    ):
        hub.deliver(created(1, UserId(1), UserId(2)))
        hub.deliver(created(2, UserId(1), UserId(2)))
        hub.drain()
        for socket in (tab, other_tab, bobs):
            assert await closed(socket) == (["1", "2"], RESTARTING)
        assert await closed(strangers) == ([], RESTARTING)


async def test_a_plain_socket_receives_only_events_of_profile_1(hub: Hub) -> None:
    """`chat.created` is no event of it."""
    with connected(hub, ALICE) as socket:
        entry = LogEntry(ChatId(1), 1, "chat.created", THE_CHAT, NOW)
        hub.deliver(Deliver(ChatCreated(CHAT), (UserId(1),), entry))
        hub.deliver(created(1, UserId(1)))
        hub.drain()
        assert await closed(socket) == (["1"], RESTARTING)


@pytest.mark.parametrize("room", range(12))
async def test_frames_arrive_whole_and_in_order(hub: Hub, room: int, nursery: trio.Nursery) -> None:
    """Wherever the transport stops amid a frame."""
    transport = LimitedTransport(nursery, room)
    with connected(hub, ALICE) as socket:
        socket.attach(transport)
        for number in range(1, 5):
            hub.deliver(created(number, UserId(1)))
            if number % 2:
                hub.flush()
        await settled()
        assert transport.messages == ["1", "2", "3", "4"]
        transport.room = 100
        hub.deliver(created(5, UserId(1)))
        hub.flush()
        assert transport.messages == ["1", "2", "3", "4", "5"], "an idle transport writes a frame at once"
        hub.drain()
        await settled()
        assert transport.closed == RESTARTING


async def test_the_frames_of_one_turn_are_written_together(hub: Hub, nursery: trio.Nursery) -> None:
    """A commit may hold many messages: each socket needs one write for them, and no task."""
    transport = LimitedTransport(nursery, room=100)
    with connected(hub, ALICE) as socket:
        socket.attach(transport)
        for number in range(1, 5):
            hub.deliver(created(number, UserId(1)))
        assert transport.messages == []
        await settled()
        assert (transport.messages, transport.writes, transport.writers) == (["1", "2", "3", "4"], 1, 0)


async def test_an_audience_may_change_within_one_turn(hub: Hub, nursery: trio.Nursery) -> None:
    """A user who joins between two messages of one commit receives the second and not the first."""
    alices, bobs = LimitedTransport(nursery, room=100), LimitedTransport(nursery, room=100)
    with connected(hub, ALICE) as alice, connected(hub, BOB) as bob:
        alice.attach(alices)
        bob.attach(bobs)
        hub.deliver(created(1, UserId(1)))
        hub.deliver(created(2, UserId(1), UserId(2)))
        await settled()
        assert (alices.messages, bobs.messages) == (["1", "2"], ["2"])


async def test_a_write_is_bounded(nursery: trio.Nursery) -> None:
    """A larger bundle leaves by several writes: what a transport has accepted counts as sent."""
    hub = Hub(Limits(), lambda frame: str(frame.data.id).encode() * 20_000)
    transport = LimitedTransport(nursery, room=1_000_000)
    with connected(hub, ALICE) as socket:
        socket.attach(transport)
        for number in range(1, 9):
            hub.deliver(created(number, UserId(1)))
        await settled()
        assert transport.writes == 3
        assert [message[0] for message in transport.messages] == list("12345678")


async def test_a_slow_consumer_is_closed_alone(hub: Hub, nursery: trio.Nursery) -> None:
    """A socket whose outbox is full is closed with 4408; the others receive everything."""
    stuck, transport = LimitedTransport(nursery), LimitedTransport(nursery, room=1000)
    stuck.blocked = True
    with connected(hub, ALICE) as slow, connected(hub, BOB) as quick:
        slow.attach(stuck)
        quick.attach(transport)
        for number in range(1, 8):
            hub.deliver(created(number, UserId(1), UserId(2)))
            await settled()
        assert transport.messages == ["1", "2", "3", "4", "5", "6", "7"]
        assert transport.closed is None
        nursery.cancel_scope.cancel()
        assert slow.protocol.closing == SLOW_CONSUMER


async def test_a_close_follows_the_queued_frames(hub: Hub) -> None:
    """Frames queued before the close are written first; later ones are dropped."""
    with connected(hub, ALICE) as socket:
        hub.deliver(created(1, UserId(1)))
        hub.close_session(SessionId(1), "session_revoked")
        hub.deliver(created(2, UserId(1)))
        assert await closed(socket) == (["1"], Close(1008, "session_revoked"))


async def test_a_close_reaches_an_idle_socket(hub: Hub, nursery: trio.Nursery) -> None:
    """A session's end closes a socket that has no frames to write."""
    transport = LimitedTransport(nursery)
    with connected(hub, ALICE) as socket:
        socket.attach(transport)
        await settled()
        hub.close_session(SessionId(1), "session_revoked")
        await settled()
        assert (transport.messages, transport.closed) == ([], Close(1008, "session_revoked"))


async def test_only_sockets_of_the_ended_session_close(hub: Hub) -> None:
    """Another session of the same user stays connected."""
    other = Actor(UserId(1), SessionId(9))
    with connected(hub, ALICE) as ended, connected(hub, other) as stays:
        hub.close_session(SessionId(1), "session_revoked")
        hub.deliver(created(1, UserId(1)))
        hub.drain()
        assert await closed(ended) == ([], Close(1008, "session_revoked"))
        assert await closed(stays) == (["1"], RESTARTING)


async def test_a_user_has_a_bounded_number_of_sockets(hub: Hub) -> None:
    """One more is refused; after one of them ends, another may open."""
    with connected(hub, ALICE):
        with connected(hub, ALICE), pytest.raises(TooManySockets), connected(hub, ALICE):
            pass
        with connected(hub, ALICE):
            assert len(hub) == 2
    assert len(hub) == 0
    assert hub.sessions() == set()


async def test_a_socket_that_opens_while_draining_is_closed(hub: Hub) -> None:
    """With 1012, as the others."""
    hub.drain()
    with connected(hub, ALICE) as late:
        assert await closed(late) == ([], RESTARTING)


async def test_an_ended_connection_is_not_written_to(hub: Hub, nursery: trio.Nursery) -> None:
    """Its writer ends without the queued frames, and a second end changes nothing."""
    stuck = LimitedTransport(nursery)
    ended: list[UserId] = []
    hub.gone = ended.append
    socket = hub.connect(ALICE)
    socket.attach(stuck)
    hub.deliver(created(1, UserId(1)))
    hub.flush()
    socket.end()
    hub.disconnect(socket)
    await settled()
    assert (stuck.messages, stuck.closed) == ([], None)
    assert ended == [UserId(1)]


async def test_a_user_is_gone_with_the_last_socket(hub: Hub) -> None:
    """The end of another socket does not call `gone`."""
    ended: list[UserId] = []
    hub.gone = ended.append
    first, last = hub.connect(ALICE), hub.connect(ALICE)
    first.end()
    assert ended == []
    hub.deliver(created(1, UserId(1)))
    hub.drain()
    assert await closed(last) == (["1"], RESTARTING)
    last.end()
    assert ended == [UserId(1)]


# --- profiles -----------------------------------------------------------------------------------------------


@frozen
class NamedFrame:
    """A frame of the tests' profile: the event's name, and its number if it has one."""

    event: str
    sequence: int | None


def named(event: Event, entry: LogEntry | None) -> NamedFrame | None:
    if isinstance(event, ChatCreated):
        return None
    return NamedFrame(event_name(event), None if entry is None else entry.sequence)


def commands(message: str | bytes) -> Sequence[SocketEffect]:
    if message == "fail":
        raise RuntimeError(message)
    match message:
        case "ping":
            return (Reply(b"pong"),)
        case "go":
            return (Close(4000, "gone"),)
        case _:
            return (Carry(message),)


FULL = Profile(named, receive=commands, counts=True, silence=45.0, keepalive=b"keepalive")
"""A profile that shows every message and typing by name, and replies."""


class Encoder:
    """Encodes frames of both profiles, and counts."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def __call__(self, frame: object) -> bytes:
        match frame:
            case PlainFrame(_, PlainMessage(id=number)):
                text = str(number)
            case NamedFrame(name, number):
                text = f"{name} {number}"
            case _:
                raise TypeError(frame)
        self.encoded.append(text)
        return text.encode()


TYPING = DeliverEphemeral(Typing(ChatId(1), UserId(2), is_typing=True), (UserId(1), UserId(2)))


async def test_an_event_is_encoded_once_for_each_profile_in_use(nursery: trio.Nursery) -> None:
    """Not at all without a socket of the audience, and once for all sockets of a profile."""
    encoder = Encoder()
    hub = Hub(Limits(), encoder)
    hub.deliver(created(1, UserId(1), UserId(2)))
    hub.connect(Actor(UserId(3), SessionId(3)))
    hub.flush()
    assert encoder.encoded == []
    plain, full = LimitedTransport(nursery, 1000), LimitedTransport(nursery, 1000)
    for transport, profile in ((plain, PLAIN), (full, FULL)):
        for actor in (ALICE, BOB):
            hub.connect(actor, profile).attach(transport)
    hub.deliver(created(2, UserId(1), UserId(2)))
    hub.deliver(TYPING)
    hub.flush()
    assert encoder.encoded == ["2", "message.created 2", "typing None"]
    assert plain.messages == ["2", "2"]
    assert full.messages == ["message.created 2"] * 2 + ["typing None"] * 2


async def test_an_event_that_cannot_be_encoded_loses_no_other(nursery: trio.Nursery) -> None:
    """A fault in one event, or in one profile, is logged, and the others are delivered."""
    transport = LimitedTransport(nursery, 1000)
    hub = Hub(Limits(), Encoder())
    hub.connect(ALICE, Profile(lambda event, _: event)).attach(LimitedTransport(nursery))
    hub.connect(BOB).attach(transport)
    with capture_logs() as logs:
        hub.deliver(created(1, UserId(1), UserId(2)))
        hub.flush()
    assert [each["event"] for each in logs if each["log_level"] == "error"] == [
        "An event could not be encoded"
    ]
    assert transport.messages == ["1"]


async def test_durable_and_ephemeral_events_keep_their_order(nursery: trio.Nursery) -> None:
    """In a turn, an ephemeral event leaves between the durable ones that surround it."""
    transport = LimitedTransport(nursery, 1000)
    hub = Hub(Limits(), Encoder())
    hub.connect(BOB, FULL).attach(transport)
    hub.deliver(created(1, UserId(2)))
    hub.deliver(TYPING)
    hub.deliver(created(2, UserId(2)))
    await settled()
    assert transport.messages == ["message.created 1", "typing None", "message.created 2"]
    assert transport.writes == 3


async def test_a_stuck_socket_sheds_ephemeral_frames(nursery: trio.Nursery) -> None:
    """They never close a socket, and durable ones replace them."""
    stuck = LimitedTransport(nursery)
    hub = Hub(Limits(outbox_frames=4), Encoder())
    socket = hub.connect(BOB, FULL)
    hub.deliver(created(1, UserId(2)))
    for _ in range(10):
        hub.deliver(TYPING)
    hub.flush()
    assert socket.protocol.waiting == 2, "ephemeral frames fill half of the outbox"
    for number in (2, 3, 4):
        hub.deliver(created(number, UserId(2)))
    hub.flush()
    socket.attach(stuck)
    await settled()
    assert stuck.messages == [f"message.created {number}" for number in (1, 2, 3, 4)]
    assert socket.protocol.closing is None


async def test_a_socket_that_counts_receives_events_in_order_without_gaps(nursery: trio.Nursery) -> None:
    """An event after a gap is left to replay; an event that the profile does not show counts too."""
    transport = LimitedTransport(nursery, 1000)
    hub = Hub(Limits(), Encoder())
    socket = hub.connect(BOB, FULL)
    socket.attach(transport)
    hub.deliver(created(1, UserId(2)))
    hub.deliver(
        Deliver(ChatCreated(CHAT), (UserId(2),), LogEntry(ChatId(1), 2, "chat.created", THE_CHAT, NOW))
    )
    hub.flush()
    hub.deliver(created(3, UserId(2)))
    hub.flush()
    hub.deliver(created(5, UserId(2)))
    hub.flush()
    assert transport.messages == ["message.created 1", "message.created 3"]
    positions = socket.protocol.positions
    assert positions is not None
    assert (dict(positions.accepted), list(positions.behind)) == ({ChatId(1): 3}, [ChatId(1)])


# --- what clients send --------------------------------------------------------------------------------------


async def test_a_clients_message_gets_a_reply_is_carried_out_or_closes(nursery: trio.Nursery) -> None:
    """A reply goes to the one socket, a command to its handler; a close is the last frame."""
    transport, other = LimitedTransport(nursery, 1000), LimitedTransport(nursery, 1000)
    hub = Hub(Limits(), Encoder())
    carried: list[tuple[Subscription, object]] = []
    hub.carry_out = lambda subscription, command: carried.append((subscription, command))
    socket = hub.connect(ALICE, FULL)
    socket.attach(transport)
    hub.connect(ALICE, FULL).attach(other)
    for message in ("ping", b"typing", "go", "ping", "too late"):
        socket.receive(message)
    await settled()
    assert (transport.messages, transport.closed) == (["pong"], Close(4000, "gone"))
    assert (other.messages, other.closed) == ([], None)
    assert carried == [(socket, b"typing")]


async def test_a_message_that_cannot_be_handled_closes_its_own_socket(nursery: trio.Nursery) -> None:
    """The exception closes that socket with 1011, and no other."""
    transport, other = LimitedTransport(nursery, 1000), LimitedTransport(nursery, 1000)
    hub = Hub(Limits(), Encoder())
    socket, bobs = hub.connect(ALICE, FULL), hub.connect(BOB, FULL)
    socket.attach(transport)
    bobs.attach(other)
    bobs.receive("a command without a handler")
    socket.receive("fail")
    await settled()
    assert (transport.closed, other.closed) == (OUR_FAULT, None)


async def test_profile_1_ignores_every_message(hub: Hub, nursery: trio.Nursery) -> None:
    """The client receives its events and nothing else."""
    transport = LimitedTransport(nursery, 1000)
    with connected(hub, ALICE) as socket:
        socket.attach(transport)
        for message in ("ping", "fail", b"\xff", "x" * 100_000):
            socket.receive(message)
        hub.deliver(created(1, UserId(1)))
        await settled()
        assert (transport.messages, transport.closed) == (["1"], None)


# --- deadlines ----------------------------------------------------------------------------------------------


async def test_a_silence_ends_with_a_keepalive(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    """45 s after its last frame, and again after each further 45 s, until the socket ends."""
    transport, plain = LimitedTransport(nursery, 10_000), LimitedTransport(nursery, 1000)
    hub = Hub(Limits(), Encoder())
    hub.connect(ALICE).attach(plain)
    assert len(hub._alarms) == 0, "profile 1 has no deadline"
    await trio.sleep(10)
    socket = hub.connect(BOB, FULL)
    socket.attach(transport)
    await trio.sleep(44)
    hub.deliver(created(1, UserId(2)))
    await trio.sleep(44)
    assert transport.messages == ["message.created 1"]
    await trio.sleep(2)
    assert transport.messages == ["message.created 1", "keepalive"]
    hub.connect(BOB, Profile(named, silence=10, keepalive=b"sooner")).attach(transport)
    await trio.sleep(11)
    assert transport.messages[2:] == ["sooner"], "a later alarm may be due earlier"
    await trio.sleep(60)
    assert transport.messages.count("keepalive") == 2
    socket.end()
    await trio.sleep(200)
    assert transport.messages.count("keepalive") == 2
    assert transport.messages.count("sooner") >= 20
    assert len(hub._alarms) == 1
    assert plain.messages == []


async def test_a_callback_that_fails_stops_no_alarm(nursery: trio.Nursery, autojump_clock: Clock) -> None:
    """The others are still called."""

    class Broken:
        deadline = trio.current_time() + 1

        def tick(self, now: float) -> None:
            self.deadline = inf
            raise RuntimeError

    alarms, rung = Alarms(), trio.Event()

    class Working:
        deadline = trio.current_time() + 2

        def tick(self, now: float) -> None:
            self.deadline = inf
            rung.set()

    alarms.set(Broken())
    alarms.set(Working())
    with trio.fail_after(10), capture_logs() as logs:
        await rung.wait()
    assert [each["event"] for each in logs] == ["A deadline's callback failed"]


# --- the log ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("participants", "named"), [(2, "info"), (10, "info"), (11, "debug"), (1000, "debug")]
)
async def test_the_log_names_few_recipients_and_counts_many(participants: int, named: str) -> None:
    """INFO has a line for each of up to 10 recipients; for more, one line has their number."""
    audience = tuple(UserId(number) for number in range(1, participants + 1))
    hub = Hub(Limits(), written)
    connected = audience[1:]  # one is away
    for user_id in connected:
        hub.connect(Actor(user_id, SessionId(user_id)))
    with capture_logs() as logs:
        hub.deliver(created(7, *audience))
    each = [(named, f"Sending WebSocket event to user {user_id}: message.created") for user_id in connected]
    counted = [("info", f"Sending WebSocket event to {len(connected)} users: message.created")]
    assert [(line["log_level"], line["event"] % tuple(line.get("positional_args", ()))) for line in logs] == [
        ("info", "Message created: 7 in chat 1"),
        ("info", f"Broadcasting to {participants} participants"),
        *(each if named == "info" else counted + each),
    ]

"""The hub: every socket of the audience, in order, and none that slows another."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from adapters.runtime import Hub, LocalSocket, TooManySockets
from adapters.runtime.hub import RESTARTING, SLOW_CONSUMER, Close
from messaging_core.effects import Deliver
from messaging_core.events import THE_CHAT, ChatCreated, LogEntry, MessageCreated, MessageSubject
from messaging_core.frames import PlainFrame
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor, Chat, Message, MessageType
from messaging_core.sockets import payloads

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
ALICE, BOB = Actor(UserId(1), SessionId(1)), Actor(UserId(2), SessionId(2))
CHAT = Chat(ChatId(1), "Direct Message", False, NOW, (), 0, NOW, None)


def written(frame: PlainFrame) -> bytes:
    return str(frame.data.id).encode()


class Line:
    """A transport that takes at once what it has room for, and by a writer everything."""

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
def connected(hub: Hub, actor: Actor) -> Iterator[LocalSocket]:
    socket = hub.connect(actor)
    try:
        yield socket
    finally:
        hub.disconnect(socket)


async def settled() -> None:
    """Everything that can happen without more being asked has happened."""
    await trio.testing.wait_all_tasks_blocked()


async def closed(socket: LocalSocket) -> tuple[list[str], Close | None]:
    """What a socket writes until it is closed, and how it is."""
    async with trio.open_nursery() as nursery:
        line = Line(nursery)
        socket.attach(line)
        await settled()
    return line.messages, line.closed


def created(number: int, *audience: UserId) -> Deliver:
    message = Message(
        MessageId(number), ChatId(1), UserId(1), MessageType.TEXT, "Hello", None, NOW, None, None, None
    )
    entry = LogEntry(ChatId(1), number, "message.created", MessageSubject(message.id), NOW)
    return Deliver(MessageCreated(message), audience, entry)


@pytest.fixture
def hub() -> Hub:
    return Hub(Limits(outbox_frames=4, sockets_per_user=2), written)


async def test_every_socket_of_the_audience_hears_it(hub: Hub) -> None:
    """Two tabs of one user and the other user's socket all hear an event; a stranger's does not."""
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


async def test_what_a_plain_socket_does_not_know_is_not_sent(hub: Hub) -> None:
    """A new chat is no event of profile 1."""
    with connected(hub, ALICE) as socket:
        entry = LogEntry(ChatId(1), 1, "chat.created", THE_CHAT, NOW)
        hub.deliver(Deliver(ChatCreated(CHAT), (UserId(1),), entry))
        hub.deliver(created(1, UserId(1)))
        hub.drain()
        assert await closed(socket) == (["1"], RESTARTING)


@pytest.mark.parametrize("room", range(12))
async def test_nothing_is_overtaken_or_lost(hub: Hub, room: int, nursery: trio.Nursery) -> None:
    """However much of the frames the line takes at once, all come out whole and in order."""
    line = Line(nursery, room)
    with connected(hub, ALICE) as socket:
        socket.attach(line)
        for number in range(1, 5):
            hub.deliver(created(number, UserId(1)))
            if number % 2:
                hub.flush()
        await settled()
        assert line.messages == ["1", "2", "3", "4"]
        line.room = 100
        hub.deliver(created(5, UserId(1)))
        hub.flush()
        assert line.messages == ["1", "2", "3", "4", "5"], "an idle line takes a frame at once"
        hub.drain()
        await settled()
        assert line.closed == RESTARTING


async def test_what_one_turn_delivers_in_a_chat_leaves_by_one_write(hub: Hub, nursery: trio.Nursery) -> None:
    """A commit holds many messages; each socket of a busy group gets them in one go, and no task is made."""
    line = Line(nursery, room=100)
    with connected(hub, ALICE) as socket:
        socket.attach(line)
        for number in range(1, 5):
            hub.deliver(created(number, UserId(1)))
        assert line.messages == []
        await settled()
        assert (line.messages, line.writes, line.writers) == (["1", "2", "3", "4"], 1, 0)


async def test_an_audience_that_changes_in_one_turn_hears_only_its_own(
    hub: Hub, nursery: trio.Nursery
) -> None:
    """Who has come into a chat between two messages of one commit gets the second and not the first."""
    alices, bobs = Line(nursery, room=100), Line(nursery, room=100)
    with connected(hub, ALICE) as alice, connected(hub, BOB) as bob:
        alice.attach(alices)
        bob.attach(bobs)
        hub.deliver(created(1, UserId(1)))
        hub.deliver(created(2, UserId(1), UserId(2)))
        await settled()
        assert (alices.messages, bobs.messages) == (["1", "2"], ["2"])


async def test_what_leaves_at_a_time_is_bounded(nursery: trio.Nursery) -> None:
    """What would be larger than one write goes in several: it would count as written while it waits."""
    hub = Hub(Limits(), lambda frame: str(frame.data.id).encode() * 20_000)
    line = Line(nursery, room=1_000_000)
    with connected(hub, ALICE) as socket:
        socket.attach(line)
        for number in range(1, 9):
            hub.deliver(created(number, UserId(1)))
        await settled()
        assert line.writes == 3
        assert [message[0] for message in line.messages] == list("12345678")


async def test_a_slow_consumer_is_closed_alone(hub: Hub, nursery: trio.Nursery) -> None:
    """A socket that is not read is closed with 4408 at its bound; the others get everything."""
    stuck, line = Line(nursery), Line(nursery, room=1000)
    stuck.blocked = True
    with connected(hub, ALICE) as slow, connected(hub, BOB) as quick:
        slow.attach(stuck)
        quick.attach(line)
        for number in range(1, 8):
            hub.deliver(created(number, UserId(1), UserId(2)))
            await settled()
        assert line.messages == ["1", "2", "3", "4", "5", "6", "7"]
        assert line.closed is None
        nursery.cancel_scope.cancel()
        assert slow.closing == SLOW_CONSUMER


async def test_a_close_comes_after_what_waits(hub: Hub) -> None:
    """What was queued before a close is still written; what comes after it is not."""
    with connected(hub, ALICE) as socket:
        hub.deliver(created(1, UserId(1)))
        hub.close_session(SessionId(1), "session_revoked")
        hub.deliver(created(2, UserId(1)))
        assert await closed(socket) == (["1"], Close(1008, "session_revoked"))


async def test_a_close_reaches_an_idle_socket(hub: Hub, nursery: trio.Nursery) -> None:
    """The end of a session reaches a socket on which nothing happens."""
    line = Line(nursery)
    with connected(hub, ALICE) as socket:
        socket.attach(line)
        await settled()
        hub.close_session(SessionId(1), "session_revoked")
        await settled()
        assert (line.messages, line.closed) == ([], Close(1008, "session_revoked"))


async def test_only_the_ended_sessions_sockets_close(hub: Hub) -> None:
    """Another session of the same user stays connected."""
    other = Actor(UserId(1), SessionId(9))
    with connected(hub, ALICE) as ended, connected(hub, other) as stays:
        hub.close_session(SessionId(1), "session_revoked")
        hub.deliver(created(1, UserId(1)))
        hub.drain()
        assert await closed(ended) == ([], Close(1008, "session_revoked"))
        assert await closed(stays) == (["1"], RESTARTING)


async def test_a_user_has_a_bounded_number_of_sockets(hub: Hub) -> None:
    """One more than allowed is refused, and a place that is given back can be taken again."""
    with connected(hub, ALICE):
        with connected(hub, ALICE), pytest.raises(TooManySockets), connected(hub, ALICE):
            pass
        with connected(hub, ALICE):
            assert len(hub) == 2
    assert len(hub) == 0
    assert hub.sessions() == set()


async def test_who_comes_while_draining_is_sent_away(hub: Hub) -> None:
    """A socket that opens during shutdown is closed with 1012 like the others."""
    hub.drain()
    with connected(hub, ALICE) as late:
        assert await closed(late) == ([], RESTARTING)


# --- the log ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("participants", "named"), [(2, "info"), (10, "info"), (11, "debug"), (1000, "debug")]
)
async def test_each_who_hears_has_a_line_and_in_large_chats_one_line_counts_them(
    participants: int, named: str
) -> None:
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

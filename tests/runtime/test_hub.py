"""The hub: every socket of the audience, in order, and none that slows another."""

from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from adapters.runtime import Hub, LocalSocket, TooManySockets
from adapters.runtime.hub import RESTARTING, SLOW_CONSUMER, Close
from messaging_core.effects import Deliver
from messaging_core.events import ChatCreated, LogEntry, MessageCreated
from messaging_core.fanout import PlainFrame
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
    """A transport that takes at once what it has room for, and by its writer everything."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.rest = b""
        self.received = b""
        self.blocked = False

    def offer(self, frame: bytes) -> int:
        assert not self.rest, "a frame would overtake the rest of another"
        taken = min(self.room, len(frame))
        self.room -= taken
        self.received += frame[:taken]
        self.rest = frame[taken:] if taken else b""
        return taken

    async def write(self, frames: bytes) -> None:
        if self.blocked:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        self.received += self.rest + frames
        self.rest = b""

    @property
    def messages(self) -> list[str]:
        return [payload.decode() for payload in payloads(self.received)]


async def closed(socket: LocalSocket, line: Line | None = None) -> tuple[list[str], Close]:
    """What a socket writes until it is closed, and how it is."""
    line = line or Line()
    with trio.fail_after(5):
        close = await socket.write_to(line)
    return line.messages, close


def created(number: int, *audience: UserId) -> Deliver:
    message = Message(
        MessageId(number), ChatId(1), UserId(1), MessageType.TEXT, "Hello", None, NOW, None, None, None
    )
    entry = LogEntry(ChatId(1), number, "message.created", message.id, NOW)
    return Deliver(MessageCreated(message), audience, entry)


@pytest.fixture
def hub() -> Hub:
    return Hub(Limits(outbox_frames=4, sockets_per_user=2), written)


async def test_every_socket_of_the_audience_hears_it(hub: Hub) -> None:
    """Two tabs of one user and the other user's socket all hear an event; a stranger's does not."""
    with (
        hub.connected(ALICE) as tab,
        hub.connected(ALICE) as other_tab,
        hub.connected(BOB) as bobs,
        hub.connected(Actor(UserId(3), SessionId(3))) as strangers,
    ):
        hub.deliver(created(1, UserId(1), UserId(2)))
        hub.deliver(created(2, UserId(1), UserId(2)))
        hub.drain()
        for socket in (tab, other_tab, bobs):
            assert await closed(socket) == (["1", "2"], RESTARTING)
        assert await closed(strangers) == ([], RESTARTING)


async def test_what_a_plain_socket_does_not_know_is_not_sent(hub: Hub) -> None:
    """A new chat is no event of profile 1."""
    with hub.connected(ALICE) as socket:
        entry = LogEntry(ChatId(1), 1, "chat.created", None, NOW)
        hub.deliver(Deliver(ChatCreated(CHAT), (UserId(1),), entry))
        hub.deliver(created(1, UserId(1)))
        hub.drain()
        assert await closed(socket) == (["1"], RESTARTING)


@pytest.mark.parametrize("room", range(12))
async def test_nothing_is_overtaken_or_lost(hub: Hub, room: int) -> None:
    """However much of the frames the line takes at once, all come out whole and in order."""
    line = Line(room)
    with hub.connected(ALICE) as socket:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.write_to, line)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(1, 5):
                hub.deliver(created(number, UserId(1)))
            await trio.testing.wait_all_tasks_blocked()
            assert line.messages == ["1", "2", "3", "4"]
            line.room = 100
            hub.deliver(created(5, UserId(1)))
            assert line.messages == ["1", "2", "3", "4", "5"], "an idle line takes a frame at once"
            hub.drain()


async def test_a_slow_consumer_is_closed_alone(hub: Hub) -> None:
    """A socket that is not read is closed with 4408 at its bound; the others get everything."""
    stuck, line = Line(), Line(room=1000)
    stuck.blocked = True
    with hub.connected(ALICE) as slow, hub.connected(BOB) as quick:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow.write_to, stuck)
            nursery.start_soon(quick.write_to, line)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(1, 8):
                hub.deliver(created(number, UserId(1), UserId(2)))
                await trio.testing.wait_all_tasks_blocked()
            assert line.messages == ["1", "2", "3", "4", "5", "6", "7"]
            nursery.cancel_scope.cancel()
        assert await closed(slow) == ([], SLOW_CONSUMER)


async def test_a_close_comes_after_what_waits(hub: Hub) -> None:
    """What was queued before a close is still written; what comes after it is not."""
    with hub.connected(ALICE) as socket:
        hub.deliver(created(1, UserId(1)))
        hub.close_session(SessionId(1), "session_revoked")
        hub.deliver(created(2, UserId(1)))
        assert await closed(socket) == (["1"], Close(1008, "session_revoked"))


async def test_a_close_wakes_a_writer_that_waits(hub: Hub) -> None:
    """The end of a session reaches a socket on which nothing happens."""
    line = Line()
    with hub.connected(ALICE) as socket:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(socket.write_to, line)
            await trio.testing.wait_all_tasks_blocked()
            hub.close_session(SessionId(1), "session_revoked")
        assert line.messages == []


async def test_only_the_ended_sessions_sockets_close(hub: Hub) -> None:
    """Another session of the same user stays connected."""
    other = Actor(UserId(1), SessionId(9))
    with hub.connected(ALICE) as ended, hub.connected(other) as stays:
        hub.close_session(SessionId(1), "session_revoked")
        hub.deliver(created(1, UserId(1)))
        hub.drain()
        assert await closed(ended) == ([], Close(1008, "session_revoked"))
        assert await closed(stays) == (["1"], RESTARTING)


async def test_a_user_has_a_bounded_number_of_sockets(hub: Hub) -> None:
    """One more than allowed is refused, and a place that is given back can be taken again."""
    with hub.connected(ALICE):
        with hub.connected(ALICE), pytest.raises(TooManySockets), hub.connected(ALICE):
            pass
        with hub.connected(ALICE):
            assert len(hub) == 2
    assert len(hub) == 0
    assert hub.sessions() == set()


async def test_who_comes_while_draining_is_sent_away(hub: Hub) -> None:
    """A socket that opens during shutdown is closed with 1012 like the others."""
    hub.drain()
    with hub.connected(ALICE) as late:
        assert await closed(late) == ([], RESTARTING)

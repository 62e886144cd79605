"""Direct frames, encoded once for many sockets: each socket gets them whole and in order.

And adopted sockets: the listener reports their end once, for each cause.
"""

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, field
from structlog.testing import capture_logs

from adapters.listener.direct import EXTENSION, DirectFrames
from adapters.listener.inbox import Inbox
from adapters.listener.websocket import MessageBuffer
from messaging_core.sockets import text_frame
from tests.listener.harness import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    RawPeer,
    Receive,
    RunningListener,
    Send,
    application,
    close_frame,
    connected,
    frame,
    serving,
    socket_to,
    wait_until,
)

Frames = Callable[[DirectFrames, Send], Awaitable[None]]


def pushing(frames: Frames) -> Any:
    """An application that accepts, writes `frames`, and then receives until the end."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        sink: DirectFrames = scope["extensions"][EXTENSION]["sink"]
        assert sink.offer(text_frame(b"too early")) == 0
        await send({"type": "websocket.accept"})
        await frames(sink, send)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        assert sink.offer(text_frame(b"too late")) == 0
        await sink.write(text_frame(b"too late"))

    return application(websocket=app)


async def test_an_offer_is_written_at_once() -> None:
    """Without a pending write a frame is written before any other task runs."""

    async def frames(sink: DirectFrames, send: Send) -> None:
        for payload in (b"", b"x" * 126, b"y" * 65_536):
            offered = text_frame(payload)
            assert sink.offer(offered) == len(offered)

    async with serving(pushing(frames)) as served, socket_to(served) as peer:
        assert [(await peer.frame_of(TEXT)).payload for _ in range(3)] == [b"", b"x" * 126, b"y" * 65_536]


async def test_a_partly_written_frame_is_finished_first() -> None:
    """No other frame starts before its end: an offered one, a message, a pong, a close."""
    begun = trio.Event()
    numbers: list[int] = []

    async def frames(sink: DirectFrames, send: Send) -> None:
        written, size = 1, 1
        while written == size:
            offered = text_frame(b"%06d" % len(numbers) + b"x" * 50_000)
            written, size = sink.offer(offered), len(offered)
            numbers.append(written)
        if not written:
            numbers.pop()
        assert sink.offer(text_frame(b"overtakes")) == 0
        begun.set()
        await sink.write(text_frame(b"first") + text_frame(b"second"))
        await send({"type": "websocket.send", "text": "third"})
        await send({"type": "websocket.close", "code": 4000})

    async with serving(pushing(frames)) as served, socket_to(served, receive_buffer=4096) as peer:
        await begun.wait()
        await peer.send(frame(PING, b"!"))
        received = [(await peer.frame_of(TEXT)).payload for _ in range(len(numbers) + 3)]
        assert [int(payload[:6]) for payload in received[:-3]] == list(range(len(numbers)))
        assert received[-3:] == [b"first", b"second", b"third"]
        assert (await peer.frame_of(CLOSE)).close == (4000, "")


async def test_the_rest_of_a_frame_is_sent_without_more_frames() -> None:
    """A write of nothing finishes an incomplete frame."""

    async def frames(sink: DirectFrames, send: Send) -> None:
        offered = text_frame(b"x" * 60_000)
        while sink.offer(offered) == len(offered):
            pass
        await sink.write(b"")
        await send({"type": "websocket.close"})

    async with serving(pushing(frames)) as served, socket_to(served, receive_buffer=4096) as peer:
        while (found := await peer.frame()).opcode == TEXT:
            assert found.payload == b"x" * 60_000
        assert found.close[0] == 1000


@pytest.mark.parametrize("write_time", [0.3])
async def test_a_peer_that_does_not_read_is_cut_off(write_time: float) -> None:
    """The rest of a frame has the deadline of all writes."""

    async def frames(sink: DirectFrames, send: Send) -> None:
        offered = text_frame(b"x" * 60_000)
        while sink.offer(offered) == len(offered):
            pass
        await sink.write(offered)

    app = pushing(frames)
    async with serving(app, write_time=write_time) as served, socket_to(served, receive_buffer=4096):
        await wait_until(lambda: served.counts.write_timeouts == 1)


def inbox_of(sink: DirectFrames) -> Inbox:
    """The inbox of the socket's application."""
    socket: Any = sink._socket
    found: Inbox = socket._inbox
    return found


# --- sockets that are adopted -------------------------------------------------------------------------------


@define
class AdoptedSocket:
    """A socket without a task of the application."""

    served: RunningListener
    peer: RawPeer
    sink: DirectFrames
    ends: list[float] = field(factory=list)
    """The times at which its end was reported: one."""

    async def end(self) -> None:
        """Wait for the report, and for the connection's end."""
        await wait_until(lambda: bool(self.ends))
        await wait_until(lambda: self.served.counts.open_connections == 0)
        assert self.served.counts.open_sockets == 0


@asynccontextmanager
async def adopted(*, receive_buffer: int | None = None, **numbers: Any) -> AsyncIterator[AdoptedSocket]:
    """A socket whose application has returned; the listener must report its end once. Others may follow."""
    sinks, ends, returned = list[DirectFrames](), list[float](), trio.Event()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        sink: DirectFrames = scope["extensions"][EXTENSION]["sink"]
        mine = [] if sinks else ends
        sink.adopt(lambda: mine.append(trio.current_time()))
        sinks.append(sink)
        returned.set()

    async with (
        serving(application(websocket=app), **{"linger_time": 0.2, **numbers}) as served,
        socket_to(served, receive_buffer=receive_buffer) as peer,
    ):
        await returned.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert not ends
        assert served.counts.open_sockets == 1
        yield AdoptedSocket(served, peer, sinks[0], ends)
    assert len(ends) == 1


async def test_a_disconnect_before_the_accept_is_reported_at_adoption() -> None:
    """The application does not know that its accept was too late: to adopt the socket is no error."""
    asked, ends = trio.Event(), list[str]()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        asked.set()
        assert (await receive())["type"] == "websocket.disconnect"
        await send({"type": "websocket.accept"})
        sink: DirectFrames = scope["extensions"][EXTENSION]["sink"]
        sink.adopt(lambda: ends.append("ended"))

    async with serving(application(websocket=app)) as served:
        async with connected(served) as peer:
            await peer.send(UPGRADE + b"\r\n")
            await asked.wait()
            peer.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await wait_until(lambda: served.counts.open_connections == 0)
        assert served.counts.application_errors == 0
    assert ends == ["ended"]


async def test_an_adopted_socket_stays_open_and_accepts_frames() -> None:
    """Its application has returned; the listener answers pings, and frames arrive."""
    async with adopted() as it:
        for payload in (b"one", b"two"):
            offered = text_frame(payload)
            assert it.sink.offer(offered) == len(offered)
            assert (await it.peer.frame()).payload == payload
            await it.peer.send(frame(PING, payload))
            assert (await it.peer.frame_of(PONG)).payload == payload
        await it.sink.write(text_frame(b"three"))
        assert (await it.peer.frame()).payload == b"three"


@pytest.mark.parametrize("early", [True, False])
async def test_the_messages_of_an_adopted_sockets_peer_are_handed_over(early: bool) -> None:
    """Each message is handed over once, in order, an earlier one too; a fault in one loses no other."""
    received, adoptable = list[str | bytes](), trio.Event()

    def receive_message(message: str | bytes) -> None:
        received.append(message)
        if message == "fail":
            raise RuntimeError(message)

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await adoptable.wait()
        scope["extensions"][EXTENSION]["sink"].adopt(lambda: None, receive_message)

    async with serving(application(websocket=app)) as served, socket_to(served) as peer:
        if not early:
            adoptable.set()
        for number in range(3):
            await peer.send(frame(TEXT, f"text {number}".encode()) + frame(BINARY, bytes([255, number])))
        await peer.send(frame(TEXT, b"") + frame(BINARY, b"") + frame(TEXT, b"fail") + frame(PING, b"!"))
        assert (await peer.frame_of(PONG)).payload == b"!"
        adoptable.set()
        await peer.send(frame(TEXT, b"la", fin=False) + frame(0, b"st"))
        await wait_until(lambda: received[-1:] == ["last"])
        await peer.send(close_frame(1000))
        assert (await peer.frame_of(CLOSE)).close[0] == 1000
    numbered = [each for number in range(3) for each in (f"text {number}", bytes([255, number]))]
    assert received == [*numbered, "", b"", "fail", "last"]
    assert served.counts.application_errors == 1


async def leave_with_a_close(it: AdoptedSocket) -> None:
    await it.peer.send(close_frame(1000))
    assert (await it.peer.frame_of(CLOSE)).close[0] == 1000


async def leave_half(it: AdoptedSocket) -> None:
    await it.peer.half_close()


async def leave_at_once(it: AdoptedSocket) -> None:
    await it.peer.stream.aclose()


async def leave_with_a_reset(it: AdoptedSocket) -> None:
    it.peer.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await it.peer.stream.aclose()


async def be_closed(it: AdoptedSocket) -> None:
    await it.sink.close(4001, "enough")
    assert (await it.peer.frame_of(CLOSE)).close == (4001, "enough")
    await it.peer.send(close_frame(4001))


async def be_closed_and_say_nothing(it: AdoptedSocket) -> None:
    await it.sink.close(4001, "enough")
    assert (await it.peer.gone()).reset


async def close_at_the_same_time(it: AdoptedSocket) -> None:
    await it.peer.send(close_frame(1000))
    await it.sink.close(4001, "enough")


async def be_closed_by_a_task(it: AdoptedSocket) -> None:
    async def task() -> None:
        await it.sink.close(4001, "enough")
        await it.sink.close(4002, "enough and more")

    it.sink.start_soon(task)
    it.sink.start_soon(task)
    assert (await it.peer.frame_of(CLOSE)).close == (4001, "enough")
    await it.peer.send(close_frame(4001))
    assert await it.peer.end() == b""


async def be_silent(it: AdoptedSocket) -> None:
    assert (await it.peer.gone()).reset
    assert it.served.counts.pings_without_pong == 1


async def read_nothing(it: AdoptedSocket) -> None:
    offered = text_frame(b"x" * 60_000)
    while it.sink.offer(offered) == len(offered):
        pass
    await it.sink.write(offered)
    assert it.served.counts.write_timeouts == 1


def send_and_be_closed(sent: bytes, code: int) -> Callable[[AdoptedSocket], Awaitable[None]]:
    async def way(it: AdoptedSocket) -> None:
        await it.peer.send(sent)
        assert (await it.peer.frame_of(CLOSE)).close[0] == code
        assert it.served.counts.protocol_errors == 1

    return way


async def be_restarted(it: AdoptedSocket) -> None:
    it.served.shutdown.set()
    assert (await it.peer.frame_of(CLOSE)).close[0] == 1012
    await it.peer.send(close_frame(1012))
    assert await it.peer.end() == b""


async def be_restarted_and_say_nothing(it: AdoptedSocket) -> None:
    it.served.shutdown.set()
    assert (await it.peer.gone()).reset


async def be_cancelled(it: AdoptedSocket) -> None:
    it.served.cancel()
    await it.peer.gone()


ENDS: dict[str, tuple[Callable[[AdoptedSocket], Awaitable[None]], dict[str, Any]]] = {
    "the peer closes": (leave_with_a_close, {}),
    "the peer ends its side": (leave_half, {}),
    "the peer ends": (leave_at_once, {}),
    "the peer resets": (leave_with_a_reset, {}),
    "the application closes": (be_closed, {}),
    "the application closes, and the peer does not response": (be_closed_and_say_nothing, {}),
    "both close": (close_at_the_same_time, {}),
    "tasks of the application close": (be_closed_by_a_task, {}),
    "no response to a ping": (be_silent, {"ping_interval": 0.1}),
    "the peer does not read": (read_nothing, {"write_time": 0.2, "receive_buffer": 4096}),
    "no frame": (send_and_be_closed(frame(TEXT, b"x", rsv=7), 1002), {}),
    "a frame without a mask": (send_and_be_closed(frame(TEXT, b"x", masked=False), 1002), {}),
    "no UTF-8": (send_and_be_closed(frame(TEXT, b"\xff"), 1007), {}),
    "a message beyond its bound": (
        send_and_be_closed(frame(TEXT, b"x" * 1001), 1009),
        {"message_bytes": 1000},
    ),
    "fragments beyond their bound": (
        send_and_be_closed(
            frame(TEXT, b"x" * 600, fin=False) + frame(0, b"x" * 600, fin=False),
            1009,
        ),
        {"message_bytes": 1000},
    ),
    "a restart": (be_restarted, {}),
    "a restart, and the peer does not response": (be_restarted_and_say_nothing, {}),
    "a cancellation": (be_cancelled, {}),
}


@pytest.mark.parametrize("name", ENDS)
async def test_the_end_of_an_adopted_socket_is_reported_once(name: str) -> None:
    """For each cause; after it nothing is written, started or closed."""
    way, numbers = ENDS[name]
    started = list[str]()

    async def task() -> None:
        started.append("a task")

    async with adopted(**numbers) as it:
        await way(it)
        await it.end()
        assert it.sink.offer(text_frame(b"too late")) == 0
        await it.sink.write(text_frame(b"too late"))
        await it.sink.close(4000, "too late")
        it.sink.start_soon(task)
        await trio.testing.wait_all_tasks_blocked()
        assert not started


async def test_the_adoption_of_an_ended_socket_reports_its_end() -> None:
    """It calls back immediately."""
    calls = list[str]()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        scope["extensions"][EXTENSION]["sink"].adopt(lambda: calls.append("ended"))
        calls.append("adopted")

    async with serving(application(websocket=app)) as served:
        async with socket_to(served):
            pass
        await wait_until(lambda: len(calls) == 2)
    assert calls == ["ended", "adopted"]


async def test_messages_to_an_adopted_socket_are_dropped() -> None:
    """Any amount, whole or in fragments: none stays in memory, and pings are answered meanwhile."""
    async with adopted(message_bytes=1000, inbox_messages=4, inbox_bytes=2000) as it:
        for n in range(50):
            await it.peer.send(frame(TEXT, b"x" * 1000))
            await it.peer.send(frame(2, b"x" * 400, fin=False), frame(PING, b"amid"))
            await it.peer.send(frame(0, b"x" * 600))
            await it.peer.send(frame(PING, b"%d" % n))
            assert (await it.peer.frame_of(PONG)).payload == b"amid"
            assert (await it.peer.frame_of(PONG)).payload == b"%d" % n
        buffer = it.sink._machine._buffer
        assert isinstance(buffer, MessageBuffer)
        assert (buffer.size, buffer._parts) == (0, None)
        inbox = inbox_of(it.sink)
        assert inbox.bytes == 0
        assert not inbox.full


async def test_a_message_may_span_the_adoption() -> None:
    """One limit applies to its parts, which cause no fault."""
    begun, going_on = trio.Event(), trio.Event()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        begun.set()
        await going_on.wait()
        scope["extensions"][EXTENSION]["sink"].adopt(lambda: None)

    async with (
        serving(application(websocket=app), message_bytes=1000) as served,
        socket_to(served) as peer,
    ):
        await begun.wait()
        await peer.send(frame(TEXT, b"x" * 600, fin=False), frame(PING, b"1"))
        assert (await peer.frame_of(PONG)).payload == b"1"
        going_on.set()
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(frame(0, b"x" * 400), frame(PING, b"2"))
        assert (await peer.frame_of(PONG)).payload == b"2"
        await peer.send(frame(TEXT, b"x" * 600, fin=False) + frame(0, b"x" * 401))
        assert (await peer.frame_of(CLOSE)).close[0] == 1009


async def test_the_adoption_empties_the_inbox() -> None:
    """A full inbox, which stops the reader, does not stop it after the adoption."""
    going_on = trio.Event()
    sinks = list[DirectFrames]()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        sinks.append(scope["extensions"][EXTENSION]["sink"])
        await send({"type": "websocket.accept"})
        await going_on.wait()
        sinks[0].adopt(lambda: None)

    async with (
        serving(application(websocket=app), inbox_messages=4, stall_time=60.0) as served,
        socket_to(served) as peer,
    ):
        await peer.send(frame(TEXT, b"x") * 10)
        await wait_until(lambda: inbox_of(sinks[0]).full)
        await trio.testing.wait_all_tasks_blocked()
        going_on.set()
        await peer.send(frame(PING, b"!"))
        assert (await peer.frame_of(PONG)).payload == b"!"


async def test_messages_sent_with_the_handshake_are_dropped() -> None:
    """They wait for the accept, after which the socket is adopted."""

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await trio.testing.wait_all_tasks_blocked()
        await send({"type": "websocket.accept"})
        scope["extensions"][EXTENSION]["sink"].adopt(lambda: None)

    async with (
        serving(application(websocket=app), inbox_messages=4, stall_time=60.0) as served,
        connected(served) as peer,
    ):
        assert (await peer.upgrade(frame(TEXT, b"x") * 10, frame(PING, b"!"))).status == 101
        assert (await peer.frame_of(PONG)).payload == b"!"


async def test_a_task_of_an_adopted_socket_runs_and_may_write() -> None:
    async with adopted() as it:

        async def task() -> None:
            await it.sink.write(text_frame(b"from a task"))

        it.sink.start_soon(task)
        assert (await it.peer.frame()).payload == b"from a task"


async def test_an_exception_in_a_task_is_contained() -> None:
    """It is logged and counted; this socket and others stay open."""

    async def task() -> None:
        raise RuntimeError("a bug")

    with capture_logs() as logs:
        async with adopted() as it, socket_to(it.served) as other:
            it.sink.start_soon(task)
            await wait_until(lambda: it.served.counts.application_errors == 1)
            for peer in (it.peer, other):
                await peer.send(frame(PING, b"!"))
                assert (await peer.frame_of(PONG)).payload == b"!"
    (failed,) = [line for line in logs if line["event"] == "application_failed"]
    assert failed["path"] == "/ws"


async def test_a_task_does_not_outlive_its_connection_for_long() -> None:
    """It is cancelled `abandon_time` after the end, as the application's own task is."""
    cancelled = trio.Event()

    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with adopted(abandon_time=0.1) as it:
        it.sink.start_soon(task)
        await it.peer.send(close_frame(1000))
        await it.end()
        assert cancelled.is_set()


async def test_until_its_adoption_a_socket_has_only_the_applications_task() -> None:
    """No reader runs while the application decides about the accept, nor starts afterwards."""
    living = list[int]()
    asked, decided, adopted_now = trio.Event(), trio.Event(), trio.Event()

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        asked.set()
        await decided.wait()
        await send({"type": "websocket.accept"})
        living.append(trio.lowlevel.current_statistics().tasks_living)
        scope["extensions"][EXTENSION]["sink"].adopt(lambda: None)
        adopted_now.set()

    async with serving(application(websocket=app)) as served:
        await trio.testing.wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        async with connected(served) as peer:
            await peer.send(UPGRADE + b"\r\n")
            await asked.wait()
            await trio.testing.wait_all_tasks_blocked()
            living.append(trio.lowlevel.current_statistics().tasks_living)
            decided.set()
            await adopted_now.wait()
            await trio.testing.wait_all_tasks_blocked()
            living.append(trio.lowlevel.current_statistics().tasks_living)
            assert living == [before + 1, before + 1, before]
            assert (await peer.response()).status == 101
            await peer.send(close_frame(1000))
            assert (await peer.frame()).close == (1000, "")

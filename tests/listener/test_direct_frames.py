"""Frames that the application makes once for many sockets: each socket gets them whole and in order."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from adapters.listener.direct import EXTENSION, DirectFrames
from messaging_core.sockets import text_frame
from tests.listener.harness import (
    CLOSE,
    PING,
    TEXT,
    Receive,
    Send,
    application,
    frame,
    serving,
    socket_to,
    wait_until,
)

Frames = Callable[[DirectFrames, Send], Awaitable[None]]


def pushing(frames: Frames) -> Any:
    """An application that accepts, pushes, and then receives until the end."""

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
    """With nothing in its way a frame is out before any other task runs."""

    async def frames(sink: DirectFrames, send: Send) -> None:
        for payload in (b"", b"x" * 126, b"y" * 65_536):
            offered = text_frame(payload)
            assert sink.offer(offered) == len(offered)

    async with serving(pushing(frames)) as served, socket_to(served) as peer:
        assert [(await peer.frame_of(TEXT)).payload for _ in range(3)] == [b"", b"x" * 126, b"y" * 65_536]


async def test_what_the_kernel_takes_in_part_is_finished_first() -> None:
    """A frame that has begun is ended before another begins: an offered one, a message, a pong, a close."""
    begun = trio.Event()
    numbers: list[int] = []

    async def frames(sink: DirectFrames, send: Send) -> None:
        taken, size = 1, 1
        while taken == size:
            offered = text_frame(b"%06d" % len(numbers) + b"x" * 50_000)
            taken, size = sink.offer(offered), len(offered)
            numbers.append(taken)
        if not taken:
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


async def test_a_rest_is_sent_without_more_frames() -> None:
    """Writing nothing finishes a frame that has begun."""

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
    """The rest of a frame has the deadline that every write has."""

    async def frames(sink: DirectFrames, send: Send) -> None:
        offered = text_frame(b"x" * 60_000)
        while sink.offer(offered) == len(offered):
            pass
        await sink.write(offered)

    app = pushing(frames)
    async with serving(app, write_time=write_time) as served, socket_to(served, receive_buffer=4096):
        await wait_until(lambda: served.counts.write_timeouts == 1)

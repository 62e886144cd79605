"""A peer that sends many small pieces at once takes turns with the other tasks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from adapters.listener.connection import TURN
from tests.listener.harness import (
    PONG,
    TEXT,
    Receive,
    Send,
    application,
    connected,
    echo,
    frame,
    respond,
    serving,
    socket_to,
)

PIECES = 5_000
"""They fit into one read of 64 KiB."""


class OtherTask:
    """Counts the turns of another task."""

    def __init__(self) -> None:
        self.turns = 0

    async def run(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.turns += 1


@asynccontextmanager
async def others() -> AsyncIterator[OtherTask]:
    other = OtherTask()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(other.run)
        yield other
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("first", "many"),
    [
        (b"", frame(PONG)),
        (frame(TEXT, b"", fin=False), frame(0, fin=False)),
    ],
    ids=["unsolicited pongs", "empty fragments"],
)
async def test_other_tasks_run_between_tiny_frames(first: bytes, many: bytes) -> None:
    """Other tasks run after each `TURN` frames."""
    last = frame(0 if first else TEXT, b"last")
    async with serving(echo) as served, socket_to(served) as peer, others() as other:
        before = other.turns
        await peer.send(first + many * PIECES + last)
        assert (await peer.frame()).payload == b"last"
        assert other.turns - before >= PIECES // TURN


async def test_other_tasks_run_between_dropped_chunks() -> None:
    """Other tasks run after each `TURN` chunks of a byte, of a body that is dropped."""

    async def early(_scope: Any, _receive: Receive, send: Send) -> None:
        await respond(send)

    head = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(application(early)) as served, connected(served) as peer, others() as other:
        assert (await peer.ask(head)).status == 200
        before = other.turns
        response = await peer.ask(
            b"1\r\na\r\n" * PIECES + b"0\r\n\r\n" + b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
        )
        assert response.status == 200
        assert other.turns - before >= PIECES // TURN

"""The check's WebSocket client: what it sends, and what it tells of the end, when much happens at once."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from wsproto import ConnectionType, WSConnection, events

from adapters.checklist.client import Client
from adapters.checklist.socket_client import Socket

PATIENCE = 10.0
LARGE = "x" * 16 * 1024 * 1024
"""More than the buffers of a connection on this machine hold."""


class Served:
    """The server's side of one socket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.SERVER)
        self.heard: list[events.Event] = []

    async def send(self, *told: events.Event) -> None:
        await self.stream.send_all(b"".join(map(self.protocol.send, told)))

    async def hear(self, wanted: Callable[[events.Event], bool]) -> None:
        """Read until something like this has come."""
        while not any(wanted(event) for event in self.heard):
            data = await self.stream.receive_some()
            assert data, "the client cut the connection"
            self.protocol.receive_data(bytes(data))
            self.heard += self.protocol.events()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Socket, Served]]:
    """A socket that is open, and its server."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        client = Client(
            f"http://127.0.0.1:{listener.socket.getsockname()[1]}",
            origin="http://localhost:5173",
            patience=PATIENCE,
            nursery=nursery,
        )
        begun: list[Served] = []

        async def accept() -> None:
            served = Served(await listener.accept())
            await served.hear(lambda event: isinstance(event, events.Request))
            await served.send(events.AcceptConnection())
            begun.append(served)

        nursery.start_soon(accept)
        async with listener, client.socket("", whose="Alice") as socket:
            (served,) = begun
            async with served.stream:
                yield socket, served
        await client.aclose()


async def test_a_close_is_answered_after_what_is_being_sent() -> None:
    """The answer to the server's close waits for another task's frame, which goes out whole."""
    with trio.fail_after(PATIENCE):
        async with connected() as (socket, served), trio.open_nursery() as nursery:
            nursery.start_soon(socket._send, events.TextMessage(LARGE))
            await trio.testing.wait_all_tasks_blocked()  # nobody reads: it is under way
            await served.send(events.CloseConnection(4403, "origin"))
            await trio.testing.wait_all_tasks_blocked()
            await served.hear(lambda event: isinstance(event, events.CloseConnection))
            assert await socket.closes(PATIENCE)
    sent = [event for event in served.heard if isinstance(event, events.TextMessage)]
    assert sum(len(event.data) for event in sent) == len(LARGE)
    assert socket.closed == (4403, "origin")


async def test_tasks_that_send_at_the_same_time_take_turns() -> None:
    """Each of several pings goes out, and each is answered."""
    answered: list[bool] = []
    with trio.fail_after(PATIENCE):
        async with connected() as (socket, served), trio.open_nursery() as nursery:

            async def ping() -> None:
                answered.append(await socket.answers(PATIENCE))

            nursery.start_soon(ping)
            nursery.start_soon(ping)
            await served.hear(lambda _: len(_pings(served)) == 2)
            await served.send(*(ping.response() for ping in _pings(served)))
    assert answered == [True, True]


@pytest.mark.parametrize("late", [events.Ping(), events.TextMessage("late")])
async def test_what_comes_too_late_is_not_sent(late: events.Event) -> None:
    """What waits its turn when the server closes stays unsent, and the close keeps its code."""
    with trio.fail_after(PATIENCE):
        async with connected() as (socket, served), trio.open_nursery() as nursery:
            nursery.start_soon(socket._send, events.TextMessage(LARGE))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(socket._send, late)
            await trio.testing.wait_all_tasks_blocked()
            await served.send(events.CloseConnection(4403, "origin"))
            await trio.testing.wait_all_tasks_blocked()
            await served.hear(lambda event: isinstance(event, events.CloseConnection))
            assert await socket.closes(PATIENCE)
    assert not _pings(served)
    assert socket.closed == (4403, "origin")


def _pings(served: Served) -> list[events.Ping]:
    return [event for event in served.heard if isinstance(event, events.Ping)]

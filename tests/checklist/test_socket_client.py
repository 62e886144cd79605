"""The check's WebSocket client: what it sends, and the close code that it records, under concurrency."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from wsproto import ConnectionType, WSConnection, events

from adapters.checklist.client import HttpClient
from adapters.checklist.socket_client import RecordedSocket
from tests.patience import PATIENCE

LARGE = "x" * 16 * 1024 * 1024
"""More than a loopback connection buffers."""


class ServerSide:
    """The server's side of one socket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.protocol = WSConnection(ConnectionType.SERVER)
        self.received: list[events.Event] = []

    async def send(self, *sent: events.Event) -> None:
        await self.stream.send_all(b"".join(map(self.protocol.send, sent)))

    async def receive(self, wanted: Callable[[events.Event], bool]) -> None:
        """Read until an event matches `wanted`."""
        while not any(wanted(event) for event in self.received):
            data = await self.stream.receive_some()
            assert data, "the client cut the connection"
            self.protocol.receive_data(bytes(data))
            self.received += self.protocol.events()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[RecordedSocket, ServerSide]]:
    """An open socket, and its server's side."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        client = HttpClient(
            f"http://127.0.0.1:{listener.socket.getsockname()[1]}",
            origin="http://localhost:5173",
            timeout=PATIENCE,
            nursery=nursery,
        )
        begun: list[ServerSide] = []

        async def accept() -> None:
            server = ServerSide(await listener.accept())
            await server.receive(lambda event: isinstance(event, events.Request))
            await server.send(events.AcceptConnection())
            begun.append(server)

        nursery.start_soon(accept)
        async with listener, client.socket("", label="Alice") as socket:
            (server,) = begun
            async with server.stream:
                yield socket, server
        await client.aclose()


async def test_a_close_is_answered_after_the_frame_that_is_being_sent() -> None:
    """The response to the server's close frame waits until another task has sent its whole frame."""
    with trio.fail_after(PATIENCE):
        async with connected() as (socket, server), trio.open_nursery() as nursery:
            nursery.start_soon(socket._send, events.TextMessage(LARGE))
            await trio.testing.wait_all_tasks_blocked()  # the server does not read, so the send blocks
            await server.send(events.CloseConnection(4403, "origin"))
            await trio.testing.wait_all_tasks_blocked()
            await server.receive(lambda event: isinstance(event, events.CloseConnection))
            assert await socket.wait_closed(PATIENCE)
    sent = [event for event in server.received if isinstance(event, events.TextMessage)]
    assert sum(len(event.data) for event in sent) == len(LARGE)
    assert socket.closed == (4403, "origin")


async def test_concurrent_sends_take_turns() -> None:
    """Concurrent pings are all sent, and all get their pongs."""
    pongs: list[bool] = []
    with trio.fail_after(PATIENCE):
        async with connected() as (socket, server), trio.open_nursery() as nursery:

            async def ping() -> None:
                pongs.append(await socket.ping(PATIENCE))

            nursery.start_soon(ping)
            nursery.start_soon(ping)
            await server.receive(lambda _: len(_pings(server)) == 2)
            await server.send(*(ping.response() for ping in _pings(server)))
    assert pongs == [True, True]


@pytest.mark.parametrize("late", [events.Ping(), events.TextMessage("late")])
async def test_an_event_after_the_servers_close_is_not_sent(late: events.Event) -> None:
    """An event that waits for its turn when the server closes is not sent, and the close code is recorded."""
    with trio.fail_after(PATIENCE):
        async with connected() as (socket, server), trio.open_nursery() as nursery:
            nursery.start_soon(socket._send, events.TextMessage(LARGE))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(socket._send, late)
            await trio.testing.wait_all_tasks_blocked()
            await server.send(events.CloseConnection(4403, "origin"))
            await trio.testing.wait_all_tasks_blocked()
            await server.receive(lambda event: isinstance(event, events.CloseConnection))
            assert await socket.wait_closed(PATIENCE)
    assert not _pings(server)
    assert socket.closed == (4403, "origin")


def _pings(server: ServerSide) -> list[events.Ping]:
    return [event for event in server.received if isinstance(event, events.Ping)]

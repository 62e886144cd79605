"""A proxy between a storage and PostgreSQL that breaks connections as a test says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import trio
from attrs import define, field


@define(eq=False)
class BrokenNetwork:
    """The current faults; none at first."""

    address: str = ""
    """PostgreSQL's address through this proxy."""
    drops_commit_response: bool = False
    """Forwards the next COMMIT, and closes the connection before its response."""
    dropped: trio.Event = field(factory=trio.Event)
    """Set after it has dropped a response or swallowed data."""
    swallows_next_send: bool = False
    """Swallows the next data and closes the sender's connection, but not the server's."""
    refuses_connections: bool = False
    """Refuses new connections."""
    breaks_connections: bool = False
    """Closes a connection when data are sent on it."""
    stalls: bool = False
    """Forwards nothing in either direction, on open connections."""
    goes_on: trio.Event = field(factory=trio.Event)
    """Set it to forward again after `stalls`."""

    async def carry(self, server: tuple[str, int], near: trio.SocketStream) -> None:
        if self.refuses_connections:
            await near.aclose()
            return
        far = await trio.open_tcp_stream(*server)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._forth, near, far)
            await self._back(near, far)
            nursery.cancel_scope.cancel()

    async def _forth(self, near: trio.SocketStream, far: trio.SocketStream) -> None:
        async for data in near:
            if self.breaks_connections:
                break
            if self.swallows_next_send:
                self.swallows_next_send = False
                self.dropped.set()
                await near.aclose()
                await trio.sleep_forever()
            if self.stalls:
                await self.goes_on.wait()
            await far.send_all(data)
        await far.aclose()

    async def _back(self, near: trio.SocketStream, far: trio.SocketStream) -> None:
        async for data in far:
            if self.drops_commit_response and b"COMMIT\x00" in data:
                self.drops_commit_response = False
                self.dropped.set()
                return
            if self.stalls:
                await self.goes_on.wait()
            await near.send_all(data)


@asynccontextmanager
async def network(address: str) -> AsyncIterator[BrokenNetwork]:
    """Run a proxy for the PostgreSQL at `address`; clients use the proxy's own `address`."""
    parts = urlsplit(address)
    server = (parts.hostname or "127.0.0.1", parts.port or 5432)
    between = BrokenNetwork()
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, partial(_carry, between, server), 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        login = parts.netloc.rpartition("@")[0]
        between.address = parts._replace(
            netloc=f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}",
            query="sslmode=disable&gssencmode=disable",  # the proxy reads the data
        ).geturl()
        yield between
        nursery.cancel_scope.cancel()


async def _carry(between: BrokenNetwork, server: tuple[str, int], near: trio.SocketStream) -> None:
    try:
        await between.carry(server, near)
    except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        pass

"""A network between a storage and PostgreSQL that breaks where a test says so."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import urlsplit

import trio
from attrs import define, field


@define(eq=False)
class Network:
    """What has been broken, from now on; everything works at first."""

    address: str = ""
    """PostgreSQL's, as it is reached through here."""
    loses_commits: bool = False
    """The next COMMIT is carried out, and the connection lost before its answer comes."""
    lost: trio.Event = field(factory=trio.Event)
    """Set when that has happened, or something was swallowed."""
    swallows: bool = False
    """What is sent next does not arrive, and the sender's connection breaks; the server is not told."""
    refuses: bool = False
    """No new connection is made."""
    breaks: bool = False
    """Every connection breaks when something is sent on it."""
    stands_still: bool = False
    """Nothing goes either way, and nobody is told."""
    moves: trio.Event = field(factory=trio.Event)
    """Set it when it need not stand still any more."""

    async def carry(self, server: tuple[str, int], near: trio.SocketStream) -> None:
        if self.refuses:
            await near.aclose()
            return
        far = await trio.open_tcp_stream(*server)
        async with near, far, trio.open_nursery() as nursery:
            nursery.start_soon(self._forth, near, far)
            await self._back(near, far)
            nursery.cancel_scope.cancel()

    async def _forth(self, near: trio.SocketStream, far: trio.SocketStream) -> None:
        async for data in near:
            if self.breaks:
                break
            if self.swallows:
                self.swallows = False
                self.lost.set()
                await near.aclose()
                await trio.sleep_forever()
            if self.stands_still:
                await self.moves.wait()
            await far.send_all(data)
        await far.aclose()

    async def _back(self, near: trio.SocketStream, far: trio.SocketStream) -> None:
        async for data in far:
            if self.loses_commits and b"COMMIT\x00" in data:
                self.loses_commits = False
                self.lost.set()
                return
            if self.stands_still:
                await self.moves.wait()
            await near.send_all(data)


@asynccontextmanager
async def network(address: str) -> AsyncIterator[Network]:
    """Stands between whoever uses its `address` and PostgreSQL at `address`."""
    parts = urlsplit(address)
    server = (parts.hostname or "127.0.0.1", parts.port or 5432)
    between = Network()
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, partial(_carry, between, server), 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        login = parts.netloc.rpartition("@")[0]
        between.address = parts._replace(
            netloc=f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}",
            query="sslmode=disable&gssencmode=disable",  # it looks into what it carries
        ).geturl()
        yield between
        nursery.cancel_scope.cancel()


async def _carry(between: Network, server: tuple[str, int], near: trio.SocketStream) -> None:
    try:
        await between.carry(server, near)
    except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        pass

"""A NATS server for the tests, which they can stop and start again."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from subprocess import DEVNULL, Popen

import pytest
import trio
from attrs import define

from tests.patience import PATIENCE


@define
class NatsServer:
    port: int
    arguments: tuple[str, ...] = ()
    _process: "Popen[bytes] | None" = None

    async def start(self) -> None:
        try:
            self._process = Popen(  # noqa: ASYNC220 - it only forks
                ["nats-server", "-a", "127.0.0.1", "-p", str(self.port), *self.arguments],
                stdout=DEVNULL,
                stderr=DEVNULL,
            )
        except FileNotFoundError:
            pytest.skip("nats-server is not installed")
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    stream = await trio.open_tcp_stream("127.0.0.1", self.port)
                except OSError:
                    assert self._process.poll() is None, "nats-server has ended"
                    await trio.sleep(0.01)
                else:
                    await stream.aclose()
                    return

    async def stop(self) -> None:
        """Kill the server, as a crash does."""
        if self._process is not None:
            self._process.kill()
            await trio.to_thread.run_sync(self._process.wait)
            self._process = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def nats_server(*arguments: str) -> AsyncIterator[NatsServer]:
    server = NatsServer(free_port(), arguments)
    await server.start()
    try:
        yield server
    finally:
        with trio.CancelScope(shield=True):
            await server.stop()

"""`messaging serve` as a worker: its replacement, and its drain."""

import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio

from tests.cli.supervisors import Supervised, is_alive, refuses, serving, supervisor
from tests.patience import PATIENCE
from tests.server.clients import OPEN_ITERATORS, browser, collect_open_iterators, expect, register
from tests.server.servers import ServerProcess, command_line

KEYS = "k1:" + "0f" * 32
GREETING = re.compile(r"^  API +http://127.0.0.1:(?P<port>\d+)/.*^  Workers +2$", re.MULTILINE | re.DOTALL)


@asynccontextmanager
async def two_workers(directory: Path, database: str) -> AsyncIterator[Supervised]:
    """`messaging serve --workers 2` on a PostgreSQL database."""
    options = ("--workers", "2", "--bind", "127.0.0.1:0", "--database", database, "--signing-keys", KEYS)
    async with serving(directory, command_line("serve", *options), GREETING) as it:
        yield it


@asynccontextmanager
async def one_worker(directory: Path) -> AsyncIterator[tuple[Supervised, ServerProcess]]:
    """A supervisor with one worker."""
    async with serving(
        directory, supervisor(command_line("serve", "--database", "memory:"), workers=1)
    ) as it:
        yield it, ServerProcess(f"http://127.0.0.1:{it.port}", it.process, it.log_file, it.output)


async def test_a_worker_drains_as_a_single_server(tmp_path: Path) -> None:
    """Its sockets close with 1012, its log lines have its number, and the status is 0.

    A service manager may signal every process: for a worker that is not a second signal.
    """
    async with one_worker(tmp_path) as (it, server), browser(server) as http:
        alice = await register(server, http, "Alice")
        async with alice.socket() as socket:
            for pid in (it.serving()[1], it.process.pid, it.serving()[1]):
                os.kill(pid, signal.SIGTERM)
            assert (await socket.closed())[0] == 1012
        assert await it.wait() == 0
        for event in ("listening", "request", "socket_closed", "draining"):
            assert {line["worker"] for line in it.events(event)} == {1}, event


async def test_a_worker_ignores_other_signals(tmp_path: Path) -> None:
    """A worker ignores SIGHUP, which is for the supervisor, SIGUSR1 and SIGUSR2; SIGQUIT drains it."""
    async with one_worker(tmp_path) as (it, _):
        (pid,) = it.serving().values()
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(pid, number)
        await it.until(lambda: len(it.events("signal_ignored")) == 3)
        assert {line["worker"] for line in it.events("signal_ignored")} == {1}
        os.kill(pid, signal.SIGQUIT)
        await it.until(lambda: bool(it.events("draining")))


async def test_replacing_workers_refuses_no_request(tmp_path: Path, postgresql: str) -> None:
    """Each worker's replacement serves before it drains."""
    async with two_workers(tmp_path, postgresql) as it:
        before = it.serving()
        asking = True

        async def request_repeatedly() -> None:
            # Each request has its own connection: a kept one may close between two, which clients expect.
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{it.port}",
                trust_env=False,
                headers={"Connection": "close"},
                timeout=PATIENCE,
            ) as client:
                while asking:
                    expect(await client.get("/health"), 200)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(request_repeatedly)
            it.process.send_signal(signal.SIGHUP)
            await it.until(lambda: bool(it.events("workers_have_been_replaced")))
            asking = False
        assert not set(before.values()) & set(it.serving().values())


@OPEN_ITERATORS
async def test_a_killed_worker_loses_only_its_own_requests(tmp_path: Path, postgresql: str) -> None:
    """Requests in flight at the killed worker are lost; retries get responses from any worker."""
    async with two_workers(tmp_path, postgresql) as it:
        victim = it.serving()[2]
        responses = 0

        async def request_repeatedly() -> None:
            nonlocal responses
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{it.port}", trust_env=False, timeout=PATIENCE
            ) as client:
                while len(it.events("worker_serves")) < 3:
                    try:
                        expect(await client.get("/health"), 200)
                        responses += 1
                    except httpx.TransportError:
                        await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(request_repeatedly)
            os.kill(victim, signal.SIGKILL)
        assert responses
        assert not is_alive(victim)
        collect_open_iterators()


async def test_workers_without_a_supervisor_drain_and_end(tmp_path: Path) -> None:
    """After the supervisor's end, by any cause, sockets close with 1012 and the port is free."""
    async with one_worker(tmp_path) as (it, server), browser(server) as http:
        alice = await register(server, http, "Alice")
        async with alice.socket() as socket:
            await it.end(signal.SIGKILL)
            assert (await socket.closed())[0] == 1012
        await it.until(lambda: not any(map(is_alive, it.serving().values())))
        assert refuses(it.port)

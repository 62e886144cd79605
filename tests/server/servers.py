"""Servers for the tests: in this process, or as processes of their own."""

import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from subprocess import PIPE, CompletedProcess
from typing import Any

import pytest
import trio
from attrs import asdict, define, field, frozen

from adapters.cli import composition
from adapters.cli.settings import Settings
from adapters.runtime import Messaging
from adapters.runtime.messaging import UtcClock
from adapters.security import Argon2Hasher, passwords
from messaging_core.limits import Limits
from tests.patience import PATIENCE


class Clock:
    """The server's clock: the real time plus what a test has added."""

    def __init__(self) -> None:
        self._ahead = timedelta()
        self._now = UtcClock()

    def __call__(self) -> datetime:
        return self._now() + self._ahead

    def advance(self, **span: float) -> None:
        self._ahead += timedelta(**span)


class CountingHasher(Argon2Hasher):
    """The real hasher at a thousandth of its cost, which counts its calls."""

    def __init__(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(passwords, "MEMORY_KIB", 8)
            patch.setattr(passwords, "ITERATIONS", 1)
            super().__init__()
        self.made = 0
        self.verified = 0

    async def hash(self, password: str, *, network: str) -> str:
        self.made += 1
        return await super().hash(password, network=network)

    def _verify(self, password_hash: str, password: str) -> bool:
        self.verified += 1
        return super()._verify(password_hash, password)


@frozen
class ServerHere:
    """A whole server in this process, over a real port, with its data in memory."""

    address: str
    messaging: Messaging
    clock: Clock
    hasher: CountingHasher
    shutdown: trio.Event

    def state(self) -> dict[str, object]:
        """A copy of everything that is stored, for comparison."""
        storage: Any = self.messaging._storage
        return {table: repr(kept) for table, kept in asdict(storage.world._tables, recurse=False).items()}


@asynccontextmanager
async def serving(limits: Limits | None = None, **settings: Any) -> AsyncIterator[ServerHere]:
    """A server with these settings; rate limits are off by default."""
    clock, hasher, made = Clock(), CountingHasher(), list[Messaging]()

    def with_clock(**parts: Any) -> Messaging:
        made.append(Messaging(**parts, now=clock))
        return made[0]

    chosen: dict[str, Any] = {"bind": ("127.0.0.1", 0), "database": composition.MEMORY, "rate_limits": False}
    configured = Settings(**{**chosen, **settings}, limits=limits or Limits())
    shutdown = trio.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(composition, "Messaging", with_clock)
        patch.setattr(composition, "Argon2Hasher", lambda _: hasher)
        async with trio.open_nursery() as nursery:
            run = partial(composition.run_server, configured, shutdown=shutdown)
            server: composition.Server = await nursery.start(run)
            yield ServerHere(server.addresses[0], made[0], clock, hasher, shutdown)
            shutdown.set()


MESSAGING = Path(sys.executable).with_name("messaging")


def command_line(*arguments: str) -> list[str]:
    return [str(MESSAGING), *arguments]


UNMEASURED = {"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}
"""Variables for servers that a test kills: they are quicker, and what they measured would be lost."""


def environment(**variables: str) -> dict[str, str]:
    """This process's environment, with no setting of the server but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESSAGING_")}
    return {**kept, **variables}


async def run_to_its_end(
    *arguments: str, directory: Path, variables: Mapping[str, str] | None = None
) -> CompletedProcess[str]:
    """Run a `messaging` command that ends by itself; its stdout and stderr are text."""
    with trio.fail_after(PATIENCE):
        ended: CompletedProcess[bytes] = await trio.run_process(
            command_line(*arguments),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=directory,
            env=environment(**variables or {}),
        )
    return CompletedProcess(ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode())


@define
class ServerProcess:
    """A `messaging serve` process."""

    address: str
    process: trio.Process
    log_file: Path
    output: str
    """What it has printed before it served; once it has ended, all that it has printed."""
    ended: trio.Event = field(factory=trio.Event)

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    async def kill(self) -> None:
        """End it at once, with SIGKILL."""
        self.process.kill()
        with trio.fail_after(PATIENCE):
            await self.process.wait()

    async def stop(self) -> int:
        """End it with SIGTERM; returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return await self.wait()

    async def wait(self) -> int:
        with trio.fail_after(PATIENCE):
            await self.ended.wait()
            return await self.process.wait()


SERVES = re.compile(r"^  API +(http://\S+)/api/v1$.*^  Database .*?$", re.MULTILINE | re.DOTALL)


@asynccontextmanager
async def process(
    directory: Path,
    *arguments: str,
    variables: Mapping[str, str] | None = None,
    started_by: Sequence[str] = (),
    stderr: int | None = None,
) -> AsyncIterator[ServerProcess]:
    """`messaging serve` in `directory` on a free port, once it has printed its greeting; ends with the block.

    `started_by` is a command that runs the server's command; `stderr` is a descriptor in place of the log
    file.
    """
    log_file = directory / "log"
    with log_file.open("ab") as log:
        child = await trio.lowlevel.open_process(
            [*started_by, *command_line("serve", *_port(arguments), *arguments)],
            stdout=PIPE,
            stderr=log if stderr is None else stderr,
            cwd=directory,
            env=environment(**variables or {}),
        )
    try:
        server = ServerProcess("", child, log_file, "")
        async with trio.open_nursery() as nursery:
            with trio.fail_after(PATIENCE):
                await nursery.start(_listen_to, server)
            yield server
            if child.poll() is None:
                child.terminate()
            await server.wait()
    except BaseException as error:
        error.add_note(f"the end of the server's log:\n{log_file.read_text(encoding='utf-8')[-4000:]}")
        raise
    finally:
        if child.poll() is None:
            child.kill()
        with trio.CancelScope(shield=True):
            await child.wait()


def _port(arguments: Sequence[str]) -> Sequence[str]:
    return () if "--bind" in arguments else ("--bind", "127.0.0.1:0")


async def _listen_to(
    server: ServerProcess, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    assert server.process.stdout is not None
    async with server.process.stdout as stdout:
        async for piece in stdout:
            server.output += piece.decode()
            found = SERVES.search(server.output)
            if found and not server.address:
                server.address = found[1]
                task_status.started()
    server.ended.set()
    assert server.address, f"it ended before it served: {server.output}{server.log}"

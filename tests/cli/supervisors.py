"""A supervisor in a process of its own; its workers are stand-ins or real servers."""

import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import trio
from attrs import define

from tests.patience import PATIENCE
from tests.server.servers import environment

ROOT = Path(__file__).parents[2]
STAND_IN = (sys.executable, "-I", str(Path(__file__).with_name("stand_in.py")))


@define
class Supervised:
    """A supervisor's process, its log and its output."""

    process: trio.Process
    log_file: Path
    port: int = 0
    output: str = ""
    """Its stdout so far."""

    @property
    def lines(self) -> list[str]:
        return self.log_file.read_text(encoding="utf-8").splitlines()

    def events(self, event: str) -> list[dict[str, Any]]:
        logged = [json.loads(line) for line in self.lines if line.startswith("{") and line.endswith("}")]
        return [line for line in logged if line["event"] == event]

    def serving(self) -> dict[int, int]:
        """The latest process of each worker, by the worker's number."""
        return {line["worker"]: line["pid"] for line in self.events("worker_serves")}

    async def until(self, condition: Callable[[], bool]) -> None:
        with trio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110 - another process changes it
                await trio.sleep(0.005)

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self) -> tuple[int, int]:
        """The number and process id of the worker that responds."""
        async with await self.connect() as stream:
            return await identity_over(stream)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await self.wait()

    async def wait(self) -> int:
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


def refuses(port: int) -> bool:
    """Whether no socket listens on the port."""
    with socket.socket() as plain:
        return plain.connect_ex(("127.0.0.1", port)) != 0


async def identity_over(stream: trio.SocketStream) -> tuple[int, int]:
    with trio.fail_after(PATIENCE):
        await stream.send_all(b"hello")
        response = b""
        async for piece in stream:
            response += piece
    number, pid = response.split()
    return int(number), int(pid)


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it ended before the file was opened, or read
        return False


def supervisor(command: Sequence[str] = STAND_IN, *, workers: int = 3, patience: float = 30) -> list[str]:
    """The command line of a supervisor whose workers run `command`."""
    return [sys.executable, "-m", "tests.cli.supervising", str(workers), str(patience), *command]


@asynccontextmanager
async def supervised(directory: Path, program: Sequence[str]) -> AsyncIterator[Supervised]:
    """A supervisor that has just been started; at the end all of its processes have ended."""
    log_file = directory / "log"
    variables = {"PYTHONPATH": str(ROOT)}
    with log_file.open("ab") as log:
        child = await trio.lowlevel.open_process(
            program, stdout=PIPE, stderr=log, cwd=directory, env=environment(**variables)
        )
    it = Supervised(child, log_file)
    try:
        yield it
        if child.poll() is None:
            await it.end()
        pids = [line["pid"] for line in it.events("worker_started")]
        await it.until(lambda: not any(map(is_alive, pids)))
    finally:
        for line in it.events("worker_started"):
            with suppress(ProcessLookupError):
                os.kill(line["pid"], signal.SIGKILL)
        with suppress(ProcessLookupError):
            child.kill()
        with trio.CancelScope(shield=True):
            await child.wait()
            if child.stdout is not None:
                await child.stdout.aclose()


@asynccontextmanager
async def serving(
    directory: Path, program: Sequence[str], first_words: re.Pattern[str] = re.compile(r"^(?P<port>\d+) .*\n")
) -> AsyncIterator[Supervised]:
    """A supervisor that has printed its first line, once all of its workers serve."""
    async with supervised(directory, program) as it:
        assert it.process.stdout is not None
        with trio.fail_after(PATIENCE):
            while (match := first_words.search(it.output)) is None:
                piece = await it.process.stdout.receive_some()
                assert piece, it.lines
                it.output += piece.decode()
        it.port = int(match["port"])
        yield it

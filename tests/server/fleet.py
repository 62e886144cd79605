"""Several `messaging serve` processes on one PostgreSQL database, which a test may kill and start again."""

import os
import random
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import httpx
from attrs import define, field

from tests.patience import PATIENCE
from tests.server.servers import command_line, environment

KEYS = "k1:" + "0f" * 32
PORTS = range(20_000, 32_000)
"""Below the range of ephemeral ports, so no other program gets the port before the process starts again."""


def free_fixed_port() -> int:
    """A free port outside the range of ephemeral ports."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@define(eq=False)
class Member:
    """A process of a fleet; `command` starts a server on its port."""

    address: str
    command: Sequence[str]
    log_file: Path
    variables: Mapping[str, str] = field(factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it without waiting."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                env=environment(**self.variables),
                cwd=self.log_file.parent,
            )

    def wait(self, path: str = "/ready") -> None:
        """Wait until it responds with 200; if it ends before, start it again, as a service manager would."""
        until(lambda: self._responds(path), f"{self.address}{path} does not respond: {self.tail()}")

    def kill(self) -> None:
        """End it at once, with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End it with SIGTERM, and wait."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            finally:
                self.kill()

    def tail(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-2000:]

    def _responds(self, path: str) -> bool:
        if self.process is None or self.process.poll() is not None:
            self.start()
        try:
            return httpx.get(self.address + path, timeout=PATIENCE, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def until(condition: Callable[[], bool], message: str) -> None:
    """Wait for a condition outside of this process."""
    deadline = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < deadline, message
        sleep(0.02)


@contextmanager
def fleet(
    directory: Path,
    database: str,
    bus: str,
    *options: str,
    count: int = 2,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Sequence[Member]]:
    """`count` ready processes, which end with the block."""
    members = []
    for number in range(1, count + 1):
        bound = f"127.0.0.1:{free_fixed_port()}"
        command = command_line(
            *("serve", "--bind", bound, "--database", database, "--bus", bus, "--signing-keys", KEYS),
            *("--no-rate-limits", *options),
        )
        log_file = directory / f"log-{os.getpid()}-{number}"
        members.append(Member(f"http://{bound}", command, log_file, variables or {}))
    try:
        for member in members:
            member.start()
        for member in members:
            member.wait()
        yield members
        for member in members:
            member.stop()
    finally:
        for member in members:
            member.kill()

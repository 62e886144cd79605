"""Several `messaging serve` on one PostgreSQL database: processes that may be killed and started again."""

import os
import random
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import httpx
from attrs import define

from tests.patience import PATIENCE
from tests.server.servers import command_line, environment

KEYS = "k1:" + "0f" * 32
PORTS = range(20_000, 32_000)
"""Below those that the system gives to whoever connects: a port is free for the process that comes back."""


def lasting_port() -> int:
    """A port that nobody listens on, and nobody is given by chance."""
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
    """One process of a fleet; `command` serves on its port, whenever it is started."""

    address: str
    command: Sequence[str]
    log_file: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start it; nothing is waited for."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=environment(), cwd=self.log_file.parent
            )

    def wait(self, path: str = "/ready") -> None:
        """Until it answers with 200; one that ends meanwhile is started again, as a service manager would."""
        until(lambda: self._answers(path), f"{self.address}{path} does not answer: {self.tail()}")

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End it as an operator would."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            finally:
                self.kill()

    def tail(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")[-2000:]

    def _answers(self, path: str) -> bool:
        if self.process is None or self.process.poll() is not None:
            self.start()
        try:
            return httpx.get(self.address + path, timeout=PATIENCE, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def until(true: Callable[[], bool], told: str) -> None:
    """Wait for something outside of this process."""
    deadline = monotonic() + PATIENCE
    while not true():
        assert monotonic() < deadline, told
        sleep(0.02)


@contextmanager
def fleet(
    directory: Path, database: str, bus: str, *options: str, count: int = 2
) -> Iterator[Sequence[Member]]:
    """So many processes, from the moment on at which all are ready; ended afterwards."""
    members = []
    for number in range(1, count + 1):
        bound = f"127.0.0.1:{lasting_port()}"
        command = command_line(
            *("serve", "--bind", bound, "--database", database, "--bus", bus, "--signing-keys", KEYS),
            *("--no-rate-limits", *options),
        )
        members.append(Member(f"http://{bound}", command, directory / f"log-{os.getpid()}-{number}"))
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

"""Starts servers as processes on a core of their own, measures them from outside, and always ends them."""

import ctypes
import os
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter, sleep
from typing import IO

from attrs import frozen

from benchmarks.load.population import KID, SECRET

PEERS = Path(__file__).parents[1] / "peers"
_TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE = 30.0
"""Seconds for a server to start."""

_PR_SET_PDEATHSIG = 1


FILES = 6000
"""Open files that the idle sockets need, in the load and in the server each."""


class NotServing(Exception):
    """A server did not start, or ended by itself; the message has its output."""


@frozen
class Cores:
    """The cores of the server and of the load; both None on a machine with one core."""

    server: int | None
    load: int | None


@frozen
class RunningServer:
    """A server that responds to requests."""

    port: int
    pid: int
    startup: float
    """Seconds from the start of the process to the first 200."""

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


def thread_seconds(pid: int) -> tuple[float, float]:
    """Seconds that a process's threads have run, and have waited ready to run while others had the core."""
    ran = waited = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread may end meanwhile
            fields = (thread / "schedstat").read_text().split()
            ran, waited = ran + int(fields[0]), waited + int(fields[1])
    return ran / 1e9, waited / 1e9


def core_seconds(pid: int) -> float:
    """Seconds for which a process's core was busy with any process; 0 for a process without a fixed core."""
    cores = os.sched_getaffinity(pid)
    if len(cores) != 1:
        return 0.0
    found = re.search(rf"^cpu{cores.pop()} (.+)$", Path("/proc/stat").read_text(), re.MULTILINE)
    assert found is not None
    user, nice, system, _idle, _iowait, *rest = map(int, found[1].split())
    return (user + nice + system + sum(rest[:3])) / _TICKS  # the rest: interrupts, and steal by the host


def choose_cores() -> Cores:
    """The first two cores that this process may use, if it may use two."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[1]) if len(allowed) > 1 else Cores(None, None)


def use_load_core(cores: Cores) -> None:
    """Move this process to the load's core, and raise the limit of open files, which servers inherit."""
    if cores.load is not None:
        os.sched_setaffinity(0, {cores.load})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < FILES:
        print(f"ulimit -Hn is {hard}: 5,000 idle sockets need {FILES} open files.", file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def ours(port: int, database: Path, options: str = "") -> list[str]:
    """The command of our server, with defaults except for the limits that the load would hit."""
    return [
        *(str(Path(sys.executable).with_name("messaging")), "serve", "--bind", f"127.0.0.1:{port}"),
        *("--database", f"sqlite:///{database}", "--signing-keys", f"{KID}:{SECRET.encode().hex()}"),
        *("--message-rate", "1000000:1000000", "--request-rate", "1000000:1000000"),
        *("--connections", "8000", "--connections-per-address", "8000", "--backlog", "4096"),
        *("--log-level", "warning"),
        *shlex.split(options),
    ]


def peer(name: str, port: int, database: Path) -> list[str]:
    """The command of the peer with this file name."""
    program = ["node", str(PEERS / name)] if name.endswith(".js") else [sys.executable, str(PEERS / name)]
    return [*program, "--port", str(port), "--database", str(database)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: Sequence[str], port: int, cores: Cores) -> Iterator[RunningServer]:
    """Start a server on `port`, yield it after its first 200 on /health, and end it with the block.

    Raises `NotServing`.
    """
    with tempfile.TemporaryFile("w+") as output:
        began = perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=_environment(),
            preexec_fn=lambda: _settle(cores.server),  # noqa: PLW1509 - this process has no threads
        )
        try:
            while not is_healthy(port):
                if process.poll() is not None or perf_counter() - began > PATIENCE:
                    raise NotServing(f"{shlex.join(command)} does not serve:\n{_tail(output)}")
                sleep(0.001)
            yield RunningServer(port, process.pid, perf_counter() - began)
            if process.poll() is not None:
                raise NotServing(f"{shlex.join(command)} ended by itself:\n{_tail(output)}")
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def is_healthy(port: int) -> bool:
    """Whether GET /health returns 200 now."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as probe:
            probe.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return probe.recv(4096).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def _environment() -> Mapping[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MESSAGING_")}
    return {**inherited, "BENCH_SECRET": SECRET, "NODE_ENV": "production", "PYTHONDONTWRITEBYTECODE": ""}


def _settle(core: int | None) -> None:
    """In the child process: move to the core, and have the kernel kill the child when this process ends."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _tail(output: IO[str]) -> str:
    output.seek(0)
    return "".join(output.readlines()[-30:])

"""Measures the memory that slow peers make a server hold, and the delay of other requests meanwhile.

    python benchmarks/held_memory.py [file] [page] [bodies] [bodies-with-token] [--seconds 20]

Each siege has a server process of its own:

- file: 480 connections without an account read the bundle of /docs, each at 8 KiB/s;
- page: 200 connections read a page of 200 messages, 6 MB of JSON, each at 8 KiB/s;
- bodies: 300 connections without a token send a body of 1 MiB, except its last KiB;
- bodies-with-token: the same with a valid token, so that the server waits for the body;
- bodies-for-nothing: the same without a token to a path that does not exist.

With `--odd`, requests have a form that only the web framework reads.

The program prints the server's memory (VmRSS) before the siege, its maximum during the siege, and its value
after all peers have left; the responses; and p50, p99 and maximum of a GET /health every 20 ms.
"""

import argparse
import json
import re
import resource
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

import httpx
import trio
from attrs import define, field

RATE = 8192
"""Bytes a second that a slow reader reads."""
BODY = 1_048_576
PAYLOAD = "x" * 30_000
SETTLE = 10.0
"""Seconds between the end of the siege and the last reading of the memory."""


@define
class SiegeFigures:
    """The figures of a siege; memory in MiB, times in seconds."""

    before: float = 0
    highest: float = 0
    after: float = 0
    responses: Counter[str] = field(factory=Counter)
    delays: list[float] = field(factory=list)


@define
class SiegeTarget:
    """The server under siege."""

    port: int
    pid: int
    figures: SiegeFigures
    form: str = ""
    """Header fields that each request has beside its own."""
    token: str = ""
    chat: int = 0

    @property
    def memory(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]

    async def connect(self, *, receive_buffer: int | None = None) -> trio.SocketStream:
        sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await sock.connect(("127.0.0.1", self.port))
        return trio.SocketStream(sock)


@contextmanager
def server(directory: Path, *options: str) -> Iterator[SiegeTarget]:
    """`messaging serve` on a free port."""
    command = [
        *(str(Path(sys.executable).with_name("messaging")), "serve", "--bind", "127.0.0.1:0"),
        *("--database", f"sqlite:///{directory}/messaging.db", "--no-rate-limits", "--log-level", "warning"),
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = next(match[1] for line in process.stdout if (match := re.search(r":(\d+)/docs", line)))
        try:
            yield SiegeTarget(int(port), process.pid, SiegeFigures())
        finally:
            process.terminate()


# --- the sieges -------------------------------------------------------------------------------------------


async def read_slowly(target: SiegeTarget, request: bytes) -> None:
    """Send the request, read the response at `RATE`, and count its status and how the connection ended."""
    stream = await target.connect(receive_buffer=4096)
    outcome = "no response"
    try:
        await stream.send_all(request)
        while data := await stream.receive_some(RATE):
            if outcome == "no response":
                outcome = data.split(b" ", 2)[1].decode()
            if outcome == "503":
                break
            await trio.sleep(len(data) / RATE)
        else:
            outcome += ", closed"
    except trio.BrokenResourceError:
        outcome += ", reset"
    finally:
        target.figures.responses[outcome] += 1
        with trio.CancelScope(shield=True):
            await stream.aclose()


async def file_reader(target: SiegeTarget) -> None:
    head = f"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: test\r\n{target.form}"
    await read_slowly(target, head.encode() + b"\r\n")


async def page_reader(target: SiegeTarget) -> None:
    head = f"GET /api/v1/messages?chat_id={target.chat}&limit=200 HTTP/1.1\r\nHost: test\r\n{target.form}"
    await read_slowly(target, f"{head}Authorization: Bearer {target.token}\r\n\r\n".encode())


async def body_sender(target: SiegeTarget, path: str = "/api/v1/messages") -> None:
    """Send a body except its last KiB, and wait for the response."""
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {BODY}\r\n{target.form}"
    head += "Content-Type: application/json\r\n"
    head += f"Authorization: Bearer {target.token}\r\n" if target.token else ""
    stream = await target.connect()
    outcome = "no response"
    try:
        await stream.send_all(head.encode() + b"\r\n")
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b" " * (BODY - 1024))
        while data := await stream.receive_some(RATE):
            if outcome == "no response":
                outcome = data.split(b" ", 2)[1].decode()
        outcome += ", closed"
    except trio.BrokenResourceError:
        outcome += ", reset"
    finally:
        target.figures.responses[outcome] += 1
        with trio.CancelScope(shield=True):
            await stream.aclose()


async def lost_body_sender(target: SiegeTarget) -> None:
    await body_sender(target, "/nothing")


@define
class Siege:
    """The peers of a siege, and what the server needs before."""

    peers: int
    peer: Callable[[SiegeTarget], Awaitable[None]]
    account: bool = False
    """Whether the peers have a token."""
    history: int = 0
    """Messages of 30 KB to store before."""


SIEGES = {
    "file": Siege(480, file_reader),
    "page": Siege(200, page_reader, account=True, history=200),
    "bodies": Siege(300, body_sender),
    "bodies-with-token": Siege(300, body_sender, account=True),
    "bodies-for-nothing": Siege(300, lost_body_sender),
}


async def prepare(siege: Siege, target: SiegeTarget) -> None:
    """Let the server load what it loads at the first request, and create the siege's account and history."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{target.port}", timeout=60) as http:
        (await http.get("/docs")).raise_for_status()
        if siege.account:
            bob, alice = await register(http, "bob"), await register(http, "alice")
            target.token = alice["access_token"]
            http.headers["Authorization"] = f"Bearer {target.token}"
            chat = await http.post("/api/v1/chats/direct", json={"user_id": bob["user"]["id"]})
            target.chat = chat.raise_for_status().json()["id"]
        for number in range(siege.history):
            body = {
                "chat_id": target.chat,
                "type": "text",
                "content": str(number),
                "payload": {"text": PAYLOAD},
            }
            (await http.post("/api/v1/messages", json=body)).raise_for_status()


async def register(http: httpx.AsyncClient, name: str) -> Any:
    account = {"email": f"{name}@test.com", "password": "password123", "display_name": name}
    return (await http.post("/api/v1/auth/register", json=account)).raise_for_status().json()


async def poll_health(target: SiegeTarget) -> None:
    """Send GET /health every 20 ms on one connection."""
    stream = await target.connect()
    while True:
        began = perf_counter()
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        while not (await stream.receive_some()).endswith(b"}"):
            pass
        target.figures.delays.append(perf_counter() - began)
        await trio.sleep(0.02)


async def watch(target: SiegeTarget) -> None:
    while True:
        target.figures.highest = max(target.figures.highest, target.memory)
        await trio.sleep(0.05)


async def run(siege: Siege, seconds: float, form: str, options: list[str]) -> SiegeFigures:
    with tempfile.TemporaryDirectory() as directory, server(Path(directory), *options) as target:
        target.form = form
        await prepare(siege, target)
        await trio.sleep(2)
        target.figures.before = target.memory
        async with trio.open_nursery() as watching:
            watching.start_soon(watch, target)
            watching.start_soon(poll_health, target)
            with trio.move_on_after(seconds):
                async with trio.open_nursery() as peers:
                    for _ in range(siege.peers):
                        peers.start_soon(siege.peer, target)
                await trio.sleep_forever()
            watching.cancel_scope.cancel()
        await trio.sleep(SETTLE)
        target.figures.after = target.memory
        return target.figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sieges", nargs="*", choices=[*SIEGES, []], default=[])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--peers", type=int)
    parser.add_argument("--odd", action="store_true")
    parser.add_argument("--option", action="append", default=[], help="An option for messaging serve.")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name in arguments.sieges or SIEGES:
        siege = SIEGES[name]
        siege.peers = arguments.peers or siege.peers
        form = "Connection: keep-alive, x\r\n" if arguments.odd else ""
        figures = trio.run(run, siege, arguments.seconds, form, arguments.option)
        cuts = quantiles(figures.delays, n=100)
        print(
            f"{name:18} {siege.peers} peers: memory {figures.before:.0f} -> {figures.highest:.0f} -> "
            f"{figures.after:.0f} MiB; responses {json.dumps(figures.responses)}; "
            f"/health p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, "
            f"highest {max(figures.delays) * 1000:.0f} ms"
        )


if __name__ == "__main__":
    main()

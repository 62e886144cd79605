"""What peers that read or write slowly make a server hold: its memory, and how long others wait meanwhile.

    python benchmarks/held_memory.py [file] [page] [bodies] [bodies-with-token] [--seconds 20]

Each siege has a server process of its own:

- file: 480 connections, without an account, each read the bundle of /docs at 8 KiB/s;
- page: 200 connections each read a page of 200 messages, 6 MB of JSON, at 8 KiB/s;
- bodies: 300 connections, without a token, each send a body of 1 MiB but for its last KiB;
- bodies-with-token: the same with a token, where the body is awaited.

The table shows the server's memory (VmRSS) before, the highest of the siege, and afterwards, when all have
left; what the connections were answered; and p50, p99 and the highest of a GET /health every 20 ms.
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
"""Bytes that a slow reader takes in a second."""
BODY = 1_048_576
PAYLOAD = "x" * 30_000
SETTLE = 10.0
"""Seconds after which the memory is read that is left when all have gone."""


@define
class Seen:
    """What a siege showed; memory in MiB, times in seconds."""

    before: float = 0
    highest: float = 0
    after: float = 0
    answers: Counter[str] = field(factory=Counter)
    delays: list[float] = field(factory=list)


@define
class Target:
    """The server under siege."""

    port: int
    pid: int
    seen: Seen
    token: str = ""
    chat: int = 0

    @property
    def memory(self) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]

    async def connect(self, *, receive_buffer: int | None = None) -> trio.SocketStream:
        plain = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await plain.connect(("127.0.0.1", self.port))
        return trio.SocketStream(plain)


@contextmanager
def server(directory: Path, *options: str) -> Iterator[Target]:
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
            yield Target(int(port), process.pid, Seen())
        finally:
            process.terminate()


# --- the sieges -------------------------------------------------------------------------------------------


async def read_slowly(target: Target, request: bytes) -> None:
    """Ask, and read the answer at `RATE`; note its status, or how it ended."""
    stream = await target.connect(receive_buffer=4096)
    noted = "no answer"
    try:
        await stream.send_all(request)
        while data := await stream.receive_some(RATE):
            if noted == "no answer":
                noted = data.split(b" ", 2)[1].decode()
            if noted == "503":
                break
            await trio.sleep(len(data) / RATE)
        else:
            noted += ", closed"
    except trio.BrokenResourceError:
        noted += ", reset"
    finally:
        target.seen.answers[noted] += 1
        with trio.CancelScope(shield=True):
            await stream.aclose()


async def file_reader(target: Target) -> None:
    await read_slowly(target, b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: test\r\n\r\n")


async def page_reader(target: Target) -> None:
    head = f"GET /api/v1/messages?chat_id={target.chat}&limit=200 HTTP/1.1\r\nHost: test\r\n"
    await read_slowly(target, f"{head}Authorization: Bearer {target.token}\r\n\r\n".encode())


async def body_sender(target: Target) -> None:
    """Send all of a body but its last KiB, then wait."""
    head = f"POST /api/v1/messages HTTP/1.1\r\nHost: test\r\nContent-Length: {BODY}\r\n"
    head += "Content-Type: application/json\r\n"
    head += f"Authorization: Bearer {target.token}\r\n" if target.token else ""
    stream = await target.connect()
    noted = "no answer"
    try:
        await stream.send_all(head.encode() + b"\r\n")
        with suppress(trio.BrokenResourceError):
            await stream.send_all(b" " * (BODY - 1024))
        while data := await stream.receive_some(RATE):
            if noted == "no answer":
                noted = data.split(b" ", 2)[1].decode()
        noted += ", closed"
    except trio.BrokenResourceError:
        noted += ", reset"
    finally:
        target.seen.answers[noted] += 1
        with trio.CancelScope(shield=True):
            await stream.aclose()


@define
class Siege:
    """How many peers do what, after what."""

    peers: int
    peer: Callable[[Target], Awaitable[None]]
    account: bool = False
    history: int = 0


SIEGES = {
    "file": Siege(480, file_reader),
    "page": Siege(200, page_reader, account=True, history=200),
    "bodies": Siege(300, body_sender),
    "bodies-with-token": Siege(300, body_sender, account=True),
}


async def prepare(siege: Siege, target: Target) -> None:
    """Load what is loaded when first asked for, and make what the siege asks for."""
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


async def ask_for_health(target: Target) -> None:
    """Ask once every 20 ms, on one connection."""
    stream = await target.connect()
    while True:
        began = perf_counter()
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n")
        while not (await stream.receive_some()).endswith(b"}"):
            pass
        target.seen.delays.append(perf_counter() - began)
        await trio.sleep(0.02)


async def watch(target: Target) -> None:
    while True:
        target.seen.highest = max(target.seen.highest, target.memory)
        await trio.sleep(0.05)


async def run(siege: Siege, seconds: float, options: list[str]) -> Seen:
    with tempfile.TemporaryDirectory() as directory, server(Path(directory), *options) as target:
        await prepare(siege, target)
        await trio.sleep(2)
        target.seen.before = target.memory
        async with trio.open_nursery() as watching:
            watching.start_soon(watch, target)
            watching.start_soon(ask_for_health, target)
            with trio.move_on_after(seconds):
                async with trio.open_nursery() as peers:
                    for _ in range(siege.peers):
                        peers.start_soon(siege.peer, target)
                await trio.sleep_forever()
            watching.cancel_scope.cancel()
        await trio.sleep(SETTLE)
        target.seen.after = target.memory
        return target.seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sieges", nargs="*", choices=[*SIEGES, []], default=[])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--peers", type=int)
    parser.add_argument("--option", action="append", default=[], help="An option for messaging serve.")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name in arguments.sieges or SIEGES:
        siege = SIEGES[name]
        siege.peers = arguments.peers or siege.peers
        seen = trio.run(run, siege, arguments.seconds, arguments.option)
        cuts = quantiles(seen.delays, n=100)
        print(
            f"{name:18} {siege.peers} peers: memory {seen.before:.0f} -> {seen.highest:.0f} -> "
            f"{seen.after:.0f} MiB; answers {json.dumps(seen.answers)}; /health p50 {cuts[49] * 1000:.1f} ms,"
            f" p99 {cuts[98] * 1000:.1f} ms, highest {max(seen.delays) * 1000:.0f} ms"
        )


if __name__ == "__main__":
    main()

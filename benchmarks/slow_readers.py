"""Measures the cost of sockets that never read to the other sockets: the same load with and without them.

    python benchmarks/slow_readers.py [--sockets 1000] [--stalled 100] [--groups 10] [--messages 10000]

The program starts a server and spreads the sockets and the messages over groups. Every socket that reads must
receive every message of its group in order; the server must close the others with 4408. The program prints
the p50 and p99 of the delivery for both runs, their ratio, and the server's peak memory.
"""

import argparse
import base64
import json
import os
import re
import resource
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

import httpx
import trio
from attrs import define, field

PER_USER = 20
SENDERS = 8
PADDING = "x" * 3000
"""Pads a message to 3 KB, which fills a stalled socket's kernel buffers and outbox within the run."""


@define
class RunTally:
    """The deliveries of one run; times in seconds."""

    expected: int
    delays: list[float] = field(factory=list)
    complete: int = 0
    closed: dict[int, int] = field(factory=dict)


@contextmanager
def server(directory: Path) -> Iterator[tuple[str, int]]:
    """`messaging serve` on a free port; yields its address and process id."""
    command = [
        *(str(Path(sys.executable).with_name("messaging")), "serve", "--bind", "127.0.0.1:0"),
        *("--database", f"sqlite:///{directory}/messaging.db", "--no-rate-limits", "--log-level", "warning"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = next(
            match[1] for line in process.stdout if (match := re.search(r"(http://\S+)/docs", line))
        )
        try:
            yield address, process.pid
        finally:
            process.terminate()


def memory(pid: int, field_name: str) -> int:
    """`VmHWM` or `VmRSS` of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{field_name}:\s+(\d+) kB", status)[1]) // 1024  # type: ignore[index]


class RawWebSocket:
    """A WebSocket that only reads frames, because the load must cost less than the server."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    @classmethod
    async def open(cls, port: int, token: str, *, buffer: int | None = None) -> "RawWebSocket":
        sock = trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await sock.connect(("127.0.0.1", port))
        stream = trio.SocketStream(sock)
        key = base64.b64encode(os.urandom(16)).decode()
        await stream.send_all(
            f"GET /ws?token={token} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        opened = cls(stream)
        head = await opened._read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        return opened

    async def frames(self) -> AsyncIterator[tuple[int, bytes]]:
        """Opcode and payload of each frame. Raises `EOFError` when the connection ends."""
        while True:
            head = await self._read(2)
            size = head[1]
            if size == 126:
                (size,) = struct.unpack("!H", await self._read(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self._read(8))
            yield head[0] & 15, await self._read(size)

    async def pong(self, payload: bytes) -> None:
        await self._stream.send_all(bytes([0x8A, 0x80 | len(payload), 0, 0, 0, 0]) + payload)

    async def _read_until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            await self._receive()
        return await self._read(self._buffer.index(end) + len(end))

    async def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._receive()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def _receive(self) -> None:
        data = await self._stream.receive_some(65536)
        if not data:
            raise EOFError
        self._buffer += data


@asynccontextmanager
async def group(http: httpx.AsyncClient, name: str, people: int) -> AsyncIterator[tuple[int, list[str]]]:
    """A new group of new users; yields its id and their access tokens."""
    tokens, ids = [], []
    for number in range(people):
        account = {"email": f"{name}{number}@test.com", "password": "password123", "display_name": name}
        registered = (await http.post("/auth/register", json=account)).raise_for_status().json()
        tokens.append(registered["access_token"])
        ids.append(registered["user"]["id"])
    headers = {"Authorization": f"Bearer {tokens[0]}"}
    created = await http.post(
        "/chats", json={"title": name, "member_ids": ids, "is_group": True}, headers=headers
    )
    yield created.raise_for_status().json()["id"], tokens


async def listen(sock: RawWebSocket, wanted: int, tally: RunTally) -> None:
    """Read until `wanted` messages have arrived, in order, or the server closes the socket."""
    last = 0
    count = 0
    try:
        async for opcode, payload in sock.frames():
            if opcode == 9:
                await sock.pong(payload)
            elif opcode == 8:
                code = int.from_bytes(payload[:2])
                tally.closed[code] = tally.closed.get(code, 0) + 1
                return
            else:
                number = int(re.search(rb'"id":(\d+)', payload)[1])  # type: ignore[index]
                sent = float(re.search(rb'"content":"([\d.]+) ', payload)[1])  # type: ignore[index]
                tally.delays.append(perf_counter() - sent)
                assert number > last, "out of order"
                last, count = number, count + 1
                if count == wanted:
                    tally.complete += 1
                    return
    except (EOFError, trio.BrokenResourceError):
        tally.closed[1006] = tally.closed.get(1006, 0) + 1


async def run(arguments: argparse.Namespace, stalled: int) -> tuple[RunTally, int, int]:
    """One run; returns its tally, the server's memory with idle sockets, and its peak memory."""
    share = arguments.sockets // arguments.groups
    each = arguments.messages // arguments.groups
    with tempfile.TemporaryDirectory() as directory, server(Path(directory)) as (address, pid):
        port = int(address.rpartition(":")[2])
        tally = RunTally(expected=(arguments.sockets - stalled) * each)
        async with httpx.AsyncClient(base_url=f"{address}/api/v1", timeout=60) as http:
            chats, sleepers = [], []
            async with trio.open_nursery() as readers:
                for number in range(arguments.groups):
                    async with group(http, f"g{number}", -(-share // PER_USER)) as (chat, tokens):
                        chats.append((chat, tokens[0]))
                    for place in range(share):
                        asleep = place < stalled // arguments.groups
                        sock = await RawWebSocket.open(
                            port, tokens[place // PER_USER], buffer=4096 if asleep else None
                        )
                        if asleep:
                            sleepers.append(sock)
                        else:
                            readers.start_soon(listen, sock, each, tally)
                idle = memory(pid, "VmRSS")
                await send_all(address, chats, each)
            # The stalled sockets now read the frames in their buffers, and then the server's close frame.
            asleep_tally = RunTally(0)
            with trio.move_on_after(30):
                async with trio.open_nursery() as nursery:
                    for sock in sleepers:
                        nursery.start_soon(listen, sock, each, asleep_tally)
        tally.closed = asleep_tally.closed
        return tally, idle, memory(pid, "VmHWM")


async def send_all(address: str, chats: list[tuple[int, str]], each: int) -> None:
    """Send every group its messages, with `SENDERS` concurrent requests."""
    limits = httpx.Limits(max_connections=SENDERS)
    turn = trio.CapacityLimiter(SENDERS)
    async with httpx.AsyncClient(base_url=f"{address}/api/v1", timeout=60, limits=limits) as http:

        async def sender(chat: int, token: str) -> None:
            headers = {"Authorization": f"Bearer {token}"}
            for _ in range(each):
                async with turn:
                    body: dict[str, Any] = {"chat_id": chat, "type": "text"}
                    body["content"] = f"{perf_counter()} {PADDING}"
                    (await http.post("/messages", json=body, headers=headers)).raise_for_status()

        async with trio.open_nursery() as nursery:
            for chat, token in chats:
                nursery.start_soon(sender, chat, token)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("sockets", 1000), ("stalled", 100), ("groups", 10), ("messages", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    p99 = []
    for stalled in (0, arguments.stalled):
        tally, idle, peak = trio.run(run, arguments, stalled)
        cuts = quantiles(tally.delays, n=100)
        p99.append(cuts[98])
        print(
            f"{stalled:4} stalled: {len(tally.delays)} of {tally.expected} deliveries, "
            f"{tally.complete} sockets complete, p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms, "
            f"memory {idle} -> {peak} MiB, closed {json.dumps(tally.closed)}"
        )
    print(f"p99 with stalled sockets / without: {p99[1] / p99[0]:.2f}")


if __name__ == "__main__":
    main()

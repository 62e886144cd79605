"""Measures how much one account within its limits delays another: the sends of a neighbour with and without
it.

    python -m benchmarks.neighbours [--seconds 8] [--connections 6] [--insist]

There is one server with rate limits and an SQLite file, and two accounts. The neighbour sends a message every
60 ms into a direct chat, each with a new Idempotency-Key: first alone, then while the heavy account uses its
connections in one of these ways:

- groups: creates groups of 1,000 people, each with a key
- pages: reads pages of 200 messages of 32 KB
- lists: reads its list of chats, after it has 20 groups of 1,000

Each connection sends its next request after the response, and waits for Retry-After after a 429; with
--insist it does not wait. The table shows the neighbour's p50 and p99, the longest response time of GET
/health on a third connection, the statuses of the heavy account's responses, and the bytes that the server
wrote to the disk.
"""

import argparse
import json
import re
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from uuid import uuid4

import trio
from attrs import define, field

from benchmarks.load.population import DIRECT_CHATS, GROUPS, HISTORY, token_of
from benchmarks.load.processes import (
    RunningServer,
    choose_cores,
    free_port,
    ours,
    running,
    use_load_core,
)
from benchmarks.load.seeding import seed_ours
from benchmarks.load.wire import request, response_body, response_size

PACE = 0.06
"""Seconds between two sends of the neighbour, which is within the message rate."""
HEAVY_PERSON = HISTORY.people[0]
PAYLOAD = json.dumps({"text": "x" * 32_000})
PAGE = 200
RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)


@define
class NeighbourFigures:
    """The figures of one run; times in seconds."""

    send_seconds: list[float] = field(factory=list)
    """The duration of each of the neighbour's sends."""
    health: list[float] = field(factory=list)
    statuses: Counter[int] = field(factory=Counter)
    """The statuses of the heavy account's responses."""
    response_bytes: int = 0
    """Bytes in the bodies of the heavy account's responses."""
    written: int = 0
    """Bytes that the server wrote to the disk."""


class KeepAliveConnection:
    """One keep-alive connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    @classmethod
    async def open(cls, port: int) -> "KeepAliveConnection":
        return cls(await trio.open_tcp_stream("127.0.0.1", port))

    async def request(self, whole: bytes) -> bytes:
        await self._stream.send_all(whole)
        parts, size, received = [], 0, 0
        while size == 0 or received < size:
            data = await self._stream.receive_some(1_048_576)
            if not data:
                raise EOFError("the server closed the connection")
            parts.append(data)
            received += len(data)
            if size == 0:
                parts = [b"".join(parts)]
                size = response_size(parts[0])
        return b"".join(parts)


def group(token: str) -> bytes:
    """A request for a new group of the seeded group's members, with a new key."""
    body = json.dumps({"title": "Neighbours", "member_ids": list(GROUPS[1000].people)[1:]})
    return request("POST", "/api/v1/chats", token=token, body=body.encode(), Idempotency_Key=str(uuid4()))


def page(token: str) -> bytes:
    return request("GET", f"/api/v1/messages?chat_id={HISTORY.id}&limit={PAGE}", token=token)


def chat_list(token: str) -> bytes:
    return request("GET", "/api/v1/chats", token=token)


HEAVY: dict[str, Callable[[str], bytes]] = {"groups": group, "pages": page, "lists": chat_list}


def fill(path: Path) -> None:
    """Insert a page of large messages into the chat `HISTORY`."""
    now = int(datetime.now(UTC).timestamp())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO messages (id, chat_id, author_id, type, payload, ts, sequence) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(n, HISTORY.id, HEAVY_PERSON, "file", PAYLOAD, now, n) for n in range(1, PAGE + 2)],
        )
        connection.execute(
            "UPDATE chats SET sequence = ?, last_message_id = ?, active_at = ? WHERE id = ?",
            (PAGE + 1, PAGE + 1, now, HISTORY.id),
        )
        connection.execute("REPLACE INTO sequences (kind, last) VALUES ('message', ?)", (PAGE + 1,))


async def neighbour(port: int, figures: NeighbourFigures) -> None:
    """Send a message every `PACE` seconds until cancelled."""
    chat = DIRECT_CHATS[0]
    token = token_of(chat.people[0])
    connection = await KeepAliveConnection.open(port)
    while True:
        body = json.dumps(
            {"chat_id": chat.id, "type": "text", "content": "Hello, how are you today?"}
        ).encode()
        whole = request("POST", "/api/v1/messages", token=token, body=body, Idempotency_Key=str(uuid4()))
        began = perf_counter()
        response = await connection.request(whole)
        took = perf_counter() - began
        assert response.startswith(b"HTTP/1.1 201"), response[:300]
        figures.send_seconds.append(took)
        await trio.sleep(max(0.0, PACE - took))


async def health(port: int, figures: NeighbourFigures) -> None:
    connection = await KeepAliveConnection.open(port)
    while True:
        began = perf_counter()
        await connection.request(request("GET", "/health"))
        figures.health.append(perf_counter() - began)
        await trio.sleep(0.01)


async def heavy(
    port: int, next_request: Callable[[], bytes], figures: NeighbourFigures, *, insist: bool
) -> None:
    connection = await KeepAliveConnection.open(port)
    while True:
        response = await connection.request(next_request())
        status = int(response[9:12])
        figures.statuses[status] += 1
        figures.response_bytes += len(response_body(response))
        if status == 429 and not insist:
            found = RETRY_AFTER.search(response)
            assert found is not None, response[:300]
            await trio.sleep(int(found[1]))


def bytes_written(pid: int) -> int:
    found = re.search(r"^write_bytes: (\d+)$", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


async def measure(
    server: RunningServer, seconds: float, *beside: Callable[[NeighbourFigures], Awaitable[None]]
) -> NeighbourFigures:
    figures = NeighbourFigures()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(neighbour, server.port, figures)
        nursery.start_soon(health, server.port, figures)
        await trio.sleep(0.5)
        figures.send_seconds.clear()
        figures.health.clear()
        written = bytes_written(server.pid)
        for each in beside:
            nursery.start_soon(each, figures)
        await trio.sleep(seconds)
        figures.written = bytes_written(server.pid) - written
        nursery.cancel_scope.cancel()
    return figures


async def create_groups(port: int, count: int) -> None:
    """Create `count` groups of the heavy account, as fast as its limits allow."""
    connection, token = await KeepAliveConnection.open(port), token_of(HEAVY_PERSON)
    with trio.move_on_after(60):
        while count:
            response = await connection.request(group(token))
            if response.startswith(b"HTTP/1.1 201"):
                count -= 1
            elif (found := RETRY_AFTER.search(response)) is not None:
                await trio.sleep(int(found[1]))


@contextmanager
def heavy_server(directory: Path) -> Iterator[RunningServer]:
    database, port, cores = directory / "messaging.db", free_port(), choose_cores()
    seed_ours(database)
    fill(database)
    command = ours(port, database)
    # Without the raised rates of `ours`, so that the defaults apply.
    for name in ("--message-rate", "--request-rate"):
        position = command.index(name)
        del command[position : position + 2]
    with running(command, port, cores) as server:
        yield server


async def run(kind: str, server: RunningServer, arguments: argparse.Namespace) -> None:
    request_of, token = HEAVY[kind], token_of(HEAVY_PERSON)
    if kind == "lists":
        await create_groups(server.port, 20)
    alone = await measure(server, arguments.seconds)

    async def one(figures: NeighbourFigures) -> None:
        await heavy(server.port, lambda: request_of(token), figures, insist=arguments.insist)

    beside = await measure(server, arguments.seconds, *(one for _ in range(arguments.connections)))
    for name, figures in (("alone", alone), (kind, beside)):
        cuts = quantiles(figures.send_seconds, n=100)
        sends = f"{median(figures.send_seconds) * 1e3:.1f} | {cuts[98] * 1e3:.1f}"
        statuses = dict(sorted(figures.statuses.items())) or ""
        bytes_ = f"{figures.response_bytes / 1e6:.1f} | {figures.written / 1e6:.1f}"
        print(f"| {name} | {sends} | {max(figures.health) * 1e3:.0f} | {statuses} | {bytes_} |", flush=True)
    print(f"| ratio | {median(beside.send_seconds) / median(alone.send_seconds):.1f} | | | | | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.neighbours",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--connections", type=int, default=6)
    parser.add_argument("--kinds", default=",".join(HEAVY), help="[%(default)s]")
    parser.add_argument("--insist", action="store_true", help="do not wait after a 429")
    arguments = parser.parse_args()
    use_load_core(choose_cores())
    print("| | send p50 ms | send p99 ms | /health longest ms | responses | MB of responses | MB written |")
    print("|---|---:|---:|---:|---|---:|---:|")
    for kind in arguments.kinds.split(","):
        with tempfile.TemporaryDirectory() as directory, heavy_server(Path(directory)) as server:
            trio.run(run, kind, server, arguments)


if __name__ == "__main__":
    main()

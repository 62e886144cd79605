"""What one account within its limits costs another: the other's sends alone, and beside it.

    python -m benchmarks.neighbours [--seconds 8] [--connections 6] [--insist]

One server with its rate limits on, an SQLite file, and two accounts. The neighbour sends a message every
60 ms into a direct chat, with a fresh Idempotency-Key: first alone, then while the heavy account uses its
connections in one of these ways:

- groups: makes groups of 1,000 people, each with a key
- pages: reads pages of 200 messages of 32 KB
- lists: reads its list of chats, once it has 20 groups of 1,000

Each connection sends its next request when it has read the answer, and after a 429 waits as Retry-After says;
with --insist it waits for nothing. The table shows the neighbour's p50 and p99, the longest answer to
GET /health on a third connection, what the heavy account was answered, and what the server has written to
the disk meanwhile.
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
    Running,
    choose_cores,
    free_port,
    ours,
    running,
    take_load_core,
)
from benchmarks.load.seeding import seed_ours
from benchmarks.load.wire import answer_body, answer_size, request

PACE = 0.06
"""Seconds between two sends of the neighbour: within the rate of messages."""
HEAVY_PERSON = HISTORY.people[0]
PAYLOAD = json.dumps({"text": "x" * 32_000})
PAGE = 200
RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)


@define
class Figures:
    """What one run has shown; times in seconds."""

    took: list[float] = field(factory=list)
    """Of each of the neighbour's sends."""
    health: list[float] = field(factory=list)
    statuses: Counter[int] = field(factory=Counter)
    """Of the heavy account's answers."""
    answered: int = 0
    """Bytes of them."""
    written: int = 0
    """Bytes that the server has sent to the disk."""


class Connection:
    """One keep-alive connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    @classmethod
    async def open(cls, port: int) -> "Connection":
        return cls(await trio.open_tcp_stream("127.0.0.1", port))

    async def ask(self, whole: bytes) -> bytes:
        await self._stream.send_all(whole)
        parts, size, held = [], 0, 0
        while size == 0 or held < size:
            data = await self._stream.receive_some(1_048_576)
            if not data:
                raise EOFError("the server has closed the connection")
            parts.append(data)
            held += len(data)
            if size == 0:
                parts = [b"".join(parts)]
                size = answer_size(parts[0])
        return b"".join(parts)


def group(token: str) -> bytes:
    """A request for a new group of everybody in the seeded one, under a key of its own."""
    body = json.dumps({"title": "Neighbours", "member_ids": list(GROUPS[1000].people)[1:]})
    return request("POST", "/api/v1/chats", token=token, body=body.encode(), Idempotency_Key=str(uuid4()))


def page(token: str) -> bytes:
    return request("GET", f"/api/v1/messages?chat_id={HISTORY.id}&limit={PAGE}", token=token)


def chat_list(token: str) -> bytes:
    return request("GET", "/api/v1/chats", token=token)


HEAVY: dict[str, Callable[[str], bytes]] = {"groups": group, "pages": page, "lists": chat_list}


def fill(path: Path) -> None:
    """Put a page of large messages into the history that is read."""
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


async def neighbour(port: int, figures: Figures) -> None:
    """Send at its pace, for ever."""
    chat = DIRECT_CHATS[0]
    token = token_of(chat.people[0])
    connection = await Connection.open(port)
    while True:
        body = json.dumps(
            {"chat_id": chat.id, "type": "text", "content": "Hello, how are you today?"}
        ).encode()
        whole = request("POST", "/api/v1/messages", token=token, body=body, Idempotency_Key=str(uuid4()))
        began = perf_counter()
        answer = await connection.ask(whole)
        took = perf_counter() - began
        assert answer.startswith(b"HTTP/1.1 201"), answer[:300]
        figures.took.append(took)
        await trio.sleep(max(0.0, PACE - took))


async def health(port: int, figures: Figures) -> None:
    connection = await Connection.open(port)
    while True:
        began = perf_counter()
        await connection.ask(request("GET", "/health"))
        figures.health.append(perf_counter() - began)
        await trio.sleep(0.01)


async def heavy(port: int, make: Callable[[], bytes], figures: Figures, *, insist: bool) -> None:
    connection = await Connection.open(port)
    while True:
        answer = await connection.ask(make())
        status = int(answer[9:12])
        figures.statuses[status] += 1
        figures.answered += len(answer_body(answer))
        if status == 429 and not insist:
            found = RETRY_AFTER.search(answer)
            assert found is not None, answer[:300]
            await trio.sleep(int(found[1]))


def bytes_written(pid: int) -> int:
    found = re.search(r"^write_bytes: (\d+)$", Path(f"/proc/{pid}/io").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


async def measure(server: Running, seconds: float, *beside: Callable[[Figures], Awaitable[None]]) -> Figures:
    figures = Figures()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(neighbour, server.port, figures)
        nursery.start_soon(health, server.port, figures)
        await trio.sleep(0.5)
        figures.took.clear()
        figures.health.clear()
        written = bytes_written(server.pid)
        for each in beside:
            nursery.start_soon(each, figures)
        await trio.sleep(seconds)
        figures.written = bytes_written(server.pid) - written
        nursery.cancel_scope.cancel()
    return figures


async def groups_of_its_own(port: int, count: int) -> None:
    """Give the heavy account groups, as fast as its limits let it."""
    connection, token = await Connection.open(port), token_of(HEAVY_PERSON)
    with trio.move_on_after(60):
        while count:
            answer = await connection.ask(group(token))
            if answer.startswith(b"HTTP/1.1 201"):
                count -= 1
            elif (found := RETRY_AFTER.search(answer)) is not None:
                await trio.sleep(int(found[1]))


@contextmanager
def served(directory: Path) -> Iterator[Running]:
    database, port, cores = directory / "messaging.db", free_port(), choose_cores()
    seed_ours(database)
    fill(database)
    command = ours(port, database)
    # Within its limits: those that a server has which nobody has set.
    for name in ("--message-rate", "--request-rate"):
        position = command.index(name)
        del command[position : position + 2]
    with running(command, port, cores) as server:
        yield server


async def run(kind: str, server: Running, arguments: argparse.Namespace) -> None:
    make, token = HEAVY[kind], token_of(HEAVY_PERSON)
    if kind == "lists":
        await groups_of_its_own(server.port, 20)
    alone = await measure(server, arguments.seconds)

    async def one(figures: Figures) -> None:
        await heavy(server.port, lambda: make(token), figures, insist=arguments.insist)

    beside = await measure(server, arguments.seconds, *(one for _ in range(arguments.connections)))
    for name, figures in (("alone", alone), (kind, beside)):
        cuts = quantiles(figures.took, n=100)
        times = f"{median(figures.took) * 1e3:.1f} | {cuts[98] * 1e3:.1f} | {max(figures.health) * 1e3:.0f}"
        statuses = dict(sorted(figures.statuses.items())) or ""
        bytes_ = f"{figures.answered / 1e6:.1f} | {figures.written / 1e6:.1f}"
        print(f"| {name} | {times} | {statuses} | {bytes_} |", flush=True)
    print(f"| ratio | {median(beside.took) / median(alone.took):.1f} | | | | | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.neighbours",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--connections", type=int, default=6)
    parser.add_argument("--kinds", default=",".join(HEAVY), help="[%(default)s]")
    parser.add_argument("--insist", action="store_true", help="wait for nothing after a 429")
    arguments = parser.parse_args()
    take_load_core(choose_cores())
    print("| | send p50 ms | send p99 ms | /health longest ms | answers | MB answered | MB written |")
    print("|---|---:|---:|---:|---|---:|---:|")
    for kind in arguments.kinds.split(","):
        with tempfile.TemporaryDirectory() as directory, served(Path(directory)) as server:
            trio.run(run, kind, server, arguments)


if __name__ == "__main__":
    main()

"""Measures how a server that restarts takes its clients back: sockets that all return at once.

    python -m benchmarks.restart [--sockets 5000] [--chats 50]

Each person is in `--chats` groups of ten, and has one socket. The server starts on that database with nothing
in memory, and all clients connect as quickly as they can: once with profile 2, where each says up to which
number it has its chats, and has missed nothing; once with profile 1, where each finds out what changed by
`GET /chats` and a page of a tenth of its chats. Meanwhile people of other chats send messages, one at a time
each.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from time import perf_counter

import trio
from attrs import define, field

from adapters.storage_sql import open_sqlite
from benchmarks.load.population import DIRECT_CHATS, PEOPLE, token_of
from benchmarks.load.processes import choose_cores, free_port, ours, running, thread_seconds, use_load_core
from benchmarks.load.rows import request_pieces
from benchmarks.load.seeding import seed_ours
from benchmarks.load.wire import request, response_size, upgrade, walk
from messaging_core.effects import AppendEvent, StoreChat
from messaging_core.events import ChatCreated, log_entry
from messaging_core.ids import ChatId, UserId
from messaging_core.models import Chat, Member, Role
from messaging_core.ports import Transaction

GROUP = 10
FIRST = 1 + DIRECT_CHATS[-1].people[-1]
"""The first person with a socket; those before send into their direct chats."""
SENDERS = 4
AT_ONCE = 250
"""Handshakes at a time, as a kernel's backlog allows."""
PAGES = 10
"""The share of the chats whose page a client of profile 1 fetches: one in so many."""
CHATS_AT_ONCE = 500
"""Chats in one transaction of the seeding."""


def seed(path: Path, sockets: int, chats: int) -> dict[int, list[int]]:
    """Create the database; the chats of each person with a socket."""
    seed_ours(path)
    people = list(range(FIRST, FIRST + sockets))
    groups = [
        [people[(start + turn * stride) % sockets] for turn in range(GROUP)]
        for stride in range(1, chats // GROUP + 1)
        for start in range(sockets)
    ]
    then = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    chats_of: dict[int, list[int]] = {person: [] for person in people}

    def store(tx: Transaction, some: list[list[int]]) -> None:
        for members in some:
            chat_id = tx.next_chat_id()
            roles = [Role.OWNER] + [Role.MEMBER] * (len(members) - 1)
            joined = tuple(
                Member(UserId(person), role, then) for person, role in zip(members, roles, strict=True)
            )
            chat = Chat(ChatId(chat_id), f"Group {chat_id}", True, then, joined, 1, then, None)
            tx.apply(StoreChat(chat))
            tx.apply(AppendEvent(log_entry(chat_id, 1, ChatCreated(chat), then)))
            for person in members:
                chats_of[person].append(chat_id)

    async def fill() -> None:
        async with open_sqlite(path) as storage:
            for begin in range(0, len(groups), CHATS_AT_ONCE):
                await storage.transact(partial(store, some=groups[begin : begin + CHATS_AT_ONCE]))

    trio.run(fill)
    return chats_of


def text_frame(payload: bytes) -> bytes:
    """A client's text frame, masked with zeros."""
    size = len(payload)
    head = bytes((0x81, 0x80 | size)) if size < 126 else bytes((0x81, 0xFE)) + size.to_bytes(2)
    return head + bytes(4) + payload


class Connection:
    """A blocking-style client over trio's stream."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._data = b""

    async def response(self) -> bytes:
        while not (size := response_size(self._data)) or len(self._data) < size:
            self._data += await self.stream.receive_some(65_536)
        response, self._data = self._data[:size], self._data[size:]
        assert response.startswith(b"HTTP/1.1 20"), response[:300]
        return response

    async def upgraded(self) -> None:
        while b"\r\n\r\n" not in self._data:
            self._data += await self.stream.receive_some(65_536)
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head

    async def frame(self, event: bytes) -> bytes:
        """The first frame of this event."""
        while True:
            for _, _, start, end in walk(self._data):
                if self._data[start:end].startswith(b'{"event":"%b"' % event):
                    found, self._data = self._data[start:end], self._data[end:]
                    return found
            self._data += await self.stream.receive_some(65_536)


async def connect(port: int) -> Connection:
    return Connection(await trio.open_tcp_stream("127.0.0.1", port))


async def resume(port: int, person: int, chats: list[int]) -> Connection:
    """Come back with profile 2, having missed nothing."""
    connection = await connect(port)
    await connection.stream.send_all(upgrade(f"{token_of(person)}&profile=2&resume=1"))
    await connection.upgraded()
    log = json.loads(await connection.frame(b"hello"))["data"]["log"]
    positions = {str(chat_id): 1 for chat_id in chats}
    message = json.dumps({"event": "resume", "data": {"log": log, "chats": positions}})
    await connection.stream.send_all(text_frame(message.encode()))
    await connection.frame(b"resumed")
    return connection


async def fetch(port: int, person: int, chats: list[int]) -> Connection:
    """Come back with profile 1: a socket, the list of chats, and a page of some of them."""
    token = token_of(person)
    connection = await connect(port)
    await connection.stream.send_all(upgrade(token))
    await connection.upgraded()
    http = await connect(port)
    paths = ["/api/v1/chats", *(f"/api/v1/messages?chat_id={chat_id}" for chat_id in chats[::PAGES])]
    for path in paths:
        await http.stream.send_all(request("GET", path, token=token))
        await http.response()
    await http.stream.aclose()
    return connection


Return = Callable[[int, int, list[int]], Awaitable[Connection]]


@define
class Measured:
    """The figures of one way to come back."""

    seconds: float = 0.0
    """From the first connection until everybody is live."""
    processor: float = 0.0
    """Seconds of the server's processor, those of the sends included."""
    sends: list[float] = field(factory=list)


async def come_back(port: int, pid: int, chats_of: dict[int, list[int]], one: Return) -> Measured:
    measured = Measured()
    places = trio.Semaphore(AT_ONCE)
    connections: list[Connection] = []

    async def person(number: int, chats: list[int]) -> None:
        async with places:
            connections.append(await one(port, number, chats))

    async def send(number: int) -> None:
        chat = DIRECT_CHATS[number]
        before, between, after = request_pieces(chat.id, chat.people[0])
        connection = await connect(port)
        while True:
            count = len(measured.sends)
            began = perf_counter()
            await connection.stream.send_all(b"%b%012d%b%010d%b" % (before, count, between, count, after))
            await connection.response()
            measured.sends.append(perf_counter() - began)
            await trio.sleep(0.02)

    async with trio.open_nursery() as senders:
        for number in range(SENDERS):
            senders.start_soon(send, number)
        await trio.sleep(0.5)
        measured.sends.clear()
        before = thread_seconds(pid)[0]
        began = perf_counter()
        async with trio.open_nursery() as returning:
            for number, chats in chats_of.items():
                returning.start_soon(person, number, chats)
        measured.seconds = perf_counter() - began
        measured.processor = thread_seconds(pid)[0] - before
        senders.cancel_scope.cancel()
    for connection in connections:
        connection.stream.socket.close()
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sockets", type=int, default=PEOPLE - FIRST + 1)
    parser.add_argument("--chats", type=int, default=50)
    arguments = parser.parse_args()
    cores = choose_cores()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "messaging.db"
        chats_of = seed(path, arguments.sockets, arguments.chats)
        use_load_core(cores)
        ways: dict[str, Return] = {"profile 2, resuming": resume, "profile 1, fetching": fetch}
        for name, one in ways.items():
            port = free_port()
            with running(ours(port, path), port, cores) as server:
                measured = trio.run(come_back, port, server.pid, chats_of, one)
            slowest = sorted(measured.sends)[len(measured.sends) * 99 // 100] if measured.sends else 0.0
            each = measured.processor / arguments.sockets * 1000
            sys.stdout.write(
                f"{name}: {arguments.sockets} sockets of {arguments.chats} chats live after "
                f"{measured.seconds:.1f} s, {each:.2f} ms of processor each; "
                f"p99 of {len(measured.sends)} sends meanwhile {slowest * 1000:.0f} ms\n"
            )


if __name__ == "__main__":
    main()

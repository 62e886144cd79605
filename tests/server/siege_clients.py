"""Clients for a siege: they speak HTTP and WebSocket by hand, and use another server when theirs is gone."""

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from typing import Any
from urllib.parse import urlsplit

import trio
from attrs import define, field, frozen

from benchmarks.load.wire import (
    CLOSE,
    PING,
    Malformed,
    pong,
    request,
    response_body,
    response_size,
    upgrade,
    walk,
)

RESPONSE_SECONDS = 60
"""Seconds; no response takes longer, whatever is restarted meanwhile."""
PAUSE_SECONDS = 0.1
"""Seconds before a client tries another server."""
PAGE = 200

BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Gone(Exception):
    """The server has ended or refused the connection."""


class Violation(Exception):
    """A broken rule."""


@frozen
class Somebody:
    id: int
    token: str


@frozen
class Room:
    """A chat."""

    id: int
    people: Sequence[Somebody]


@define
class Ledger:
    """What all clients have sent and received; times are trio's."""

    acknowledged: dict[int, dict[int, str]] = field(factory=lambda: defaultdict(dict))
    """The content of each acknowledged message, by chat and id."""
    acknowledged_at: dict[int, float] = field(factory=dict)
    sent_at: dict[int, float] = field(factory=dict)
    """When each message was sent for the last time."""
    repeated: int = 0
    """The number of sends without a response."""
    refused: Counter[int] = field(factory=Counter)
    """Responses other than 201, by status."""
    closed: Counter[int] = field(factory=Counter)
    """Close codes of sockets; 0 for none."""

    @property
    def count(self) -> int:
        return len(self.acknowledged_at)


@define(eq=False)
class Caller:
    """A keep-alive connection to one of several servers, or to the next one."""

    addresses: Sequence[str]
    number: int
    random: Random
    _stream: trio.SocketStream | None = None

    @property
    def address(self) -> str:
        return self.addresses[self.number % len(self.addresses)]

    async def request(self, request_bytes: bytes) -> tuple[int, Any]:
        """Send a request; returns status and body; raises `Gone`."""
        stream, self._stream = self._stream, None
        try:
            with trio.fail_after(RESPONSE_SECONDS):
                if stream is None:
                    stream = await connected(self.address)
                await stream.send_all(request_bytes)
                response = b""
                while not (size := response_size(response)) or len(response) < size:
                    data = await stream.receive_some()
                    if not data:
                        raise Gone
                    response += data
            self._stream = stream
        except trio.TooSlowError:
            raise Violation(f"{self.address} did not respond within {RESPONSE_SECONDS} s") from None
        except BROKEN:
            raise Gone from None
        finally:
            if stream is not None and self._stream is None:
                stream.socket.close()
        body = response_body(response)
        return int(response[9:12]), json.loads(body) if body else None

    def leave(self) -> None:
        """Use another server from now on."""
        self.number += self.random.randrange(1, max(2, len(self.addresses)))
        if self._stream is not None:
            self._stream.socket.close()
            self._stream = None

    async def insist(self, request_bytes: bytes, ledger: Ledger) -> tuple[Any, float]:
        """Repeat a request, at any server, until a 2xx; returns its body and when it was sent."""
        for tries in count():
            began = trio.current_time()
            try:
                status, body = await self.request(request_bytes)
            except Gone:
                status, body = 0, None
            if 200 <= status < 300:
                ledger.repeated += tries > 0
                return body, began
            ledger.refused[status] += 1
            if status not in {0, 503}:
                raise Violation(f"{self.address} responded {status}: {body}")
            self.leave()
            await trio.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")


async def send(caller: Caller, room: Room, author: Somebody, content: str, ledger: Ledger) -> None:
    """Send a message, under one key, until it is acknowledged."""
    body = json.dumps({"chat_id": room.id, "type": "text", "content": content}).encode()
    request_bytes = request(
        "POST", "/api/v1/messages", token=author.token, body=body, Idempotency_Key=content
    )
    message, began = await caller.insist(request_bytes, ledger)
    if message["content"] != content or message["chat_id"] != room.id:
        raise Violation(f"{content!r} got the response {message}")
    if message["id"] in ledger.acknowledged_at:
        raise Violation(f"two sends got message {message['id']}")
    ledger.sent_at[message["id"]] = began
    ledger.acknowledged_at[message["id"]] = trio.current_time()
    ledger.acknowledged[room.id][message["id"]] = content


async def history(
    caller: Caller, room_id: int, reader: Somebody, after: int, ledger: Ledger
) -> list[tuple[int, str]]:
    """Ids and contents of the messages after one, oldest first, in the way of a client that catches up."""
    messages: list[tuple[int, str]] = []
    before = ""
    while True:
        path = f"/api/v1/messages?chat_id={room_id}&limit={PAGE}{before}"
        page, _ = await caller.insist(request("GET", path, token=reader.token), ledger)
        messages += [(each["id"], each["content"]) for each in page["messages"] if each["id"] > after]
        if not page["has_more"] or page["messages"][-1]["id"] <= after:
            return messages[::-1]
        before = f"&before_id={page['next_cursor']}"


@define(eq=False)
class Listener:
    """A user's socket, which reconnects to any server when it ends.

    What it has of a chat grows by the frames of its sockets, and by the history that it reads after it
    reconnects.
    """

    person: Somebody
    rooms: Sequence[Room]
    caller: Caller
    ledger: Ledger
    received: dict[int, list[int]] = field(factory=lambda: defaultdict(list))
    runs: list[dict[int, list[int]]] = field(factory=list)
    """The messages of each socket, by chat: contiguous parts of its log."""
    received_at: dict[int, float] = field(factory=dict)
    """When a socket first received each message."""
    opened: trio.Event = field(factory=trio.Event)

    async def listen(self) -> None:
        """Run until cancelled."""
        while True:
            try:
                async with self._socket() as stream:
                    await self._receive(stream)
            except* (Gone, *BROKEN):
                self.caller.leave()
            await trio.sleep(PAUSE_SECONDS)

    def has_received_all(self) -> bool:
        return all(
            len(self.received[room.id]) >= len(self.ledger.acknowledged[room.id]) for room in self.rooms
        )

    @asynccontextmanager
    async def _socket(self) -> AsyncIterator[trio.SocketStream]:
        stream = await connected(self.caller.address)
        try:
            await stream.send_all(upgrade(self.person.token))
            head = b""
            with trio.fail_after(RESPONSE_SECONDS):
                while not head.endswith(b"\r\n\r\n"):
                    piece = await stream.receive_some(1)
                    if not piece:
                        raise Gone
                    head += piece
            if not head.startswith(b"HTTP/1.1 101"):
                raise Violation(f"a socket was refused: {head!r}")
            yield stream
        finally:
            await trio.aclose_forcefully(stream)

    async def _receive(self, stream: trio.SocketStream) -> None:
        run: dict[int, list[int]] = defaultdict(list)
        self.runs.append(run)
        early: list[tuple[int, int]] | None = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def catch_up() -> None:
                nonlocal early
                for room in self.rooms:
                    last = max(self.received[room.id], default=0)
                    missed = await history(self.caller, room.id, self.person, last, self.ledger)
                    self.received[room.id] += [message_id for message_id, _ in missed]
                for room_id, message_id in early or ():
                    self._append(room_id, message_id)
                early = None
                self.opened.set()

            async for room_id, message_id in self._frames(stream):
                self.received_at.setdefault(message_id, trio.current_time())
                if run[room_id] and message_id <= run[room_id][-1]:
                    raise Violation(f"message {message_id} came after {run[room_id][-1]} on one socket")
                run[room_id].append(message_id)
                if early is None:
                    self._append(room_id, message_id)
                else:
                    early.append((room_id, message_id))

    def _append(self, room_id: int, message_id: int) -> None:
        if not self.received[room_id] or message_id > self.received[room_id][-1]:
            self.received[room_id].append(message_id)

    async def _frames(self, stream: trio.SocketStream) -> AsyncIterator[tuple[int, int]]:
        part = b""
        while True:
            data = await stream.receive_some(65_536)
            if not data:
                self.ledger.closed[0] += 1
                raise Gone
            part += data
            rest = 0
            for opcode, _, start, end in walk(part):
                rest = end
                if opcode == PING:
                    await stream.send_all(pong(part[start:end]))
                elif opcode == CLOSE:
                    code = int.from_bytes(part[start : start + 2])
                    self.ledger.closed[code] += 1
                    if code not in {1011, 1012}:
                        raise Violation(f"a socket was closed with {part[start:end]!r}")
                    raise Gone
                else:
                    frame = json.loads(part[start:end])
                    if frame["event"] != "message.created":
                        raise Malformed(f"{frame}")
                    yield frame["data"]["chat_id"], frame["data"]["id"]
            part = part[rest:]


async def connected(address: str) -> trio.SocketStream:
    parts = urlsplit(address)
    assert parts.hostname is not None
    assert parts.port is not None
    return await trio.open_tcp_stream(parts.hostname, parts.port)

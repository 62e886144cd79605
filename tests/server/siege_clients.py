"""Clients for a siege: they speak HTTP and WebSocket by hand, and go elsewhere when their server is gone."""

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

ANSWER_SECONDS = 60
"""No answer takes as long, whatever is restarted meanwhile."""
PAUSE_SECONDS = 0.1
"""Before a client tries again, elsewhere."""
PAGE = 200

BROKEN = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class Gone(Exception):
    """The server ended the connection, or does not let one be made."""


class Violation(Exception):
    """What no client may ever see."""


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
    """What all clients have seen; times are trio's."""

    answered: dict[int, dict[int, str]] = field(factory=lambda: defaultdict(dict))
    """The content of each message that was answered, by chat and id."""
    answered_at: dict[int, float] = field(factory=dict)
    asked_at: dict[int, float] = field(factory=dict)
    """When a message was sent, the last time."""
    repeated: int = 0
    """Sends that were not answered at first."""
    refused: Counter[int] = field(factory=Counter)
    """Answers that were no messages, by status."""
    closed: Counter[int] = field(factory=Counter)
    """How sockets ended; 0: without a word."""

    @property
    def count(self) -> int:
        return len(self.answered_at)


@define(eq=False)
class Caller:
    """A keep-alive connection to one of several servers, and then to the next."""

    addresses: Sequence[str]
    number: int
    random: Random
    _stream: trio.SocketStream | None = None

    @property
    def address(self) -> str:
        return self.addresses[self.number % len(self.addresses)]

    async def ask(self, whole: bytes) -> tuple[int, Any]:
        """Status and body; raises `Gone`."""
        stream, self._stream = self._stream, None
        try:
            with trio.fail_after(ANSWER_SECONDS):
                if stream is None:
                    stream = await connected(self.address)
                await stream.send_all(whole)
                answer = b""
                while not (size := response_size(answer)) or len(answer) < size:
                    data = await stream.receive_some()
                    if not data:
                        raise Gone
                    answer += data
            self._stream = stream
        except trio.TooSlowError:
            raise Violation(f"{self.address} has not answered within {ANSWER_SECONDS} s") from None
        except BROKEN:
            raise Gone from None
        finally:
            if stream is not None and self._stream is None:
                stream.socket.close()
        body = response_body(answer)
        return int(answer[9:12]), json.loads(body) if body else None

    def leave(self) -> None:
        """Ask another server from now on."""
        self.number += self.random.randrange(1, max(2, len(self.addresses)))
        if self._stream is not None:
            self._stream.socket.close()
            self._stream = None

    async def insist(self, whole: bytes, ledger: Ledger) -> tuple[Any, float]:
        """The body of a 2xx, and when it was asked for; asked again and again, anywhere."""
        for tries in count():
            began = trio.current_time()
            try:
                status, body = await self.ask(whole)
            except Gone:
                status, body = 0, None
            if 200 <= status < 300:
                ledger.repeated += tries > 0
                return body, began
            ledger.refused[status] += 1
            if status not in {0, 503}:
                raise Violation(f"{self.address} answered {status}: {body}")
            self.leave()
            await trio.sleep(PAUSE_SECONDS)
        raise AssertionError("unreachable")


async def send(caller: Caller, room: Room, author: Somebody, content: str, ledger: Ledger) -> None:
    """Send a message until it is answered, under one key."""
    body = json.dumps({"chat_id": room.id, "type": "text", "content": content}).encode()
    whole = request("POST", "/api/v1/messages", token=author.token, body=body, Idempotency_Key=content)
    message, began = await caller.insist(whole, ledger)
    if message["content"] != content or message["chat_id"] != room.id:
        raise Violation(f"{content!r} was answered with {message}")
    if message["id"] in ledger.answered_at:
        raise Violation(f"two sends were answered with message {message['id']}")
    ledger.asked_at[message["id"]] = began
    ledger.answered_at[message["id"]] = trio.current_time()
    ledger.answered[room.id][message["id"]] = content


async def history(
    caller: Caller, room_id: int, reader: Somebody, after: int, ledger: Ledger
) -> list[tuple[int, str]]:
    """Ids and contents of the messages beyond one, oldest first, as a client reads what it has missed."""
    found: list[tuple[int, str]] = []
    before = ""
    while True:
        path = f"/api/v1/messages?chat_id={room_id}&limit={PAGE}{before}"
        page, _ = await caller.insist(request("GET", path, token=reader.token), ledger)
        found += [(each["id"], each["content"]) for each in page["messages"] if each["id"] > after]
        if not page["has_more"] or page["messages"][-1]["id"] <= after:
            return found[::-1]
        before = f"&before_id={page['next_cursor']}"


@define(eq=False)
class Listener:
    """Somebody's socket, opened again wherever there is a server when it ends.

    What it has seen of a chat grows by what its sockets told, and by the history that it reads when it is
    back.
    """

    person: Somebody
    rooms: Sequence[Room]
    caller: Caller
    ledger: Ledger
    seen: dict[int, list[int]] = field(factory=lambda: defaultdict(list))
    runs: list[dict[int, list[int]]] = field(factory=list)
    """What each socket told, by chat: an unbroken part of its log."""
    heard_at: dict[int, float] = field(factory=dict)
    """When a socket first told of a message."""
    opened: trio.Event = field(factory=trio.Event)

    async def listen(self) -> None:
        """For ever."""
        while True:
            try:
                async with self._socket() as stream:
                    await self._hear(stream)
            except* (Gone, *BROKEN):
                self.caller.leave()
            await trio.sleep(PAUSE_SECONDS)

    def has_seen_all(self) -> bool:
        return all(len(self.seen[room.id]) >= len(self.ledger.answered[room.id]) for room in self.rooms)

    @asynccontextmanager
    async def _socket(self) -> AsyncIterator[trio.SocketStream]:
        stream = await connected(self.caller.address)
        try:
            await stream.send_all(upgrade(self.person.token))
            head = b""
            with trio.fail_after(ANSWER_SECONDS):
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

    async def _hear(self, stream: trio.SocketStream) -> None:
        told: dict[int, list[int]] = defaultdict(list)
        self.runs.append(told)
        early: list[tuple[int, int]] | None = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def catch_up() -> None:
                nonlocal early
                for room in self.rooms:
                    last = max(self.seen[room.id], default=0)
                    missed = await history(self.caller, room.id, self.person, last, self.ledger)
                    self.seen[room.id] += [message_id for message_id, _ in missed]
                for room_id, message_id in early or ():
                    self._see(room_id, message_id)
                early = None
                self.opened.set()

            async for room_id, message_id in self._frames(stream):
                self.heard_at.setdefault(message_id, trio.current_time())
                if told[room_id] and message_id <= told[room_id][-1]:
                    raise Violation(f"message {message_id} came after {told[room_id][-1]} on one socket")
                told[room_id].append(message_id)
                if early is None:
                    self._see(room_id, message_id)
                else:
                    early.append((room_id, message_id))

    def _see(self, room_id: int, message_id: int) -> None:
        if not self.seen[room_id] or message_id > self.seen[room_id][-1]:
            self.seen[room_id].append(message_id)

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

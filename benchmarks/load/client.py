"""The load's connections: senders in a closed loop, and the listeners of a chat, on one epoll loop."""

import re
import select
import socket
from bisect import bisect_right
from collections.abc import Callable, Iterator
from time import perf_counter

from benchmarks.load.wire import CLOSE, PING, Malformed, answer_body, answer_size, pong, upgrade, walk

FACTS = re.compile(rb'"id": ?(\d+).*"seq(\d+)', re.DOTALL)
"""A message's id, and the number that the load gave it."""
OPENING = 100
"""Sockets that are opened at a time."""
HEAD_END = b"\r\n\r\n"


class Void(Exception):
    """What was measured does not count: the server did not do what it must."""


class Loop:
    """Calls whoever's socket can be read."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}

    def add(self, plain: socket.socket, reader: Callable[[], None]) -> None:
        self._readers[plain.fileno()] = reader
        self._epoll.register(plain.fileno(), select.EPOLLIN)

    def remove(self, plain: socket.socket) -> None:
        del self._readers[plain.fileno()]
        self._epoll.unregister(plain.fileno())

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Until the time is over, or `until` says so."""
        poll, readers = self._epoll.poll, self._readers
        end = perf_counter() + seconds
        while (left := end - perf_counter()) > 0:
            for descriptor, _ in poll(left if until is None else min(left, 0.005)):
                readers[descriptor]()
            if until is not None and until():
                return

    def close(self) -> None:
        self._epoll.close()


class Sender:
    """One keep-alive connection with one request in flight; the next follows its answer.

    `make` gives the next request, or None to rest; `take` is told when the request was sent, and the answer.
    """

    def __init__(
        self, loop: Loop, port: int, make: Callable[[], bytes | None], take: Callable[[float, bytes], None]
    ) -> None:
        self._loop = loop
        self._port = port
        self._make = make
        self._take = take
        self._part = b""
        self._request = b""
        self._began = 0.0
        self.resting = True
        self.reconnected = 0
        self._connect()

    def start(self) -> None:
        request = self._make()
        if request is None:
            self.resting = True
            return
        self.resting = False
        self._request = request
        self._began = perf_counter()
        try:
            self._send(request)
        except (BrokenPipeError, ConnectionResetError):
            self._again()

    def close(self) -> None:
        self._loop.remove(self._plain)
        self._plain.close()

    def _connect(self) -> None:
        self._plain = _connected(self._port)
        self._receive = self._plain.recv
        self._send = self._plain.send
        self._loop.add(self._plain, self._readable)

    def _readable(self) -> None:
        try:
            data = self._receive(262_144)
        except ConnectionResetError:
            data = b""
        if not data:
            self._ended()
            return
        if self._part:
            data = self._part + data
        size = answer_size(data)
        if size == 0 or len(data) < size:
            self._part = data
            return
        if len(data) > size:
            raise Malformed(f"more than one answer: {data[size:]!r}")
        self._part = b""
        self._take(self._began, data)
        self.start()

    def _ended(self) -> None:
        """Some servers close a connection after a number of requests: a new one is made, in their time."""
        if self._part:
            raise Void(f"the connection ended within an answer: {self._part[:200]!r}")
        self._again()

    def _again(self) -> None:
        self.close()
        self.reconnected += 1
        self._connect()
        if not self.resting:
            self._send(self._request)


class Audience:
    """What is sent to a chat: the frames in order, which each of its listeners must hear byte by byte."""

    def __init__(self) -> None:
        self.stream = bytearray()
        self.ends: list[int] = []
        self.ids: list[int] = []
        self.numbers: list[int] = []

    def append(self, frame: bytes, payload: bytes) -> None:
        """Take a frame that no listener has heard yet."""
        facts = FACTS.search(payload)
        if facts is None:
            raise Void(f"a frame that is no message of ours: {payload[:300]!r}")
        message_id = int(facts[1])
        if self.ids and message_id <= self.ids[-1]:
            raise Void(f"message {message_id} came after message {self.ids[-1]}")
        self.stream += frame
        self.ends.append(len(self.stream))
        self.ids.append(message_id)
        self.numbers.append(int(facts[2]))


class Listener:
    """One socket of a chat's audience. What it hears is compared with the others; a sample is timed too.

    Comparing costs as much as `memcmp`, which is what makes a thousand sockets bearable: each frame is taken
    apart once, for whoever hears it first.
    """

    __slots__ = ("_delays", "_heard", "_part", "_plain", "_receive", "_sent", "audience", "position")

    def __init__(
        self, audience: Audience, sent: list[float], delays: list[tuple[float, float]] | None
    ) -> None:
        """`sent` has the time at which each number was sent; `delays` takes that time, and the delay."""
        self.audience = audience
        self.position = 0
        self._heard = 0
        self._part = b""
        self._sent = sent
        self._delays = delays

    def attach(self, loop: Loop, plain: socket.socket) -> None:
        self._plain = plain
        self._receive = plain.recv
        loop.add(plain, self._readable)

    def frames(self) -> int:
        """How many frames have been heard whole."""
        return bisect_right(self.audience.ends, self.position)

    def close(self) -> None:
        self._plain.close()

    def _readable(self) -> None:
        data = self._receive(65_536)
        if not self._part and data and self.audience.stream.startswith(data, self.position):
            self.position += len(data)
        else:
            self._take_apart(data)
        if self._delays is not None:
            self._time()

    def _take_apart(self, data: bytes) -> None:
        """Take what nobody has heard yet, or what is not for all: pings."""
        if not data:
            raise Void("a socket was closed by the server")
        audience = self.audience
        frames_before = self.frames()
        boundary = audience.ends[frames_before - 1] if frames_before else 0
        data = bytes(audience.stream[boundary : self.position]) + self._part + data
        self.position = boundary
        rest = 0
        for opcode, start, payload, end in walk(data):
            rest = end
            if opcode == CLOSE:
                raise Void(f"a socket was closed with {int.from_bytes(data[payload : payload + 2])}")
            if opcode == PING:
                self._plain.send(pong(data[payload:end]))
            elif audience.stream.startswith(data[start:end], self.position):
                self.position += end - start
            elif self.position == len(audience.stream):
                audience.append(data[start:end], data[payload:end])
                self.position += end - start
            else:
                raise Void(f"two sockets of a chat heard different things: {data[payload:end]!r}")
        self._part = data[rest:]

    def _time(self) -> None:
        now = perf_counter()
        ends, numbers, sent = self.audience.ends, self.audience.numbers, self._sent
        heard, position = self._heard, self.position
        assert self._delays is not None
        while heard < len(ends) and ends[heard] <= position:
            began = sent[numbers[heard]]
            self._delays.append((began, now - began))
            heard += 1
        self._heard = heard


def open_sockets(port: int, tokens: list[str]) -> Iterator[socket.socket]:
    """A socket for each token, some at a time; raises `Void` where one is refused."""
    for begin in range(0, len(tokens), OPENING):
        opening = []
        for token in tokens[begin : begin + OPENING]:
            plain = _connected(port)
            plain.sendall(upgrade(token))
            opening.append(plain)
        for plain in opening:
            plain.settimeout(30)
            head = received_head(plain)
            if not head.startswith(b"HTTP/1.1 101"):
                raise Void(f"a socket was refused: {head!r}")
            plain.setblocking(False)
            yield plain


def received_head(plain: socket.socket) -> bytes:
    """An answer's head, and nothing of what may follow it."""
    head = b""
    while not head.endswith(HEAD_END):
        seen = plain.recv(4096, socket.MSG_PEEK)
        if not seen:
            raise Void(f"a socket was not opened: {head!r}")
        end = (head + seen).find(HEAD_END)
        head += plain.recv(len(seen) if end < 0 else end + len(HEAD_END) - len(head))
    return head


def answered_id(answer: bytes) -> tuple[int, int]:
    """Id and number of the message that a send was answered with."""
    facts = FACTS.search(answer_body(answer))
    if facts is None:
        raise Void(f"an answer that is no message: {answer!r}")
    return int(facts[1]), int(facts[2])


def _connected(port: int) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setblocking(False)
    return plain

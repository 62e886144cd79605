"""The connections of the load: senders in a closed loop and the listeners of a chat, on one epoll loop."""

import re
import select
import socket
from bisect import bisect_right
from collections.abc import Callable, Iterator
from time import perf_counter

from benchmarks.load.wire import CLOSE, PING, Malformed, pong, response_body, response_size, upgrade, walk

FACTS = re.compile(rb'"id": ?(\d+).*"seq(\d+)', re.DOTALL)
"""A message's id, and the load's number in its content."""
OPENING = 100
"""How many sockets are opened concurrently."""
HEAD_END = b"\r\n\r\n"


class Void(Exception):
    """The measurement does not count, because the server did not do what it must."""


class Loop:
    """Calls the reader of each readable socket."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}

    def add(self, sock: socket.socket, reader: Callable[[], None]) -> None:
        self._readers[sock.fileno()] = reader
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def remove(self, sock: socket.socket) -> None:
        del self._readers[sock.fileno()]
        self._epoll.unregister(sock.fileno())

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Run for this time, or until `until()` is true."""
        poll, readers = self._epoll.poll, self._readers
        end = perf_counter() + seconds
        while (remaining := end - perf_counter()) > 0:
            for descriptor, _ in poll(remaining if until is None else min(remaining, 0.005)):
                readers[descriptor]()
            if until is not None and until():
                return

    def close(self) -> None:
        self._epoll.close()


class Sender:
    """One keep-alive connection with one request in flight; the response triggers the next request.

    `next_request` returns a request, or None to stop; `on_response` receives the time of sending and the
    response.
    """

    def __init__(
        self,
        loop: Loop,
        port: int,
        next_request: Callable[[], bytes | None],
        on_response: Callable[[float, bytes], None],
    ) -> None:
        self._loop = loop
        self._port = port
        self._next_request = next_request
        self._on_response = on_response
        self._part = b""
        self._request = b""
        self._began = 0.0
        self.is_idle = True
        self.reconnected = 0
        self._connect()

    def start(self) -> None:
        request = self._next_request()
        if request is None:
            self.is_idle = True
            return
        self.is_idle = False
        self._request = request
        self._began = perf_counter()
        try:
            self._send(request)
        except (BrokenPipeError, ConnectionResetError):
            self._reconnect()

    def close(self) -> None:
        self._loop.remove(self._sock)
        self._sock.close()

    def _connect(self) -> None:
        self._sock = _connected(self._port)
        self._receive = self._sock.recv
        self._send = self._sock.send
        self._loop.add(self._sock, self._readable)

    def _readable(self) -> None:
        try:
            data = self._receive(262_144)
        except ConnectionResetError:
            data = b""
        if not data:
            self._handle_end()
            return
        if self._part:
            data = self._part + data
        size = response_size(data)
        if size == 0 or len(data) < size:
            self._part = data
            return
        if len(data) > size:
            raise Malformed(f"bytes after the response: {data[size:]!r}")
        self._part = b""
        self._on_response(self._began, data)
        self.start()

    def _handle_end(self) -> None:
        """Reconnect: some servers close a connection after some requests. A request keeps its start time."""
        if self._part:
            raise Void(f"the connection ended within a response: {self._part[:200]!r}")
        self._reconnect()

    def _reconnect(self) -> None:
        self.close()
        self.reconnected += 1
        self._connect()
        if not self.is_idle:
            self._send(self._request)


class ChatStream:
    """The frames of a chat in order; every listener of the chat must receive exactly these bytes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ends: list[int] = []
        self.ids: list[int] = []
        self.numbers: list[int] = []

    def append(self, frame: bytes, payload: bytes) -> None:
        """Append a frame that no listener has received before."""
        facts = FACTS.search(payload)
        if facts is None:
            raise Void(f"a frame without a message of the load: {payload[:300]!r}")
        message_id = int(facts[1])
        if self.ids and message_id <= self.ids[-1]:
            raise Void(f"message {message_id} arrived after message {self.ids[-1]}")
        self.data += frame
        self.ends.append(len(self.data))
        self.ids.append(message_id)
        self.numbers.append(int(facts[2]))


class ChatListener:
    """One socket of a chat, whose bytes are compared with the chat's stream; a sample of sockets is timed
    too.

    Only the first listener that receives a frame parses it. The others compare bytes, at the cost of
    `memcmp`, so that one core can load a thousand sockets.
    """

    __slots__ = ("_delays", "_part", "_receive", "_sent", "_sock", "_timed", "position", "stream")

    def __init__(
        self, stream: ChatStream, sent: list[float], delays: list[tuple[float, float]] | None
    ) -> None:
        """`sent` maps numbers to times of sending; `delays` collects pairs of that time and the delay."""
        self.stream = stream
        self.position = 0
        self._timed = 0
        self._part = b""
        self._sent = sent
        self._delays = delays

    def attach(self, loop: Loop, sock: socket.socket) -> None:
        self._sock = sock
        self._receive = sock.recv
        loop.add(sock, self._readable)

    def frames(self) -> int:
        """How many whole frames have arrived."""
        return bisect_right(self.stream.ends, self.position)

    def close(self) -> None:
        self._sock.close()

    def _readable(self) -> None:
        data = self._receive(65_536)
        if not self._part and data and self.stream.data.startswith(data, self.position):
            self.position += len(data)
        else:
            self._parse(data)
        if self._delays is not None:
            self._time()

    def _parse(self, data: bytes) -> None:
        """Handle bytes that are not next in the stream: new frames, and the pings of this socket."""
        if not data:
            raise Void("the server closed a socket")
        stream = self.stream
        frames_before = self.frames()
        boundary = stream.ends[frames_before - 1] if frames_before else 0
        data = bytes(stream.data[boundary : self.position]) + self._part + data
        self.position = boundary
        rest = 0
        for opcode, start, payload, end in walk(data):
            rest = end
            if opcode == CLOSE:
                raise Void(f"the server closed a socket with {int.from_bytes(data[payload : payload + 2])}")
            if opcode == PING:
                self._sock.send(pong(data[payload:end]))
            elif stream.data.startswith(data[start:end], self.position):
                self.position += end - start
            elif self.position == len(stream.data):
                stream.append(data[start:end], data[payload:end])
                self.position += end - start
            else:
                raise Void(f"two sockets of a chat received different frames: {data[payload:end]!r}")
        self._part = data[rest:]

    def _time(self) -> None:
        now = perf_counter()
        ends, numbers, sent = self.stream.ends, self.stream.numbers, self._sent
        timed, position = self._timed, self.position
        assert self._delays is not None
        while timed < len(ends) and ends[timed] <= position:
            began = sent[numbers[timed]]
            self._delays.append((began, now - began))
            timed += 1
        self._timed = timed


def open_sockets(port: int, tokens: list[str]) -> Iterator[socket.socket]:
    """Open a socket for each token, `OPENING` concurrently. Raises `Void` if the server refuses one."""
    for begin in range(0, len(tokens), OPENING):
        opening = []
        for token in tokens[begin : begin + OPENING]:
            sock = _connected(port)
            sock.sendall(upgrade(token))
            opening.append(sock)
        for sock in opening:
            sock.settimeout(30)
            head = received_head(sock)
            if not head.startswith(b"HTTP/1.1 101"):
                raise Void(f"the server refused a socket: {head!r}")
            sock.setblocking(False)
            yield sock


def received_head(sock: socket.socket) -> bytes:
    """The response head, without the bytes that may follow it. Raises `Void` if the connection ends first."""
    head = b""
    while not head.endswith(HEAD_END):
        seen = sock.recv(4096, socket.MSG_PEEK)
        if not seen:
            raise Void(f"the connection ended before the response head: {head!r}")
        end = (head + seen).find(HEAD_END)
        head += sock.recv(len(seen) if end < 0 else end + len(HEAD_END) - len(head))
    return head


def id_and_number(response: bytes) -> tuple[int, int]:
    """Id and number of the message in the response to a send. Raises `Void` if it holds none."""
    facts = FACTS.search(response_body(response))
    if facts is None:
        raise Void(f"a response without a message: {response!r}")
    return int(facts[1]), int(facts[2])


def _connected(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock

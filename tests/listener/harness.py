"""A listener on a real port, and a peer that sends exactly the bytes of a test."""

import os
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio
from attrs import define, field, frozen

from adapters.http_api.exchange import HttpRequest, HttpResponse
from adapters.listener import ASGIApp, ListenerConfig, ListenerCounts, serve
from adapters.listener.watch import Watch
from adapters.listener.whole_requests import WholeRequests
from tests.patience import PATIENCE

LONG = 10.0 * PATIENCE
"""Seconds of a timeout that must not be what ends a test's wait."""
ENDS = ("head_time", "idle_time", "body_idle_time", "body_time", "write_time", "handshake_time")
TIMES = dict.fromkeys((*ENDS, "ping_interval", "stall_time"), LONG) | {
    "linger_time": 1.0,
    "drain_time": 2.0,
    "drain_socket_time": 0.0,
    "abandon_time": 1.0,
}
"""The listener's times in a test that sets none."""

KEY = b"AAAAAAAAAAAAAAAAAAAAAA=="
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + KEY + b"\r\n"
)

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@frozen
class RunningListener:
    """A running listener."""

    address: tuple[str, int]
    counts: ListenerCounts
    shutdown: trio.Event
    cancel: Callable[[], None]
    ended: trio.Event


@asynccontextmanager
async def serving(
    app: ASGIApp, *, whole_requests: WholeRequests | None = None, faults: int = 0, **numbers: Any
) -> AsyncIterator[RunningListener]:
    """Serve `app` on a free port; at the end it must shut down within its deadline, with `faults` faults."""
    shutdown, ended, counts = trio.Event(), trio.Event(), ListenerCounts()
    numbers = TIMES | numbers
    scope = trio.CancelScope()

    async def run(task_status: trio.TaskStatus[Any]) -> None:
        with scope:
            config = ListenerConfig(port=0, **numbers)
            await serve(
                app,
                config,
                shutdown=shutdown,
                counts=counts,
                whole_requests=whole_requests,
                task_status=task_status,
            )
        ended.set()

    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(run)
        yield RunningListener(addresses[0], counts, shutdown, scope.cancel, ended)
        shutdown.set()
        with trio.fail_after(PATIENCE + numbers["drain_time"]):
            await ended.wait()
    assert counts.faults == faults
    assert counts.open_connections == 0
    assert counts.open_sockets == 0


@frozen
class RawResponse:
    """A received HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes


@frozen
class Frame:
    """A received WebSocket frame."""

    opcode: int
    payload: bytes
    fin: bool = True

    @property
    def close(self) -> tuple[int, str]:
        """A close frame's code and reason."""
        assert self.opcode == CLOSE, self
        code = struct.unpack("!H", self.payload[:2])[0] if self.payload else 1005
        return code, self.payload[2:].decode()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """A client's frame, in the shortest form; `rsv` are three bits."""
    size = len(payload)
    mask = 0x80 if masked else 0
    if size < 126:
        length = bytes([mask | size])
    elif size < 65_536:
        length = bytes([mask | 126]) + struct.pack("!H", size)
    else:
        length = bytes([mask | 127]) + struct.pack("!Q", size)
    head = bytes([fin << 7 | rsv << 4 | opcode]) + length
    if not masked:
        return head + payload
    key = os.urandom(4)
    pad = key * (size // 4 + 1)
    hidden = (int.from_bytes(payload) ^ int.from_bytes(pad[:size])).to_bytes(size)
    return head + key + hidden


def close_frame(code: int, reason: str = "") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason.encode())


class ConnectionEnded(Exception):
    """The server has ended the connection, with a `reset` or in an orderly way."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("reset" if reset else "closed")
        self.reset = reset


@define
class RawPeer:
    """One TCP connection to a listener, seen from outside."""

    stream: trio.SocketStream
    _rest: bytearray = field(factory=bytearray)

    async def send(self, *parts: bytes) -> None:
        """Send each part in a segment of its own."""
        with trio.fail_after(PATIENCE):
            for part in parts:
                try:
                    await self.stream.send_all(part)
                except trio.BrokenResourceError:
                    raise ConnectionEnded(reset=True) from None

    async def half_close(self) -> None:
        await self.stream.send_eof()

    async def more(self) -> None:
        """Wait for bytes; raises `ConnectionEnded` when there are no more."""
        with trio.fail_after(PATIENCE):
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                raise ConnectionEnded(reset=True) from None
        if not data:
            raise ConnectionEnded(reset=False)
        self._rest += data

    async def exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            await self.more()
        found = bytes(self._rest[:size])
        del self._rest[:size]
        return found

    async def until(self, end: bytes) -> bytes:
        while end not in self._rest:
            await self.more()
        return await self.exactly(self._rest.index(end) + len(end))

    async def gone(self) -> ConnectionEnded:
        """Read until the server ends the connection, and return how it did."""
        try:
            while True:
                await self.more()
        except ConnectionEnded as gone:
            return gone

    async def end(self) -> bytes:
        """All bytes until the server ends the connection in an orderly way."""
        gone = await self.gone()
        assert not gone.reset, f"reset after {bytes(self._rest)!r}"
        return await self.exactly(len(self._rest))

    async def flood(self, data: bytes) -> None:
        """Send `data` repeatedly, until the server ends the connection or stops reading."""
        with suppress(ConnectionEnded, trio.TooSlowError):
            while True:
                await self.send(data)

    async def response(self, *, head: bool = False) -> RawResponse:
        """The next response; without a body if it is for a HEAD."""
        lines = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:-2])
        }
        status = int(lines[0].split(" ")[1])
        body = b""
        if headers.get("transfer-encoding") == "chunked":
            while size := int(await self.until(b"\r\n"), 16):
                body += (await self.exactly(size + 2))[:-2]
            await self.exactly(2)
        elif not head and status >= 200:
            body = await self.exactly(int(headers.get("content-length", 0)))
        return RawResponse(status, headers, body)

    async def ask(self, *parts: bytes) -> RawResponse:
        await self.send(*parts)
        return await self.response()

    async def upgrade(self, *after: bytes, headers: bytes = b"") -> RawResponse:
        """Ask for a WebSocket, in one segment with the bytes that follow."""
        return await self.ask(b"".join([UPGRADE, headers, b"\r\n", *after]))

    async def frame(self) -> Frame:
        first, second = await self.exactly(2)
        assert not second & 0x80, "a server does not mask"
        size = second & 0x7F
        if size == 126:
            size = struct.unpack("!H", await self.exactly(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", await self.exactly(8))[0]
        return Frame(first & 0x0F, await self.exactly(size), bool(first & 0x80))

    async def frame_of(self, opcode: int) -> Frame:
        """The next frame with this opcode; skips others."""
        while (found := await self.frame()).opcode != opcode:
            pass
        return found


@asynccontextmanager
async def connected(
    served: RunningListener, *, receive_buffer: int | None = None, address: str | None = None
) -> AsyncIterator[RawPeer]:
    """A peer, from this address; with a small receive buffer, one whose unread bytes soon stop the server."""
    plain = trio.socket.socket()
    if address is not None:
        await plain.bind((address, 0))
    if receive_buffer is not None:
        plain.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, receive_buffer)
    try:
        await plain.connect(served.address)
    except OSError:
        plain.close()
        raise
    async with trio.SocketStream(plain) as stream:
        yield RawPeer(stream)


@asynccontextmanager
async def socket_to(served: RunningListener, **how: Any) -> AsyncIterator[RawPeer]:
    """A peer whose WebSocket is open."""
    async with connected(served, **how) as peer:
        assert (await peer.upgrade()).status == 101
        yield peer


# --- applications -----------------------------------------------------------------------------------------

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def respond(send: Send, status: int = 200, body: bytes = b"ok", *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


async def whole_body(receive: Receive) -> bytes:
    """A request's body; raises `ConnectionEnded` if the peer disconnects before its end."""
    body = b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ConnectionEnded(reset=False)
        body += bytes(event["body"])
        if not event["more_body"]:
            return body


async def echo(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Responds to a request with its method, target and body; echoes a WebSocket's messages."""
    if scope["type"] == "http":
        try:
            body = await whole_body(receive)
        except ConnectionEnded:
            return
        head = f"{scope['method']} {scope['path']}?{scope['query_string'].decode()} ".encode()
        await respond(send, 200, head + body)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": event["bytes"], "text": event["text"]})
    else:
        await lifespan(scope, receive, send)


async def lifespan(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


Responding = Callable[[HttpRequest], Awaitable[HttpResponse]]
Refusing = Callable[[HttpRequest], Awaitable[HttpResponse | None]]


async def refuses_nothing(head: HttpRequest) -> HttpResponse | None:
    """Refuses nothing by its head."""


@frozen
class WholeFor:
    """Responds to requests by `respond`, or by `refusal` from their head, on every path or on one."""

    respond: Responding
    path: str | None = None
    body_bytes: int = 1_048_576
    refusal: Refusing = refuses_nothing

    def busy(self, asked: HttpRequest) -> HttpResponse:
        return HttpResponse(503, b"busy", (("retry-after", "5"),))

    def route(self, method: str, path: str) -> "WholeFor | None":
        return self if self.path in {None, path} else None


async def echo_whole(asked: HttpRequest) -> HttpResponse:
    """Gives the responses of `echo`."""
    return HttpResponse(200, f"{asked.method} {asked.path}?{asked.query.decode()} ".encode() + asked.body)


def application(http: Any = echo, websocket: Any = echo) -> ASGIApp:
    """An application of two parts, each called as ASGI calls one, with a lifespan of its own."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        part = {"http": http, "websocket": websocket, "lifespan": lifespan}[scope["type"]]
        await part(scope, receive, send)

    return app


async def wait_until(true: Callable[[], bool]) -> None:
    """Wait for a condition that has no event; fails after `PATIENCE`."""
    with trio.fail_after(PATIENCE):
        while not true():  # noqa: ASYNC110 - a test looks from outside
            await trio.sleep(0.005)


async def running(watch: Watch, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    """Run a watch until the scope that `started` receives is cancelled."""
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await watch.run()

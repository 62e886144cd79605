"""TCP connections as plain sockets, accepted several at a time.

A `trio.SocketStream` costs four objects and two system calls at the start, for methods that are needed only
at a connection's end or when its send buffer is full.
"""

import errno
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address

import trio

ACCEPTED_AT_ONCE = 8
"""Connections that are accepted in one turn of the loop, after which other tasks run. As many may then send
a request in one turn: some 2 ms."""

_NOT_SENT = 16_384
"""Unsent bytes that the kernel buffers (TCP_NOTSENT_LOWAT), as with trio's streams."""

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds."""

# Errors of a connection that failed before it was accepted (accept(2)); the next accept may succeed.
_FAILED_BEFORE_ACCEPT = frozenset(
    getattr(errno, name, errno.ECONNABORTED)
    for name in (
        *("ECONNABORTED", "EPERM", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET"),
        *("EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH", "ETIMEDOUT", "ECONNRESET"),
    )
)

Address = tuple[str, int]


class TcpStream:
    """One connection's bytes; each write and read is a checkpoint.

    All methods but `close` raise `OSError`, and `trio.ClosedResourceError` if it is closed while they wait.
    """

    __slots__ = ("broken", "client", "server", "socket")

    def __init__(
        self, plain: socket.socket, client: Address | None = None, server: Address | None = None
    ) -> None:
        self.socket = plain
        self.client = client
        self.server = server
        self.broken = False
        """Whether it was reset, by either side, or is about to be."""

    async def send_all(self, data: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self.socket.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.socket)

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        self.socket.shutdown(socket.SHUT_WR)

    async def receive_some(self, limit: int) -> bytes:
        """Wait for bytes; empty at the end."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.socket.recv(limit)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.socket)

    def drop_unsent(self) -> None:
        """Have `close` drop unsent bytes and reset the connection, unless it is broken already."""
        if not self.broken:
            self.broken = True
            with suppress(OSError):  # closed by the other side
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def close(self) -> None:
        """Close it, and end pending reads and writes. Idempotent."""
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()


class TcpListener:
    """A listening socket."""

    def __init__(self, plain: socket.socket) -> None:
        plain.setblocking(False)
        # Accepted sockets inherit these on Linux and the BSDs, which saves a system call for each.
        with suppress(OSError):  # no TCP
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT)
        self.socket = plain
        self._family = plain.family
        own = _address(self._family, plain.getsockname())
        self._own = None if own is None or ip_address(own[0]).is_unspecified else own
        """The server's address of each accepted connection; None if it may be one of several."""

    @classmethod
    async def on(cls, host: str, port: int, backlog: int) -> "list[TcpListener]":
        """Listen on an address, or on each of a name's; raises `OSError`."""
        opened = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
        return [cls(socket.socket(fileno=one.socket.detach())) for one in opened]

    async def wait(self) -> None:
        """Wait until a connection may be pending; always a checkpoint."""
        await trio.lowlevel.wait_readable(self.socket)

    def accept_pending(self, limit: int = ACCEPTED_AT_ONCE) -> Iterator[TcpStream]:
        """Accept pending connections, at most `limit`. Raises `OSError` if the system lacks descriptors or
        buffers.
        """
        for _ in range(limit):
            try:
                plain, address = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _FAILED_BEFORE_ACCEPT:
                    raise
            else:
                plain.setblocking(False)
                yield TcpStream(plain, _address(self._family, address), self._own or _own_address(plain))

    def close(self) -> None:
        """Stop listening; no task may be waiting for it. Idempotent."""
        self.socket.close()


def _own_address(plain: socket.socket) -> Address | None:
    """The server's address of a connection; None if the peer has disconnected already."""
    with suppress(OSError):
        return _address(plain.family, plain.getsockname())
    return None


def _address(family: int, address: tuple[str, int]) -> Address | None:
    if family == socket.AF_INET:
        return address
    return address[:2] if family == socket.AF_INET6 else None

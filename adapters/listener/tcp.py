"""TCP connections as the listener takes them: plain sockets, several at a time.

A `trio.SocketStream` is four objects and two system calls to begin with, for what is used of it when a
connection ends or its line is full.
"""

import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address

import trio

ACCEPTED_AT_ONCE = 8
"""Connections that are taken in one turn of the loop, after which others run. As many may then ask for
something in one turn: some 2 ms."""

_NOT_SENT = 16_384
"""Bytes that the kernel takes beyond what the line does, as with trio's streams."""

# Of a connection that has failed before it was accepted (accept(2)): the next one is as good as ever.
_THEIRS = frozenset(
    getattr(errno, name, errno.ECONNABORTED)
    for name in (
        *("ECONNABORTED", "EPERM", "EPROTO", "ENETDOWN", "ENOPROTOOPT", "EHOSTDOWN", "ENONET"),
        *("EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH", "ETIMEDOUT", "ECONNRESET"),
    )
)

Address = tuple[str, int]


class TcpStream:
    """One connection's bytes; what writes or reads lets others run at least once.

    All but `close` raise `OSError`, and `trio.ClosedResourceError` when it is closed while they wait.
    """

    __slots__ = ("client", "server", "socket")

    def __init__(
        self, plain: socket.socket, client: Address | None = None, server: Address | None = None
    ) -> None:
        self.socket = plain
        self.client = client
        self.server = server

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

    async def receive_some(self, most: int) -> bytes:
        """What has come, or comes next; nothing for the end."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.socket.recv(most)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self.socket)

    def close(self) -> None:
        """Close it, and set free whoever waits for it; repeating it changes nothing."""
        if self.socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()


class TcpListener:
    """A socket that listens."""

    def __init__(self, plain: socket.socket) -> None:
        plain.setblocking(False)
        # What it accepts has these from it, on Linux and the BSDs, where each one costs a system call.
        with suppress(OSError):  # no TCP
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT)
        self.socket = plain
        self._family = plain.family
        own = _address(self._family, plain.getsockname())
        self._own = None if own is None or ip_address(own[0]).is_unspecified else own
        """The address at which whoever comes has come; None where it may be one of several."""

    @classmethod
    async def on(cls, host: str, port: int, backlog: int) -> "list[TcpListener]":
        """Listen on an address, or on each of a name's; raises `OSError`."""
        opened = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
        return [cls(socket.socket(fileno=one.socket.detach())) for one in opened]

    async def wait(self) -> None:
        """Until somebody may have come; others run in any case."""
        await trio.lowlevel.wait_readable(self.socket)

    def waiting(self, most: int = ACCEPTED_AT_ONCE) -> Iterator[TcpStream]:
        """Those who have come, some at most. Raises `OSError` where the system has no room for them."""
        for _ in range(most):
            try:
                plain, address = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _THEIRS:
                    raise
            else:
                plain.setblocking(False)
                yield TcpStream(plain, _address(self._family, address), self._own or _own_address(plain))

    def close(self) -> None:
        """Listen no more; nobody may wait for it. Repeating it changes nothing."""
        self.socket.close()


def _own_address(plain: socket.socket) -> Address | None:
    """Where the peer has come to; None if it has gone already."""
    with suppress(OSError):
        return _address(plain.family, plain.getsockname())
    return None


def _address(family: int, address: tuple[str, int]) -> Address | None:
    if family == socket.AF_INET:
        return address
    return address[:2] if family == socket.AF_INET6 else None

"""An address that several processes serve: each has a listening socket, which outlives the process."""

import platform
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

SPREADS = platform.system() == "Linux"
"""Whether the system spreads connections over the sockets that share an address by SO_REUSEPORT; other
systems give all connections to one socket."""

Sockets = tuple[socket.socket, ...]


class SharedAddress:
    """Reserves the address as long as it is open, whether a process listens or not."""

    def __init__(self, reserved: Sockets, backlog: int, *, spreads: bool) -> None:
        self._reserved = reserved
        self._backlog = backlog
        self._spreads = spreads

    def listen(self) -> Sockets:
        """Sockets that listen, one for each address of the name; the caller closes them.

        Where the system spreads connections, these are new sockets, each with its own backlog; elsewhere all
        processes share one.
        """
        if not self._spreads:
            return tuple(one.dup() for one in self._reserved)
        with ExitStack() as opened:
            sockets = tuple(
                opened.enter_context(_bound(one.family, one.getsockname(), shared=True))
                for one in self._reserved
            )
            for one in sockets:
                one.listen(self._backlog)
            opened.pop_all()
        return sockets

    def close(self) -> None:
        """Release the address, except for sockets that other processes still hold."""
        for one in self._reserved:
            one.close()


@contextmanager
def shared_address(host: str, port: int, backlog: int, *, spreads: bool = SPREADS) -> Iterator[SharedAddress]:
    """Reserve an address; port 0 takes a free one. Raises `OSError` if another process listens on it."""
    with ExitStack() as reserved:
        sockets = []
        for family, *_, sockaddr in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            # With SO_REUSEPORT alone, a second server of the same user would receive half of the connections
            # without an error. So first bind a socket that does not share the address.
            with _bound(family, sockaddr, shared=False) as alone:
                if spreads:
                    one = reserved.enter_context(_bound(family, alone.getsockname(), shared=True))
                else:
                    one = reserved.enter_context(alone.dup())
                    one.listen(backlog)
            sockets.append(one)
        yield SharedAddress(tuple(sockets), backlog, spreads=spreads)


def _bound(family: int, sockaddr: object, *, shared: bool) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(sockaddr)  # type: ignore[arg-type] # as getaddrinfo and getsockname give it
    except OSError:
        one.close()
        raise
    return one

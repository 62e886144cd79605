"""What an idle WebSocket takes: `python -m tests.listener.idle_memory --sockets 5000`.

The server is a process of its own with the echo application, whose task waits in `receive`. Its resident
memory is read before and after: the figure holds what trio, the listener and the application's task take, and
not the kernel's buffers.
"""

import argparse
import socket
from contextlib import ExitStack

from tests.listener.harness import TEXT, UPGRADE, frame
from tests.listener.server_process import ListenerProcess, raise_descriptor_limit, server


def open_socket(served: ListenerProcess) -> socket.socket:
    peer = socket.create_connection(served.address, timeout=10)
    peer.sendall(UPGRADE + b"\r\n")
    response = b""
    while not response.endswith(b"\r\n\r\n"):
        response += peer.recv(4096)
    assert response.startswith(b"HTTP/1.1 101"), response
    peer.sendall(frame(TEXT, b"hello"))
    assert peer.recv(100)[2:] == b"hello"
    return peer


def measure(sockets: int) -> float:
    """KiB of resident memory a socket, averaged over `sockets`."""
    raise_descriptor_limit()
    with server(connections=sockets + 200, ping_interval=600.0) as served, ExitStack() as peers:
        for _ in range(100):  # the first ones load modules and caches, which do not count
            peers.enter_context(open_socket(served))
        before = served.rss_kib
        for _ in range(sockets):
            peers.enter_context(open_socket(served))
        return (served.rss_kib - before) / sockets


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=5_000)
    count = parser.parse_args().sockets
    print(f"{measure(count):.1f} KiB a socket, over {count}")  # noqa: T201

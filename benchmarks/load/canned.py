"""A server that does almost nothing, to measure the limit of the load generator.

It parses only what it needs, stores nothing, and writes all frames of one poll to a socket together.
"""

import base64
import json
import re
import select
import socket
from collections import defaultdict

from benchmarks.load.population import CHATS

_SENDING = re.compile(rb'"chat_id": (\d+).*"(seq\d{10}[^"]*)"', re.DOTALL)
_ADMITTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
_HEALTH = b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'


def serve(port: int) -> None:
    """Serve until the process ends."""
    _Canned(port).run()


class _Canned:
    def __init__(self, port: int) -> None:
        self._listening = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listening.setblocking(False)
        self._sock: dict[int, socket.socket] = {}
        self._audience: dict[int, list[socket.socket]] = defaultdict(list)
        self._chats_of: dict[int, list[int]] = defaultdict(list)
        for chat in CHATS:
            for person in chat.people:
                self._chats_of[person].append(chat.id)
        self._frames: dict[int, list[bytes]] = defaultdict(list)
        self._last = 0
        self._epoll = select.epoll()
        self._epoll.register(self._listening.fileno(), select.EPOLLIN)

    def run(self) -> None:
        while True:
            for descriptor, _ in self._epoll.poll():
                if descriptor == self._listening.fileno():
                    self._accept()
                else:
                    self._serve(self._sock[descriptor])
            for chat_id, frames in self._frames.items():
                joined = b"".join(frames)
                for sock in self._audience[chat_id]:
                    sock.sendall(joined)
            self._frames.clear()

    def _accept(self) -> None:
        sock, _ = self._listening.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock[sock.fileno()] = sock
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _serve(self, sock: socket.socket) -> None:
        data = sock.recv(65_536)
        if data.startswith(b"POST"):
            self._respond(sock, data)
        elif data.startswith(b"GET /ws"):
            claims = json.loads(base64.urlsafe_b64decode(data.split(b".")[1] + b"=="))
            for chat_id in self._chats_of[int(claims["sub"])]:
                self._audience[chat_id].append(sock)
            sock.sendall(_ADMITTED)
        elif data.startswith(b"GET"):
            sock.sendall(_HEALTH)
        else:
            self._epoll.unregister(sock.fileno())
            del self._sock[sock.fileno()]
            sock.close()
            for sockets in self._audience.values():
                if sock in sockets:
                    sockets.remove(sock)

    def _respond(self, sock: socket.socket, data: bytes) -> None:
        sending = _SENDING.search(data)
        assert sending is not None
        self._last += 1
        message = b'{"id":%d,"chat_id":%b,"type":"text","content":"%b"}' % (
            self._last,
            sending[1],
            sending[2],
        )
        event = b'{"event":"message.created","data":%b}' % message
        sock.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(message), message))
        self._frames[int(sending[1])].append(b"\x81\x7e" + len(event).to_bytes(2) + event)

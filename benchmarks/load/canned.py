"""A server that does next to nothing, to show how much the load can take: it answers, and writes frames.

Nothing is parsed that need not be, nothing is kept, and what is ready together is written together.
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
    """Until it is ended."""
    _Canned(port).run()


class _Canned:
    def __init__(self, port: int) -> None:
        self._listening = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listening.setblocking(False)
        self._plain: dict[int, socket.socket] = {}
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
                    self._serve(self._plain[descriptor])
            for chat_id, frames in self._frames.items():
                joined = b"".join(frames)
                for plain in self._audience[chat_id]:
                    plain.sendall(joined)
            self._frames.clear()

    def _accept(self) -> None:
        plain, _ = self._listening.accept()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._plain[plain.fileno()] = plain
        self._epoll.register(plain.fileno(), select.EPOLLIN)

    def _serve(self, plain: socket.socket) -> None:
        data = plain.recv(65_536)
        if data.startswith(b"POST"):
            self._answer(plain, data)
        elif data.startswith(b"GET /ws"):
            claims = json.loads(base64.urlsafe_b64decode(data.split(b".")[1] + b"=="))
            for chat_id in self._chats_of[int(claims["sub"])]:
                self._audience[chat_id].append(plain)
            plain.sendall(_ADMITTED)
        elif data.startswith(b"GET"):
            plain.sendall(_HEALTH)
        else:
            self._epoll.unregister(plain.fileno())
            del self._plain[plain.fileno()]
            plain.close()
            for audience in self._audience.values():
                if plain in audience:
                    audience.remove(plain)

    def _answer(self, plain: socket.socket, data: bytes) -> None:
        sending = _SENDING.search(data)
        assert sending is not None
        self._last += 1
        message = b'{"id":%d,"chat_id":%b,"type":"text","content":"%b"}' % (
            self._last,
            sending[1],
            sending[2],
        )
        event = b'{"event":"message.created","data":%b}' % message
        plain.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(message), message))
        self._frames[int(sending[1])].append(b"\x81\x7e" + len(event).to_bytes(2) + event)

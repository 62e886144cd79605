"""Ways into the phases of the machines, at the time 0."""

from adapters.listener import ListenerConfig
from adapters.listener.heads import HeadReader
from adapters.listener.http1 import Http1, HttpSignal
from adapters.listener.websocket import WebSocket
from tests.listener.harness import KEY, UPGRADE

LIMITS = ListenerConfig()
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n"


def begin(sent: bytes = b"", limits: ListenerConfig = LIMITS) -> Http1:
    """A connection whose peer has sent these bytes; the first event has been taken."""
    http = Http1(limits, HeadReader(limits, ("127.0.0.1", 1)), 0.0)
    if sent:
        http.receive(sent, 0.0)
        http.next_event(0.0)
    return http


def in_whole() -> Http1:
    http = begin(POST)
    http.take_whole(3, 0.0)
    return http


def in_body() -> Http1:
    http = begin(POST)
    http.take_in_pieces(0.0)
    return http


def in_response() -> Http1:
    http = begin(GET)
    http.take_in_pieces(0.0)
    assert http.next_event(0.0) is HttpSignal.BODY_ENDED
    return http


def in_rest() -> Http1:
    http = in_whole()
    http.whole_refused(last=False)
    return http


def over() -> Http1:
    http = begin()
    http.receive(b"", 0.0)
    assert http.next_event(0.0) is HttpSignal.OVER
    return http


def in_socket() -> Http1:
    return begin(UPGRADE + b"\r\n")


def handshaking() -> WebSocket:
    return WebSocket.begin(KEY, LIMITS, 0.0)


def responding() -> WebSocket:
    socket = handshaking()
    socket.begin_response()
    return socket


def refused() -> WebSocket:
    socket = handshaking()
    socket.refuse()
    return socket


def opened() -> WebSocket:
    socket = handshaking()
    assert socket.accept(None, (), 0.0).startswith(b"HTTP/1.1 101 ")
    return socket


def closing() -> WebSocket:
    socket = opened()
    socket.close(1000, "", 0.0)
    return socket

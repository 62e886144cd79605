"""Sockets of a chat must all hear every message, once, in order; pings apart."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.load.client import Audience, Listener, Loop, Void, received_head

PING = b"\x89\x02ab"
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def message(number: int, message_id: int | None = None) -> bytes:
    """The frame of the message with a number of the load's own, and by default an id that is one greater."""
    chosen = number + 1 if message_id is None else message_id
    payload = b'{"event":"message.created","data":{"id":%d,"content":"seq%010d and more"}}' % (chosen, number)
    return bytes([0x81, len(payload)]) + payload


class Server:
    """The other end of some listeners' sockets."""

    def __init__(self, listeners: int) -> None:
        self.loop = Loop()
        self.audience = Audience()
        self.delays: list[tuple[float, float]] = []
        self.listeners = []
        self.ends = []
        for _ in range(listeners):
            end, plain = socket.socketpair()
            plain.setblocking(False)
            listener = Listener(self.audience, [0.0] * 100, self.delays)
            listener.attach(self.loop, plain)
            self.listeners.append(listener)
            self.ends.append(end)

    def tell(self, which: int, data: bytes) -> None:
        self.ends[which].sendall(data)
        self.loop.run(0.001)

    def frames(self) -> list[int]:
        return [listener.frames() for listener in self.listeners]

    def close(self) -> None:
        for end, listener in zip(self.ends, self.listeners, strict=True):
            end.close()
            listener.close()
        self.loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """Two sockets of one chat."""
    made = Server(2)
    yield made
    made.close()


def test_a_frame_is_heard_by_each_socket_for_itself(server: Server) -> None:
    server.tell(1, message(0) + message(1))
    server.tell(0, message(0))
    assert server.frames() == [1, 2]
    assert (server.audience.ids, server.audience.numbers) == ([1, 2], [0, 1])


@settings(max_examples=30)
@given(st.data())
def test_frames_may_come_in_any_pieces_with_pings_between_them(data: st.DataObject) -> None:
    server = Server(2)
    try:
        rests = [
            b"".join(message(n) + PING * data.draw(st.integers(0, 2)) for n in range(4)) for _ in server.ends
        ]
        pings = sum(rest.count(PING) for rest in rests)
        while any(rests):
            which = data.draw(st.sampled_from([number for number, rest in enumerate(rests) if rest]))
            size = max(data.draw(st.integers(1, 150)), len(rests[which]) // 8)  # few pieces: quick
            server.tell(which, rests[which][:size])
            rests[which] = rests[which][size:]
        assert server.frames() == [4, 4]
        assert server.audience.stream == b"".join(map(message, range(4)))
        assert len(server.delays) == 8
        answered = sum(len(end.recv(1000)) for end in server.ends if pings and _has_data(end))
        assert answered == pings * 8
    finally:
        server.close()


def _has_data(end: socket.socket) -> bool:
    end.setblocking(False)
    try:
        return bool(end.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_a_message_out_of_order_is_void(server: Server) -> None:
    server.tell(0, message(1))
    with pytest.raises(Void, match="came after"):
        server.tell(0, message(0))


def test_a_message_that_comes_twice_is_void(server: Server) -> None:
    server.tell(0, message(0))
    with pytest.raises(Void, match="came after"):
        server.tell(0, message(0))


def test_a_message_that_one_socket_misses_is_void(server: Server) -> None:
    server.tell(0, message(0) + message(1))
    with pytest.raises(Void, match="different things"):
        server.tell(1, message(1))


def test_a_frame_that_is_no_message_is_void(server: Server) -> None:
    with pytest.raises(Void, match="no message"):
        server.tell(0, b"\x81\x02{}")


def test_a_socket_that_is_closed_is_void(server: Server) -> None:
    with pytest.raises(Void, match="4408"):
        server.tell(0, message(0) + b"\x88\x02" + (4408).to_bytes(2))


def test_a_connection_that_ends_is_void(server: Server) -> None:
    server.ends[0].close()
    with pytest.raises(Void, match="closed"):
        server.loop.run(0.1)


@pytest.mark.parametrize("first", range(1, len(HEAD) + 1))
def test_a_head_is_received_and_nothing_after_it(first: int) -> None:
    """However it comes: a frame that follows the 101 is the listener's."""
    end, plain = socket.socketpair()
    plain.settimeout(5)
    with end, plain:
        end.sendall(HEAD[:first])
        with ThreadPoolExecutor(1) as pool:
            head = pool.submit(received_head, plain)
            end.sendall(HEAD[first:] + message(0))
        assert head.result() == HEAD
        assert plain.recv(1000) == message(0)


def test_an_answer_without_an_end_is_no_head() -> None:
    end, plain = socket.socketpair()
    with plain:
        end.sendall(HEAD[:-1])
        end.close()
        with pytest.raises(Void, match="was not opened"):
            received_head(plain)

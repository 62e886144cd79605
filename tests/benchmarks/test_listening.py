"""All sockets of a chat must receive every message once, in order; pings do not count."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.load.client import ChatListener, ChatStream, Loop, Void, received_head

PING = b"\x89\x02ab"
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def message(number: int, message_id: int | None = None) -> bytes:
    """The frame of the message with this number of the load, and by default the next greater id."""
    chosen = number + 1 if message_id is None else message_id
    payload = b'{"event":"message.created","data":{"id":%d,"content":"seq%010d and more"}}' % (chosen, number)
    return bytes([0x81, len(payload)]) + payload


class OtherEnds:
    """The server's ends of the sockets of some listeners."""

    def __init__(self, listeners: int) -> None:
        self.loop = Loop()
        self.stream = ChatStream()
        self.delays: list[tuple[float, float]] = []
        self.listeners = []
        self.ends = []
        for _ in range(listeners):
            end, sock = socket.socketpair()
            sock.setblocking(False)
            listener = ChatListener(self.stream, [0.0] * 100, self.delays)
            listener.attach(self.loop, sock)
            self.listeners.append(listener)
            self.ends.append(end)

    def send(self, which: int, data: bytes) -> None:
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
def server() -> Iterator[OtherEnds]:
    """Two sockets of one chat."""
    ends = OtherEnds(2)
    yield ends
    ends.close()


def test_each_socket_has_its_own_position_in_the_stream(server: OtherEnds) -> None:
    server.send(1, message(0) + message(1))
    server.send(0, message(0))
    assert server.frames() == [1, 2]
    assert (server.stream.ids, server.stream.numbers) == ([1, 2], [0, 1])


@settings(max_examples=30)
@given(st.data())
def test_frames_may_arrive_in_any_pieces_with_pings_between_them(data: st.DataObject) -> None:
    server = OtherEnds(2)
    try:
        rests = [
            b"".join(message(n) + PING * data.draw(st.integers(0, 2)) for n in range(4)) for _ in server.ends
        ]
        pings = sum(rest.count(PING) for rest in rests)
        while any(rests):
            which = data.draw(st.sampled_from([number for number, rest in enumerate(rests) if rest]))
            size = max(
                data.draw(st.integers(1, 150)), len(rests[which]) // 8
            )  # few pieces, so that the test is quick
            server.send(which, rests[which][:size])
            rests[which] = rests[which][size:]
        assert server.frames() == [4, 4]
        assert server.stream.data == b"".join(map(message, range(4)))
        assert len(server.delays) == 8
        pong_bytes = sum(len(end.recv(1000)) for end in server.ends if pings and _has_data(end))
        assert pong_bytes == pings * 8
    finally:
        server.close()


def _has_data(end: socket.socket) -> bool:
    end.setblocking(False)
    try:
        return bool(end.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def test_a_message_out_of_order_is_void(server: OtherEnds) -> None:
    server.send(0, message(1))
    with pytest.raises(Void, match="arrived after"):
        server.send(0, message(0))


def test_a_duplicate_message_is_void(server: OtherEnds) -> None:
    server.send(0, message(0))
    with pytest.raises(Void, match="arrived after"):
        server.send(0, message(0))


def test_a_message_that_one_socket_misses_is_void(server: OtherEnds) -> None:
    server.send(0, message(0) + message(1))
    with pytest.raises(Void, match="different frames"):
        server.send(1, message(1))


def test_a_frame_without_a_message_is_void(server: OtherEnds) -> None:
    with pytest.raises(Void, match="without a message"):
        server.send(0, b"\x81\x02{}")


def test_a_socket_that_is_closed_is_void(server: OtherEnds) -> None:
    with pytest.raises(Void, match="4408"):
        server.send(0, message(0) + b"\x88\x02" + (4408).to_bytes(2))


def test_a_connection_that_ends_is_void(server: OtherEnds) -> None:
    server.ends[0].close()
    with pytest.raises(Void, match="closed"):
        server.loop.run(0.1)


@pytest.mark.parametrize("first", range(1, len(HEAD) + 1))
def test_received_head_leaves_the_bytes_after_the_head(first: int) -> None:
    """However the head is split, a frame that follows the 101 stays in the socket for the listener."""
    end, sock = socket.socketpair()
    sock.settimeout(5)
    with end, sock:
        end.sendall(HEAD[:first])
        with ThreadPoolExecutor(1) as pool:
            head = pool.submit(received_head, sock)
            end.sendall(HEAD[first:] + message(0))
        assert head.result() == HEAD
        assert sock.recv(1000) == message(0)


def test_an_incomplete_head_is_void() -> None:
    end, sock = socket.socketpair()
    with sock:
        end.sendall(HEAD[:-1])
        end.close()
        with pytest.raises(Void, match="before the response head"):
            received_head(sock)

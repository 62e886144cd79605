"""What a WebSocket's machine makes of frames, of time and of the application: the rules behind its table."""

import pytest

from adapters.listener import ListenerConfig
from adapters.listener.websocket import (
    EndCause,
    MessageBuffer,
    SocketEnd,
    SocketMessage,
    SocketPhase,
    SocketRefusal,
    WebSocket,
)
from tests.listener.harness import BINARY, CLOSE, KEY, PING, PONG, TEXT, close_frame, frame
from tests.listener.machines.ways import LIMITS, closing, handshaking, opened, refused, responding

ENDED = (SocketEnd(EndCause.CLOSED),)


def receiving(*sent: bytes, limits: ListenerConfig = LIMITS) -> WebSocket:
    """An open socket whose peer has sent these bytes in one piece."""
    socket = WebSocket.begin(KEY, limits, 0.0)
    socket.accept(None, (), 0.0)
    socket.receive(b"".join(sent), 0.0)
    return socket


def from_server(opcode: int, payload: bytes = b"") -> bytes:
    return frame(opcode, payload, masked=False)


# --- messages -----------------------------------------------------------------------------------------------


def test_frames_that_arrive_together_are_processed_one_by_one() -> None:
    """There is no work left only after the last."""
    socket = receiving(frame(TEXT, b"a"), frame(PONG), frame(BINARY, b"b"))
    assert not socket.rests
    assert socket.next_effects(0.0) == (SocketMessage("a"),)
    assert socket.next_effects(0.0) == ()
    assert socket.next_effects(0.0) == (SocketMessage(b"b"),)
    assert socket.next_effects(0.0) is None
    assert socket.rests


def test_a_ping_gets_a_pong_with_its_payload() -> None:
    """Also amid a message, and not after a close."""
    socket = receiving(frame(TEXT, b"a", fin=False), frame(PING, b"amid"), frame(0, b"b"))
    assert socket.next_effects(0.0) == ()
    assert socket.next_effects(0.0) == (from_server(PONG, b"amid"),)
    assert socket.next_effects(0.0) == (SocketMessage("ab"),)
    socket = closing()
    socket.receive(frame(PING) + frame(TEXT, b"late"), 0.0)
    assert [socket.next_effects(0.0) for _ in range(3)] == [(), (), None]


def test_the_bytes_of_a_message_are_bounded() -> None:
    """Of text in UTF-8, over all fragments; nothing beyond the bound is stored."""
    buffer = MessageBuffer(5)
    assert buffer.add("\xe9")
    assert buffer.add("aa")
    assert buffer.size == 4
    assert buffer.add("\xe9") is False
    buffer.clear()
    assert (buffer.size, buffer.take()) == (0, b"")
    assert buffer.add(b"abc")
    assert buffer.add(b"de")
    assert buffer.size == 5
    assert buffer.take() == b"abcde"
    assert buffer.size == 0
    assert buffer.add(b"abcdef") is False


def test_a_message_that_is_too_large_closes_with_1009() -> None:
    """The peer gets the reason, and is read no more."""
    socket = receiving(frame(TEXT, b"abcd"), limits=ListenerConfig(message_bytes=3))
    assert socket.next_effects(0.0) == (
        from_server(CLOSE, b"\x03\xf1message_too_big"),
        SocketEnd(EndCause.FAILED),
    )
    assert (socket.code, socket.reason, socket.by_peer) == (1009, "message_too_big", False)
    assert (socket.open, socket.ignores_app) == (False, True)


@pytest.mark.parametrize(("asked", "bound"), [(0, 3), (2, 3), (4, 4)])
def test_the_application_may_raise_the_bound_of_a_socket(asked: int, bound: int) -> None:
    """With the accept, and never below the limit of all sockets."""
    socket = WebSocket.begin(KEY, ListenerConfig(message_bytes=3), 0.0)
    socket.accept(None, (), 0.0, message_bytes=asked)
    socket.receive(frame(TEXT, b"x" * bound) + frame(TEXT, b"x" * (bound + 1)), 0.0)
    assert socket.next_effects(0.0) == (SocketMessage("x" * bound),)
    assert socket.next_effects(0.0) == (
        from_server(CLOSE, b"\x03\xf1message_too_big"),
        SocketEnd(EndCause.FAILED),
    )


def test_a_malformed_frame_closes_with_its_code_and_reason() -> None:
    """1002 for an unmasked frame; the reason is for people."""
    socket = receiving(from_server(TEXT, b"a"))
    effects = socket.next_effects(0.0)
    assert effects is not None
    close, end = effects
    assert isinstance(close, bytes)
    assert (close[2:4], close[4:].decode()) == (b"\x03\xea", socket.reason)
    assert socket.reason not in {"", "None"}
    assert end == SocketEnd(EndCause.FAILED)
    assert socket.ignores_app is True


def test_messages_of_the_application_are_dropped_after_a_close() -> None:
    """No frame follows a close."""
    assert opened().send("a") == (from_server(TEXT, b"a"),)
    assert opened().send(b"b") == (from_server(BINARY, b"b"),)
    assert closing().send("a") == ()


# --- closes -------------------------------------------------------------------------------------------------


def test_a_close_of_the_peer_is_returned() -> None:
    """With its code and reason; what the application still sends is dropped."""
    socket = receiving(close_frame(4000, "bye"))
    assert socket.next_effects(0.0) == (from_server(CLOSE, b"\x0f\xa0bye"), *ENDED)
    assert (socket.code, socket.reason, socket.by_peer, socket.ignores_app) == (4000, "bye", True, True)
    assert (socket.phase, socket.open) == (SocketPhase.CLOSING, False)
    socket = receiving(frame(CLOSE))
    assert socket.next_effects(0.0) == (from_server(CLOSE), *ENDED)
    assert socket.code == 1005


def test_a_close_of_the_application_is_sent_once() -> None:
    """The peer's close ends the connection then, and changes no code."""
    socket = opened()
    assert socket.close(4001, "why", 1.0) == (from_server(CLOSE, b"\x0f\xa1why"),)
    assert socket.close(4002, "again", 2.0) == ()
    socket.receive(close_frame(1000, "fine"), 2.0)
    assert socket.next_effects(2.0) == ENDED
    assert (socket.code, socket.reason, socket.by_peer, socket.ignores_app) == (4001, "why", False, False)
    assert opened().close(1000, "", 0.0) == (from_server(CLOSE, b"\x03\xe8"),)


def test_a_peer_that_leaves_ends_the_connection() -> None:
    """Except before the accept: its side may be closed while it waits for the response."""
    socket = receiving(b"\x81")
    assert socket.next_effects(0.0) is None
    socket.receive(b"", 0.0)
    assert (socket.next_effects(0.0), socket.reading) == (ENDED, False)
    socket = handshaking()
    socket.receive(b"", 0.0)
    assert socket.next_effects(0.0) is None


def test_an_application_that_ends_closes_its_socket() -> None:
    """With 500 before the accept and 1011 after it; a socket that closes is left alone."""
    assert handshaking().abandon(0.0) == (SocketRefusal(500), *ENDED)
    socket = opened()
    assert socket.abandon(3.0) == (from_server(CLOSE, b"\x03\xf3"),)
    assert (socket.code, socket.reason, socket.ignores_app) == (1011, "", True)
    assert socket.deadline == 3.0 + LIMITS.linger_time
    assert closing().abandon(0.0) == ()
    assert responding().abandon(0.0) == refused().abandon(0.0) == ENDED


# --- time and tasks -----------------------------------------------------------------------------------------


def test_time_ends_a_handshake_and_a_close() -> None:
    """A handshake is refused with 503; a peer that does not close is reset."""
    assert handshaking().expire(1.0) == (SocketRefusal(503), *ENDED)
    for way in (responding, closing):
        assert way().expire(1.0) == (SocketEnd(EndCause.NOT_CLOSED),)
    assert EndCause.NOT_CLOSED.resets
    assert not EndCause.FAILED.resets


def test_pings_are_sent_at_the_interval() -> None:
    """The next one is due an interval after the last."""
    socket = opened()
    assert socket.deadline == LIMITS.ping_interval
    socket.expire(30.0)
    assert socket.deadline == 30.0 + LIMITS.ping_interval


def test_an_accept_opens_the_socket() -> None:
    """With a subprotocol, if the application names one; bytes that were held are processed, and no more."""
    socket = handshaking()
    assert socket.open is False
    socket.receive(frame(TEXT, b"early"), 0.0)
    assert b"\r\nsec-websocket-protocol: a\r\n" in socket.accept("a", (), 0.0).lower()
    assert (socket.open, socket.buffered) == (True, 0)
    assert socket.next_effects(0.0) == (SocketMessage("early"),)


@pytest.mark.parametrize("adopted", [False, True])
def test_only_an_adopted_socket_sleeps(adopted: bool) -> None:
    """It never waits for its application, not even if its inbox was full."""
    socket = opened()
    socket.pause(0.0)
    if adopted:
        socket.forget_application()
    assert (socket.sleeps, socket.paused) == (adopted, not adopted)


def test_a_restart_has_no_reason() -> None:
    """The code says all."""
    socket = opened()
    socket.restart(0.0)
    assert (socket.code, socket.reason) == (1012, "")

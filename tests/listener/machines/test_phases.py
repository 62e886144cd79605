"""The machines' phases: each has the deadline that the table at its module's top states."""

from collections.abc import Callable
from math import inf

import pytest

from adapters.listener.http1 import Http1, HttpPhase, HttpSignal
from adapters.listener.refused_request import RefusedRequest
from adapters.listener.websocket import (
    EndCause,
    SocketEnd,
    SocketMessage,
    SocketPhase,
    SocketRefusal,
    WebSocket,
)
from tests.listener.harness import TEXT, close_frame, frame
from tests.listener.machines.ways import (
    GET,
    LIMITS,
    begin,
    closing,
    handshaking,
    in_body,
    in_response,
    in_rest,
    in_socket,
    in_whole,
    opened,
    over,
    refused,
    responding,
)

WAYS: dict[HttpPhase, Callable[[], Http1]] = {
    HttpPhase.HEAD: begin,
    HttpPhase.CHOICE: lambda: begin(GET),
    HttpPhase.WHOLE: in_whole,
    HttpPhase.BODY: in_body,
    HttpPhase.RESPONSE: in_response,
    HttpPhase.REST: in_rest,
    HttpPhase.SOCKET: in_socket,
    HttpPhase.OVER: over,
}

DEADLINES = {
    HttpPhase.HEAD: LIMITS.idle_time,
    HttpPhase.CHOICE: inf,
    HttpPhase.WHOLE: LIMITS.body_idle_time,
    HttpPhase.BODY: LIMITS.body_idle_time,
    HttpPhase.RESPONSE: inf,
    HttpPhase.REST: LIMITS.body_idle_time,
    HttpPhase.SOCKET: inf,
    HttpPhase.OVER: inf,
}


@pytest.mark.parametrize("phase", HttpPhase)
def test_each_http_phase_has_its_deadline(phase: HttpPhase) -> None:
    """As the table at the top of the module says."""
    http = WAYS[phase]()
    assert http.phase is phase
    assert http.deadline == DEADLINES[phase]


def test_a_head_has_a_deadline_from_its_first_byte() -> None:
    """However slowly it arrives; a blank line before it begins nothing."""
    http = begin(b"\r\n")
    assert http.deadline == LIMITS.idle_time
    for now in (1.0, 2.0, 9.0):
        http.receive(b"G", now)
        http.next_event(now)
        assert http.deadline == 1.0 + LIMITS.head_time


def test_a_body_that_pauses_has_no_deadline_while_the_application_has_no_room() -> None:
    """The peer is not to blame; it may not send more."""
    http = in_body()
    http.paused = True
    assert (http.deadline, http.reading) == (inf, False)


@pytest.mark.parametrize("phase", HttpPhase)
def test_time_ends_each_phase(phase: HttpPhase) -> None:
    """With a 408 where a request is incomplete, silently otherwise."""
    http = WAYS[phase]()
    if phase in {HttpPhase.WHOLE, HttpPhase.BODY}:
        with pytest.raises(RefusedRequest) as refused:
            http.expire()
        response = http.refuse(refused.value.status, [], b"late")
        assert response.startswith(b"HTTP/1.1 408 ")
    else:
        assert http.expire() is HttpSignal.OVER
    assert http.phase is HttpPhase.OVER
    assert not http.reading


# --- WebSocket ---------------------------------------------------------------------------------------------


SOCKET_WAYS: dict[SocketPhase, tuple[Callable[[], WebSocket], float]] = {
    SocketPhase.HANDSHAKE: (handshaking, LIMITS.handshake_time),
    SocketPhase.RESPONSE: (responding, LIMITS.handshake_time),
    SocketPhase.REFUSED: (refused, inf),
    SocketPhase.OPEN: (opened, LIMITS.ping_interval),
    SocketPhase.CLOSING: (closing, LIMITS.linger_time),
}


@pytest.mark.parametrize("phase", SocketPhase)
def test_each_socket_phase_has_its_deadline(phase: SocketPhase) -> None:
    """As the table at the top of the module says."""
    way, deadline = SOCKET_WAYS[phase]
    assert way().phase is phase
    assert way().deadline == deadline


def test_a_peer_that_is_silent_after_a_ping_is_reset() -> None:
    """After two intervals; any byte of it counts as a response."""
    socket = opened()
    assert socket.expire(25.0) == (b"\x89\x00",)
    socket.receive(frame(TEXT, b"x"), 26.0)
    assert socket.next_effects(26.0) == (SocketMessage("x"),)
    assert socket.expire(50.0) == (b"\x89\x00",)
    assert socket.expire(75.0) == (SocketEnd(EndCause.SILENT),)
    assert EndCause.SILENT.resets


def test_an_application_that_does_not_receive_is_given_up() -> None:
    """A close frame of the peer waits meanwhile, and so the wait is bounded."""
    socket = opened()
    socket.pause(1.0)
    socket.receive(close_frame(1000), 1.0)
    assert socket.next_effects(1.0) is None
    assert not socket.reading
    assert socket.deadline == 1.0 + LIMITS.stall_time
    *_, end = socket.expire(11.0)
    assert end == SocketEnd(EndCause.NOT_READ)
    assert (socket.code, socket.reason) == (1011, "not_read")


def test_bytes_before_the_accept_wait_for_it() -> None:
    """At most a message of them is read."""
    socket = handshaking()
    socket.receive(frame(TEXT, b"early"), 0.0)
    assert socket.next_effects(0.0) is None
    assert (socket.buffered, socket.reading) == (11, True)
    socket.receive(bytes(LIMITS.message_bytes), 0.0)
    assert not socket.reading
    socket.accept(None, (), 1.0)
    assert socket.next_effects(1.0) == (SocketMessage("early"),)


def test_the_shutdown_refuses_a_handshake_and_closes_a_socket() -> None:
    """With 503 and 1012; a socket that closes already is left alone."""
    assert handshaking().restart(0.0) == (SocketRefusal(503), SocketEnd(EndCause.CLOSED))
    socket = opened()
    (close,) = socket.restart(0.0)
    assert close == b"\x88\x02\x03\xf4"
    assert socket.ignores_app
    assert closing().restart(0.0) == ()

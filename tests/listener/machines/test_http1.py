"""What HTTP/1.1's machine makes of bytes in each phase: the rules behind its table."""

from collections.abc import Callable

import pytest

from adapters.listener import ListenerConfig
from adapters.listener.h11_request import RequestHead, SocketRequest
from adapters.listener.http1 import BodyPart, Http1, HttpPhase, HttpSignal
from adapters.listener.refused_request import RefusedRequest
from adapters.listener.whole_requests import PlainHead
from tests.listener.harness import KEY, UPGRADE
from tests.listener.machines.ways import (
    GET,
    LIMITS,
    POST,
    begin,
    in_body,
    in_response,
    in_rest,
    in_socket,
    in_whole,
    over,
)

CHUNKED = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"


def responded_early(sent: bytes = POST, limits: ListenerConfig = LIMITS) -> Http1:
    """A request through h11 whose response ends before its body has arrived."""
    http = begin(sent, limits)
    if http.phase is HttpPhase.CHOICE:
        http.take_in_pieces(0.0)
    http.request.begin_response(401, [(b"content-length", b"0")], [], last=False)
    http.request.end_response()
    assert http.responded(0.0)
    assert http.phase is HttpPhase.REST
    return http


def drained(http: Http1, *, restarting: bool = False) -> Http1:
    http.draining, http.restarting = True, restarting
    return http


# --- heads --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick_path", [True, False])
def test_a_handshake_is_the_same_with_and_without_h11(quick_path: bool) -> None:
    """h11 reads a plain handshake only to frame another response than the accept."""
    http = begin(limits=ListenerConfig(quick_path=quick_path))
    http.receive(UPGRADE.replace(b"/ws", b"/a?b=c") + b"\r\nearly", 0.0)
    request = http.next_event(0.0)
    assert isinstance(request, SocketRequest)
    assert request.target == b"/a?b=c"
    assert dict(request.fields)[b"sec-websocket-key"] == KEY
    assert http.request.begun is not quick_path
    assert http.phase is HttpPhase.SOCKET
    assert http.take_rest() == (b"early", False)
    http.request.begin_response(401, [], [], last=True)
    assert b"transfer-encoding: chunked" in b"".join(http.request.end_response()).lower()
    http.release()
    assert not http.request.begun, "an open socket holds a parser"


@pytest.mark.parametrize(("quick_path", "kind"), [(True, PlainHead), (False, RequestHead)])
def test_plain_heads_bypass_h11_only_on_the_quick_path(quick_path: bool, kind: type) -> None:
    """The configuration turns it off."""
    http = begin(limits=ListenerConfig(quick_path=quick_path))
    http.receive(GET, 0.0)
    assert isinstance(http.next_event(0.0), kind)


def test_the_application_has_room_for_a_new_body() -> None:
    """Although the last body stopped the reading."""
    http = begin(POST)
    http.paused = True
    http.take_in_pieces(0.0)
    assert http.paused is False
    assert http.reading


@pytest.mark.parametrize("way", [lambda: begin(GET), in_whole, in_response, in_socket, over])
def test_bytes_wait_where_the_driver_has_the_turn(way: Callable[[], Http1]) -> None:
    """No event, and no byte is lost."""
    http = way()
    http.receive(GET, 0.0)
    assert http.next_event(0.0) is None
    assert http.buffered == len(GET)


# --- bodies -------------------------------------------------------------------------------------------------


def test_a_body_waits_while_the_application_has_no_room() -> None:
    """Its bytes count as unread, as do those that the application has."""
    http = in_body()
    http.receive(b"ab", 0.0)
    assert http.next_event(0.0) == BodyPart(b"ab")
    http.receive(b"c", 0.0)
    http.paused = True
    assert http.next_event(0.0) is None
    assert (http.buffered, http.unread) == (1, 3)
    http.paused = False
    assert http.next_event(0.0) == BodyPart(b"c")
    assert http.next_event(0.0) is HttpSignal.BODY_ENDED
    assert (http.buffered, http.unread) == (0, 3)


def test_a_body_that_is_too_large_ends_with_413() -> None:
    """Unless the application responds in time, which receives one byte more than the limit."""
    http = begin(POST.replace(b"3", b"5"), ListenerConfig(body_bytes=3))
    http.take_in_pieces(0.0)
    http.receive(b"abcde", 1.0)
    assert http.next_event(1.0) == BodyPart(b"abcd")
    assert (http.next_event(1.0), http.reading) == (None, False)
    assert http.deadline == 1.0 + LIMITS.refusal_time
    with pytest.raises(RefusedRequest) as refused:
        http.expire()
    assert (refused.value.status, refused.value.code) == (413, "body_too_large")
    assert refused.value.detail == "The body is larger than 3 bytes."


@pytest.mark.parametrize("way", [in_whole, in_body])
def test_a_body_that_is_late_ends_with_408(way: Callable[[], Http1]) -> None:
    """Through h11 and without it."""
    with pytest.raises(RefusedRequest) as refused:
        way().expire()
    assert (refused.value.status, refused.value.code) == (408, "request_timeout")


def test_a_whole_body_must_be_complete() -> None:
    """It is taken at once; a peer that ends before is refused."""
    http = in_whole()
    http.receive(b"ab", 0.0)
    assert http.whole_body() is None
    http.receive(b"cG", 0.0)
    assert http.whole_body() == b"abc"
    assert http.buffered == 1
    http = in_whole()
    http.receive(b"ab", 0.0)
    http.receive(b"", 0.0)
    with pytest.raises(RefusedRequest) as refused:
        http.whole_body()
    assert refused.value.status == 400


@pytest.mark.parametrize("way", [in_rest, responded_early])
def test_the_rest_of_a_body_is_dropped(way: Callable[[], Http1]) -> None:
    """Then the next request is awaited, for the idle time."""
    http = way()
    assert not http.has_input
    http.receive(b"ab", 5.0)
    assert (http.next_event(5.0) or HttpSignal.DROPPED) is HttpSignal.DROPPED
    assert (http.next_event(5.0), http.phase, http.unread) == (None, HttpPhase.REST, 0)
    http.receive(b"c", 6.0)
    assert http.next_event(6.0) is HttpSignal.DROPPED
    if http.phase is HttpPhase.REST:  # h11 gives the end of a body by itself
        assert http.next_event(6.0) is HttpSignal.DROPPED
    assert (http.phase, http.deadline) == (HttpPhase.HEAD, 6.0 + LIMITS.idle_time)
    http.receive(GET, 7.0)
    assert isinstance(http.next_event(7.0), PlainHead)


def test_a_peer_that_leaves_amid_the_rest_ends_the_connection() -> None:
    """There is nobody to refuse the body to."""
    http = in_rest()
    http.receive(b"a", 1.0)
    assert http.next_event(1.0) is None
    http.receive(b"", 1.0)
    assert http.next_event(1.0) is HttpSignal.OVER


def test_a_rest_beyond_the_limit_ends_the_connection() -> None:
    """Nothing that nobody needs is read for ever."""
    http = responded_early(CHUNKED, ListenerConfig(body_bytes=3))
    http.receive(b"3\r\nabc\r\n", 1.0)
    assert http.next_event(1.0) is HttpSignal.DROPPED
    http.receive(b"1\r\nd\r\n", 1.0)
    assert http.next_event(1.0) is HttpSignal.OVER


# --- ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [False, True])
def test_a_connection_ends_after_the_last_response(last: bool) -> None:
    """Also if it is decided by the head, before the body has arrived."""
    http, refused = in_whole(), in_whole()
    http.receive(b"abc", 1.0)
    assert http.whole_body() == b"abc"
    http.whole_responded(1.0, last=last)
    refused.whole_refused(last=last)
    assert http.phase is (HttpPhase.OVER if last else HttpPhase.HEAD)
    assert refused.phase is (HttpPhase.OVER if last else HttpPhase.REST)


def test_a_refusal_is_sent_unless_a_response_has_begun() -> None:
    """A second response would be read as the response to the next request."""
    assert in_body().refuse(408, [], b"late").startswith(b"HTTP/1.1 408 ")
    assert in_rest().refuse(408, [], b"late") == b""
    http = in_body()
    http.request.begin_response(200, [(b"content-length", b"0")], [], last=False)
    assert http.refuse(408, [], b"late") == b""
    assert http.phase is HttpPhase.OVER


def test_the_shutdown_ends_idle_connections() -> None:
    """A new one still gets its first response, until the server restarts."""
    assert begin().next_event(0.0) is None
    assert drained(begin()).next_event(0.0) is None
    assert drained(begin(), restarting=True).next_event(0.0) is HttpSignal.OVER
    http = in_whole()
    http.receive(b"abc", 0.0)
    http.whole_body()
    assert http.whole_responded(0.0, last=False) is False
    assert http.next_event(0.0) is None
    assert drained(http).next_event(0.0) is HttpSignal.OVER

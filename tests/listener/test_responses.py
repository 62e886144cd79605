"""Requests get complete responses, in order, and the connection stays open or closes as announced."""

from typing import Any

import pytest
import trio
from quart import ResponseReturnValue, request, websocket
from quart_trio import QuartTrio
from trio.testing import MockClock, wait_all_tasks_blocked

from adapters.listener import ASGIApp
from adapters.listener.writer import PeerWriter
from tests.listener.harness import (
    BINARY,
    CLOSE,
    LONG,
    RawPeer,
    Receive,
    Send,
    application,
    connected,
    echo,
    frame,
    respond,
    serving,
    socket_to,
    wait_until,
    whole_body,
)

CLOSING = b"GET /a HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST /early HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n"


def quart_application() -> ASGIApp:
    """Triggers the faults with quart-trio, which cancels a request's task at http.disconnect."""
    app = QuartTrio(__name__)

    @app.get("/a")
    async def a() -> ResponseReturnValue:
        return "ok"

    @app.post("/early")
    async def early() -> ResponseReturnValue:
        return "no", 401

    @app.post("/body")
    async def body() -> ResponseReturnValue:
        return await request.get_data()

    @app.websocket("/ws")
    async def ws() -> None:
        while True:
            message = await websocket.receive()
            await websocket.send(f"{isinstance(message, bytes)} {len(message)}")

    return app


@pytest.mark.parametrize("head", [CLOSING, b"GET /a HTTP/1.0\r\n\r\n"])
async def test_the_last_response_of_a_connection_closes_it(head: bytes) -> None:
    """Connection: close and HTTP/1.0: quart-trio's cancellation must not keep the socket open."""
    async with serving(quart_application()) as served:
        for _ in range(10):
            async with connected(served) as peer:
                assert (await peer.ask(head)).body == b"ok"
                assert await peer.end() == b""


async def test_the_idle_timeout_applies_after_each_request(clock: MockClock) -> None:
    """After a request as before the first one."""
    async with serving(quart_application(), idle_time=30) as served, connected(served) as peer:
        for _ in range(3):
            assert (await peer.ask(GET)).status == 200
            await wait_all_tasks_blocked()
            clock.jump(20)
        clock.jump(20)
        assert await peer.end() == b""


async def test_an_early_response_does_not_wedge_the_connection() -> None:
    """A 401 before the body: the rest of the body is dropped, and the next request gets its response."""
    async with serving(quart_application()) as served:
        for _ in range(10):
            async with connected(served) as peer:
                assert (await peer.ask(POST)).status == 401
                assert (await peer.ask(b"body" + GET)).body == b"ok"
                assert (await peer.ask(b"POST /body" + POST[11:], b"bo", b"dy")).body == b"body"


async def test_after_an_early_response_the_rest_is_checked_as_any_body() -> None:
    """An invalid rest ends the connection without a second response."""
    head = b"POST /early HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(quart_application()) as served, connected(served) as peer:
        assert (await peer.ask(head)).status == 401
        assert (await peer.ask(b"1\r\nx\r\n0\r\nX: y\r\n\r\n", GET)).body == b"ok"
        assert (await peer.ask(head)).status == 401
        await peer.send(b"1\r\nx\r\n0\r\n\n" + GET)
        assert await peer.end() == b""


async def test_after_an_early_response_only_a_bounded_rest_is_read() -> None:
    endless = b"POST /early HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    async with serving(quart_application(), body_bytes=0x10000) as served, connected(served) as peer:
        assert (await peer.ask(endless)).status == 401
        await peer.flood(chunk)
        await wait_until(lambda: not served.counts.open_connections)


async def test_after_an_early_response_the_rest_has_a_timeout(clock: MockClock) -> None:
    async with serving(quart_application(), body_idle_time=30) as served, connected(served) as peer:
        assert (await peer.ask(POST)).status == 401
        await wait_all_tasks_blocked()
        clock.jump(31)
        assert await peer.end() == b""


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    many = [b"POST /%d HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n%02d" % (n, n) for n in range(50)]
    async with serving(echo) as served, connected(served) as peer:
        await peer.send(b"".join(many))
        for n in range(50):
            assert (await peer.response()).body == f"POST /{n}? {n:02}".encode()


async def test_a_client_that_half_closes_gets_every_response() -> None:
    """A commit in progress is not cancelled, and its response is sent."""
    committed = []

    async def slow(scope: Any, receive: Receive, send: Send) -> None:
        await whole_body(receive)
        with trio.move_on_after(0.1):
            committed.append((await receive())["type"])
        await respond(send)

    async with serving(application(http=slow)) as served, connected(served) as peer:
        await peer.send(GET, GET)
        await peer.half_close()
        assert (await peer.response()).body == b"ok"
        assert (await peer.response()).body == b"ok"
        assert await peer.end() == b""
        assert committed == []


async def test_a_disconnect_within_a_body_reaches_the_application() -> None:
    heard: list[str] = []

    async def reading(scope: Any, receive: Receive, send: Send) -> None:
        while not heard or heard[-1] != "http.disconnect":
            heard.append((await receive())["type"])

    async with serving(application(http=reading)) as served:
        async with connected(served) as peer:
            await peer.send(POST + b"b")
            await wait_until(lambda: bool(heard))
        await wait_until(lambda: heard[-1] == "http.disconnect")


async def test_100_continue_is_sent_when_the_application_awaits_the_body() -> None:
    head = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    async with serving(echo) as served, connected(served) as peer:
        for _ in range(2):
            assert (await peer.ask(head)).status == 100
            assert (await peer.ask(b"body")).body == b"POST /? body"


async def test_without_100_continue_an_early_response_ends_the_connection() -> None:
    """The client may or may not send the body, so the next head cannot be found."""

    async def refusing(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, 401)

    head = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    async with serving(application(http=refusing)) as served, connected(served) as peer:
        response = await peer.ask(head)
        assert (response.status, response.headers["connection"]) == (401, "close")
        assert await peer.end() == b""


async def test_a_body_is_read_only_as_fast_as_the_application_receives_it() -> None:
    """Beyond the inbox's bound the reader stops, and continues when the application does."""
    go = trio.Event()

    async def late(scope: Any, receive: Receive, send: Send) -> None:
        await go.wait()
        await respond(send, 200, b"%d" % len(await whole_body(receive)))

    size = 8_000_000
    sent = trio.Event()

    async def send_body(peer: RawPeer) -> None:
        await peer.send(b"x" * size)
        sent.set()

    app = application(http=late)
    async with serving(app, body_bytes=size) as served, connected(served) as peer:
        await peer.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % size)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_body, peer)
            with trio.move_on_after(0.2):
                await sent.wait()
            assert not sent.is_set()
            go.set()
            assert (await peer.response()).body == b"%d" % size


async def test_a_body_beyond_the_bound_leaves_the_response_to_the_application() -> None:
    """It receives one byte beyond the bound; the listener sends a 413 only if the application does not."""

    async def counting(scope: Any, receive: Receive, send: Send) -> None:
        size = 0
        while True:
            event = await receive()
            size += len(event.get("body", b""))
            if size > 1000 and scope["path"] == "/own":
                return await respond(send, 413, b"%d" % size)

    chunked = b" HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" + b"800\r\n" + b"x" * 2048
    app = application(http=counting)
    async with serving(app, body_bytes=1000, refusal_time=LONG) as served, connected(served) as peer:
        response = await peer.ask(b"POST /own" + chunked)
        assert (response.status, response.body) == (413, b"1001")
        assert await peer.end() == b""
    async with serving(app, body_bytes=1000, refusal_time=0.1) as served, connected(served) as peer:
        response = await peer.ask(b"POST /" + chunked)
        assert (response.status, response.headers["connection"]) == (413, "close")
        assert b'"code":"body_too_large"' in response.body
        assert await peer.end() == b""


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/path?x", "/path?x"),
        (b"/path?", "/path?"),
        (b"/%ff%00?%", "/\ufffd\x00?%"),
        (b"//a//b", "//a//b?"),
        (b"http://other/path?x=1", "/path?x=1"),
        (b"HTTP://other:80", "/?"),
        (b"http://other?x", "/?x"),
    ],
)
async def test_odd_but_legal_targets_reach_the_application_as_paths(target: bytes, path: str) -> None:
    async with serving(echo) as served, connected(served) as peer:
        response = await peer.ask(b"GET " + target + b" HTTP/1.1\r\nHost: test\r\n\r\n")
        assert (response.status, response.body.decode()) == (200, f"GET {path} ")


@pytest.mark.parametrize("target", [b"/a?x", b"http://other/a", b"/%ff", b"/a?%ff", b"//a", b"/a%00"])
async def test_quart_refuses_no_odd_target_with_a_500(target: bytes) -> None:
    async with serving(quart_application()) as served, connected(served) as peer:
        response = await peer.ask(b"GET " + target + b" HTTP/1.1\r\nHost: test\r\n\r\n")
        assert response.status in {200, 404}
        assert served.counts.application_errors == 0


async def test_an_absolute_target_names_the_host() -> None:
    async def host(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, 200, b",".join(value for name, value in scope["headers"] if name == b"host"))

    async with serving(application(http=host)) as served, connected(served) as peer:
        response = await peer.ask(b"GET http://other:81/ HTTP/1.1\r\nHost: test\r\n\r\n")
        assert response.body == b"other:81"


async def test_responses_name_no_server() -> None:
    async with serving(echo) as served, connected(served) as peer:
        for request_ in (GET, b"nonsense\r\n\r\n"):
            response = await peer.ask(request_)
            assert "server" not in response.headers
            assert "date" in response.headers


async def test_head_has_headers_and_no_body() -> None:
    async with serving(quart_application()) as served, connected(served) as peer:
        await peer.send(b"HEAD /a HTTP/1.1\r\nHost: test\r\n\r\n")
        assert (await peer.response(head=True)).headers["content-length"] == "2"
        assert (await peer.ask(GET)).body == b"ok"


async def test_the_scope_names_the_tcp_peer() -> None:
    seen: list[Any] = []

    async def noting(scope: Any, receive: Receive, send: Send) -> None:
        seen.append(scope["client"])
        await respond(send)

    async with serving(application(http=noting)) as served, connected(served) as peer:
        forged = b"GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n"
        assert (await peer.ask(forged)).status == 200
        assert seen == [peer.stream.socket.getsockname()]


async def test_small_responses_do_not_wait_for_acknowledgements() -> None:
    """TCP_NODELAY is set on the listener's side of a connection."""
    seen: list[int] = []
    write = PeerWriter.write

    async def watching(writer: PeerWriter, head: bytes, body: bytes = b"") -> None:
        seen.append(writer._tcp.socket.getsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY))
        await write(writer, head, body)

    async with serving(echo) as served, connected(served) as peer:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(PeerWriter, "write", watching)
            await peer.ask(GET)
    assert seen == [1]


async def test_an_empty_binary_message_reaches_quart_as_bytes() -> None:
    """quart-trio 0.12 turns it into None, unless it is true."""
    async with serving(quart_application()) as served, socket_to(served) as peer:
        await peer.send(frame(BINARY))
        assert (await peer.frame()).payload == b"True 0"
        await peer.send(frame(CLOSE))

"""No peer holds a connection, a handler or the server beyond a timeout."""

import resource
import socket
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from adapters.listener import ListenerConfig
from tests.listener.harness import (
    UPGRADE,
    ConnectionEnded,
    Receive,
    Send,
    application,
    connected,
    echo,
    respond,
    serving,
    socket_to,
    wait_until,
    whole_body,
)
from tests.patience import PATIENCE

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n"
SMALL = 4096
"""Bytes of a receive buffer that fills at once."""


@pytest.mark.parametrize("before", [b"", GET])
async def test_a_head_has_a_timeout_from_its_first_byte(before: bytes) -> None:
    """Slow-loris: more bytes do not extend it, in the first request as in a later one."""
    async with serving(echo, head_time=0.3) as served, connected(served) as peer:
        if before:
            assert (await peer.ask(before)).status == 200
        await peer.send(b"GET / HTTP/1.1\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drip, peer.stream, b"X: y\r\n")
            assert (await peer.response()).status == 408
            assert await peer.end() == b""
            nursery.cancel_scope.cancel()
        assert served.counts.timeouts == 1


async def _drip(stream: trio.SocketStream, data: bytes) -> None:
    with trio.move_on_after(60):
        try:
            while True:
                await stream.send_all(data)
                await trio.sleep(0.02)
        except trio.BrokenResourceError:
            pass


async def test_a_silent_connection_is_closed_without_a_response() -> None:
    async with serving(echo, idle_time=0.1) as served, connected(served) as peer:
        assert await peer.end() == b""


@pytest.mark.parametrize("before", [b"", GET])
@pytest.mark.parametrize("stray", [(b"\r",), (b"\r", b"\n"), (b"\r\n\r", b"\n\r\n")])
async def test_a_blank_line_starts_no_request(
    stray: tuple[bytes, ...], before: bytes, clock: MockClock
) -> None:
    """In any number of segments (RFC 9112, 2.2): the connection stays idle, with the idle timeout."""
    async with serving(echo, head_time=10, idle_time=30) as served, connected(served) as peer:
        if before:
            assert (await peer.ask(before)).status == 200
        for part in stray:
            await peer.send(part)
            await wait_all_tasks_blocked()
        clock.jump(31)
        assert await peer.end() == b""
        assert served.counts.timeouts == 0


async def test_a_request_after_a_blank_line_has_its_time_from_its_own_first_byte() -> None:
    """A head that is begun is awaited for `head_time` alone, a blank line before it or not."""
    async with serving(echo, head_time=0.2, idle_time=60.0) as served, connected(served) as peer:
        await peer.send(b"\r", b"\nG")
        assert (await peer.response()).status == 408


async def test_a_body_may_not_pause_for_long() -> None:
    async with serving(echo, body_idle_time=0.2) as served, connected(served) as peer:
        assert (await peer.ask(POST, b"x")).status == 408
        assert await peer.end() == b""


async def test_a_body_has_a_timeout_from_its_first_byte() -> None:
    async with serving(echo, body_time=0.3, body_idle_time=5) as served, connected(served) as peer:
        await peer.send(POST)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_drip, peer.stream, b"x")
            assert (await peer.response()).status == 408
            nursery.cancel_scope.cancel()


async def test_an_application_sees_the_timeout_of_a_body() -> None:
    heard: list[str] = []

    async def reading(scope: Any, receive: Receive, send: Send) -> None:
        with pytest.raises(ConnectionEnded):
            await whole_body(receive)
        heard.append("gone")
        await respond(send)  # dropped: the listener has answered

    app = application(http=reading)
    async with serving(app, body_idle_time=0.1) as served, connected(served) as peer:
        assert (await peer.ask(POST)).status == 408
        await wait_until(lambda: heard == ["gone"])


async def test_an_undecided_handshake_is_refused() -> None:
    heard: list[str] = []

    async def undecided(scope: Any, receive: Receive, send: Send) -> None:
        heard.extend([(await receive())["type"] for _ in range(2)])

    app = application(websocket=undecided)
    async with serving(app, handshake_time=0.1) as served, connected(served) as peer:
        assert (await peer.ask(UPGRADE + b"\r\n")).status == 503
        assert await peer.end() == b""
        await wait_until(lambda: heard == ["websocket.connect", "websocket.disconnect"])


# --- writes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_peer_that_does_not_read_is_reset(kind: str) -> None:
    """A handler that sends to it waits for `write_time` at most, and then continues."""
    over = False

    async def flooding(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        nonlocal over
        while not over:
            if scope["type"] == "websocket":
                await send({"type": "websocket.send", "bytes": bytes(100_000)})
            else:
                await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            over = served.counts.write_timeouts > 0

    async with (
        serving(application(flooding, flooding), write_time=0.3) as served,
        connected(served, receive_buffer=SMALL) as peer,
    ):
        await peer.send(GET if kind == "http" else UPGRADE + b"\r\n")
        await wait_until(lambda: over)
        assert (await peer.gone()).reset


async def test_a_slow_reader_is_served(clock: MockClock) -> None:
    """The deadline applies to each piece, not to the whole."""
    size = 1_000_000

    async def large(scope: Any, receive: Receive, send: Send) -> None:
        await respond(send, 200, bytes(size))

    app = application(http=large)
    async with serving(app, write_time=60) as served, connected(served, receive_buffer=SMALL) as peer:
        await peer.send(GET)
        await peer.until(b"\r\n\r\n")
        began = trio.current_time()
        left = size
        while left:
            size = min(left, 50_000)
            await peer.exactly(size)
            left -= size
            await wait_all_tasks_blocked()
            clock.jump(4)
        assert trio.current_time() - began > 60


async def test_a_send_to_a_disconnected_peer_lets_other_tasks_run() -> None:
    """A tight loop of sends does not freeze the loop, and can be cancelled."""
    turns = 0

    async def flooding(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal turns
        await send({"type": "websocket.accept"})
        with trio.move_on_after(0.2):
            while True:
                await send({"type": "websocket.send", "text": "x"})
                turns += 1

    async with serving(application(websocket=flooding)) as served:
        async with socket_to(served):
            pass
        with trio.fail_after(PATIENCE):
            await wait_until(lambda: not served.counts.open_connections)
    assert turns > 1


async def test_a_handler_that_ignores_the_disconnect_is_cancelled() -> None:
    cancelled = trio.Event()

    async def deaf(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with serving(application(websocket=deaf), abandon_time=0.1) as served:
        async with socket_to(served):
            pass
        with trio.fail_after(PATIENCE):
            await cancelled.wait()


# --- limits -----------------------------------------------------------------------------------------------


async def test_one_connection_too_many_gets_a_503() -> None:
    async with serving(echo, connections=2) as served, connected(served) as one, connected(served) as two:
        assert (await one.ask(GET)).status == (await two.ask(GET)).status == 200
        async with connected(served) as three:
            response = await three.ask(GET)
            assert response.status == 503
            assert response.headers["connection"] == "close"
            assert int(response.headers["retry-after"]) > 0
            assert await three.end() == b""
        assert served.counts.refused == 1
        assert (await one.ask(GET)).status == 200


async def test_a_closed_connection_makes_room_for_another() -> None:
    async with serving(echo, connections=1, linger_time=0.2) as served:
        for _ in range(5):
            async with connected(served) as peer:
                assert (await peer.ask(GET)).status == 200
            await wait_until(lambda: not served.counts.open_connections)


async def test_one_address_cannot_use_all_connections() -> None:
    async with serving(echo, connections_per_address=1, uncounted_addresses=frozenset()) as served:
        async with connected(served) as one, connected(served) as two:
            assert (await one.ask(GET)).status == 200
            assert (await two.response()).status == 503
        plain = trio.socket.socket()
        await plain.bind(("127.0.0.2", 0))
        await plain.connect(served.address)
        async with trio.SocketStream(plain) as other:
            await other.send_all(GET)
            assert b"200" in await other.receive_some()


async def test_one_network_cannot_use_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """An IPv6 /64 counts as one address, and IPv4-mapped IPv6 as IPv4; the log has the full address."""
    accept = socket.socket.accept
    peers = iter(["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::ffff:192.0.2.7", "192.0.2.7"])

    def from_elsewhere(plain: socket.socket) -> tuple[socket.socket, Any]:
        return accept(plain)[0], (next(peers), 4711, 0, 0)

    monkeypatch.setattr(socket.socket, "accept", from_elsewhere)
    with capture_logs() as logs:
        async with serving(echo, connections_per_address=1) as served, AsyncExitStack() as stack:
            for accepted in (True, False, True, True, False):
                peer = await stack.enter_async_context(connected(served))
                response = await peer.ask(GET) if accepted else await peer.response()
                assert response.status == (200 if accepted else 503)
    requests = [line["client"] for line in logs if line["event"] == "request"]
    assert requests == ["2001:db8::1", "2001:db8:0:1::1", "::ffff:192.0.2.7"]


async def test_a_proxy_on_this_machine_has_only_the_total_limit() -> None:
    async with (
        serving(echo, connections_per_address=1) as served,
        connected(served) as one,
        connected(served) as two,
    ):
        assert (await one.ask(GET)).status == (await two.ask(GET)).status == 200


async def test_a_lack_of_descriptors_pauses_accepting() -> None:
    """And accepting resumes; trio.serve_listeners does the same for this error, and for no other."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(echo) as served:
        plain = trio.socket.socket()
        resource.setrlimit(resource.RLIMIT_NOFILE, (plain.fileno() + 1, hard))
        try:
            await plain.connect(served.address)
            await trio.sleep(0.05)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        async with trio.SocketStream(plain) as stream:
            await stream.send_all(GET)
            with trio.fail_after(PATIENCE):
                assert b"200" in await stream.receive_some()


async def test_a_failed_accept_does_not_end_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """ECONNABORTED, which a peer can cause, ends trio.serve_listeners, and with it Hypercorn 0.18."""
    accept = socket.socket.accept
    failures = [
        ConnectionAbortedError(103, "aborted"),
        OSError(105, "no buffer space"),
        OSError(9999, "what?"),
    ]

    def failing(plain: socket.socket) -> tuple[socket.socket, Any]:
        if failures:
            raise failures.pop()
        return accept(plain)

    monkeypatch.setattr(socket.socket, "accept", failing)
    async with serving(echo) as served, connected(served) as peer:
        assert (await peer.ask(GET)).status == 200
    assert not failures


@pytest.mark.parametrize("name", ["head_bytes", "write_time", "connections", "drain_time"])
def test_a_number_below_its_minimum_is_refused(name: str) -> None:
    nothing: Any = {name: 0}
    with pytest.raises(ValueError, match=name):
        ListenerConfig(**nothing)

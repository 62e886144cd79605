"""The shutdown: each peer gets a close or a response, and none can delay it beyond its bound."""

import json
import os
import socket
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.utils import LifespanFailureError
from trio.testing import MockClock, wait_all_tasks_blocked

from adapters.listener import LifespanEnded, ListenerConfig, serve
from adapters.listener.connection import PeerConnection
from adapters.listener.counts import ListenerCounts
from adapters.listener.ledger import MemoryLedger
from adapters.listener.serving import hypercorn_config
from adapters.listener.shared import SharedParts
from adapters.listener.tcp import TcpListener, TcpStream
from adapters.listener.turns import Turns
from adapters.listener.unsent import UnsentResponses
from adapters.listener.watch import Watch
from tests.listener.harness import (
    CLOSE,
    LONG,
    TEXT,
    UPGRADE,
    RawPeer,
    Receive,
    Send,
    application,
    close_frame,
    connected,
    echo,
    frame,
    respond,
    running,
    serving,
    socket_to,
    wait_until,
    whole_body,
)
from tests.patience import PATIENCE

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


async def test_fifty_of_fifty_sockets_are_closed_with_1012() -> None:
    codes: list[int] = []

    async def listen(peer: RawPeer) -> None:
        codes.append((await peer.frame_of(CLOSE)).close[0])
        await peer.send(close_frame(1012))
        await peer.end()

    async with (
        serving(echo, drain_time=LONG) as served,
        AsyncExitStack() as peers,
        trio.open_nursery() as nursery,
    ):
        for _ in range(50):
            nursery.start_soon(listen, await peers.enter_async_context(socket_to(served)))
        served.shutdown.set()
        with trio.fail_after(PATIENCE):
            await served.ended.wait()
    assert codes == [1012] * 50


async def test_the_application_may_close_its_sockets_itself(clock: MockClock) -> None:
    """It has `drain_socket_time` for that; the listener closes only the others."""
    shutdown = trio.Event()

    async def own(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        if scope["path"] == "/own":
            await shutdown.wait()
            await send({"type": "websocket.close", "code": 4001})
        else:
            await trio.sleep_forever()

    app = application(websocket=own)
    async with (
        serving(app, drain_socket_time=30, drain_time=LONG) as served,
        connected(served) as one,
        connected(served) as two,
    ):
        assert (await one.ask(UPGRADE.replace(b"/ws", b"/own") + b"\r\n")).status == 101
        assert (await two.upgrade()).status == 101
        served.shutdown.set()
        shutdown.set()
        assert (await one.frame()).close[0] == 4001
        await wait_all_tasks_blocked()
        clock.jump(31)
        assert (await two.frame()).close[0] == 1012
        await two.send(close_frame(1012))


async def test_a_request_in_flight_is_answered_and_its_connection_closed() -> None:
    go, begun = trio.Event(), trio.Event()

    async def slow(scope: Any, receive: Receive, send: Send) -> None:
        await whole_body(receive)
        begun.set()
        await go.wait()
        await respond(send)

    async with (
        serving(application(http=slow), linger_time=0.2, drain_time=LONG) as served,
        connected(served) as peer,
        connected(served) as idle,
    ):
        await peer.send(GET)
        await begun.wait()
        served.shutdown.set()
        assert await idle.end() == b""
        assert not served.ended.is_set()
        go.set()
        response = await peer.response()
        assert (response.status, response.headers["connection"]) == (200, "close")
        assert await peer.end() == b""
        with trio.fail_after(PATIENCE):
            await served.ended.wait()


async def test_after_its_start_no_connection_is_accepted() -> None:
    async def slow(scope: Any, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    async with serving(application(http=slow), drain_time=0.3) as served, connected(served) as peer:
        await peer.send(GET)
        await wait_until(lambda: served.counts.requests == 1)
        served.shutdown.set()
        await wait_all_tasks_blocked()
        with pytest.raises(OSError, match="refused"):
            async with connected(served):
                pass


async def test_peers_that_do_not_read_delay_nothing() -> None:
    """Ten sockets whose handlers are stuck in a send: the drain's deadline applies, not the write's."""

    async def flooding(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "bytes": bytes(1_000_000)})

    app = application(websocket=flooding)
    async with serving(app, write_time=LONG, drain_time=0.5) as served, AsyncExitStack() as peers:
        for _ in range(10):
            peer = await peers.enter_async_context(connected(served, receive_buffer=4096))
            await peer.send(UPGRADE + b"\r\n")
        await wait_until(lambda: served.counts.open_sockets == 10)
        served.shutdown.set()
        with trio.fail_after(PATIENCE):
            await served.ended.wait()


async def test_the_callers_cancellation_ends_at_once() -> None:
    """As a second signal does: without a drain, even of shielded writes."""

    async def flooding(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        while True:
            await send({"type": "websocket.send", "bytes": bytes(1_000_000)})

    app = application(websocket=flooding)
    async with (
        serving(app, write_time=LONG, drain_time=LONG) as served,
        connected(served, receive_buffer=4096) as peer,
    ):
        await peer.send(UPGRADE + b"\r\n")
        await wait_until(lambda: served.counts.open_sockets == 1)
        served.shutdown.set()
        await trio.sleep(0.05)
        served.cancel()
        with trio.fail_after(PATIENCE):
            await served.ended.wait()
        await peer.gone()


async def test_startup_comes_before_the_first_connection_and_shutdown_after_the_last() -> None:
    order: list[str] = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            order.append("startup")
            scope["state"]["shared"] = order
            await send({"type": "lifespan.startup.complete"})
            await receive()
            order.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
        else:
            scope["state"]["shared"].append("request")
            await respond(send)

    async with serving(app) as served, connected(served) as peer:
        assert (await peer.ask(GET)).status == 200
    assert order == ["startup", "request", "shutdown"]


async def _serve(app: Any) -> None:
    with trio.fail_after(PATIENCE):
        await serve(app, ListenerConfig(port=0), shutdown=trio.Event())


async def test_an_application_that_cannot_start_is_not_served() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(LifespanFailureError, match="no database"):
        await _serve(app)


async def test_a_port_in_use_is_an_os_error() -> None:
    async with serving(echo) as served:
        with pytest.raises(OSError, match="in use"):
            await serve(echo, ListenerConfig(port=served.address[1]), shutdown=trio.Event())


async def test_a_lifespan_that_crashes_ends_the_server() -> None:
    """Hypercorn 0.18 continues to serve, without the application's background tasks."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise RuntimeError("a background task has crashed")

    with pytest.raises(LifespanEnded):
        await _serve(app)


async def test_an_application_without_a_lifespan_is_served() -> None:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await respond(send)

    async with serving(app) as served, connected(served) as peer:
        assert (await peer.ask(GET)).status == 200


async def test_a_socket_whose_peer_never_closes_ends_in_time() -> None:
    async with serving(echo, drain_time=1.0, linger_time=0.2) as served, socket_to(served) as peer:
        await peer.send(frame(TEXT, b"x"))
        assert (await peer.frame()).payload == b"x"
        served.shutdown.set()
        assert (await peer.frame()).close[0] == 1012
        with trio.fail_after(PATIENCE):
            await served.ended.wait()


async def test_a_new_connection_gets_one_response() -> None:
    """Accepted or in the backlog, before or after its request: it was not refused, so it gets a response."""
    async with serving(echo, drain_time=LONG, drain_socket_time=LONG) as served, AsyncExitStack() as peers:
        early = await peers.enter_async_context(connected(served))
        await wait_until(lambda: served.counts.accepted == 1)
        served.shutdown.set()
        # This does not let the listener run: the connection stays in the backlog.
        plain = trio.socket.from_stdlib_socket(socket.create_connection(served.address))
        late = RawPeer(await peers.enter_async_context(trio.SocketStream(plain)))
        await wait_until(lambda: served.counts.accepted == 2)
        await wait_all_tasks_blocked()
        for peer in (early, late):
            response = await peer.ask(GET)
            assert (response.status, response.headers["connection"]) == (200, "close")
            assert await peer.end() == b""


async def test_all_connections_in_the_backlog_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux a full queue holds one more than the backlog."""

    async def wait(_: TcpListener) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(TcpListener, "wait", wait)
    async with serving(echo, backlog=2, drain_time=LONG, drain_socket_time=LONG) as served:
        waiting = [socket.create_connection(served.address) for _ in range(3)]
        served.shutdown.set()
        for plain in waiting:
            async with trio.SocketStream(trio.socket.from_stdlib_socket(plain)) as stream:
                assert (await RawPeer(stream).ask(GET)).status == 200


async def test_the_shutdown_may_precede_a_readers_start(nursery: trio.Nursery) -> None:
    """Tasks start in any order: the connection accepted last gets a response too."""
    config = ListenerConfig()
    plain, other = socket.socketpair()
    plain.setblocking(False)
    theirs = trio.SocketStream(trio.socket.from_stdlib_socket(other))
    with Watch() as watch:
        scope = await nursery.start(running, watch)
        shared = SharedParts(
            app=ASGIWrapper(application()),
            whole_requests=None,
            state={},
            config=config,
            hypercorn=hypercorn_config(config),
            counts=ListenerCounts(),
            nursery=nursery,
            watch=watch,
            turns=Turns(),
            unread=MemoryLedger(1000, 1000, (), lambda holder: holder.shed()),
            unsent=UnsentResponses(1000, 1000, (), lambda holder: holder.shed(), wait_time=1.0),
        )
        connection = PeerConnection(TcpStream(plain), shared)
        assert connection.fresh
        connection.drain()
        async with theirs, trio.open_nursery() as serving_it:
            serving_it.start_soon(connection.serve, lambda: None)
            response = await RawPeer(theirs).ask(GET)
            assert (response.status, response.headers["connection"]) == (200, "close")
            await theirs.aclose()
        scope.cancel()
        await wait_all_tasks_blocked()


async def test_a_silent_new_connection_delays_the_end_by_the_sockets_time() -> None:
    """It has `drain_socket_time`."""
    async with serving(echo, drain_time=LONG, drain_socket_time=0.1) as served, connected(served) as peer:
        await wait_until(lambda: served.counts.accepted == 1)
        served.shutdown.set()
        assert await peer.end() == b""
        with trio.fail_after(PATIENCE):
            await served.ended.wait()


@pytest.mark.parametrize("before", [b"", GET], ids=["the first", "a later one"])
async def test_an_incomplete_head_gets_a_503_at_shutdown(before: bytes) -> None:
    """So that its client can send the request elsewhere."""
    async with serving(echo, drain_time=LONG, drain_socket_time=0.1) as served, connected(served) as peer:
        if before:
            assert (await peer.ask(before)).status == 200
        await peer.send(b"POST / HTTP/1.1\r\nHost: te")
        await wait_all_tasks_blocked()
        served.shutdown.set()
        response = await peer.response()
        assert (response.status, response.headers["connection"]) == (503, "close")
        assert json.loads(response.body)["code"] == "draining"
        assert int(response.headers["retry-after"]) > 0
        await peer.send(b"st\r\nContent-Length: 1\r\n\r\nx")
        assert await peer.end() == b""


async def test_a_part_of_a_blank_line_is_no_request_at_shutdown() -> None:
    async with serving(echo, drain_time=LONG) as served, connected(served) as peer:
        assert (await peer.ask(GET)).status == 200
        await peer.send(b"\r")
        await wait_all_tasks_blocked()
        served.shutdown.set()
        assert await peer.end() == b""


async def test_it_serves_on_an_inherited_socket() -> None:
    """Its creator keeps it open: connections after the listener's end wait there."""
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        address = inherited.getsockname()
        for _ in range(2):
            async with serving(echo, inherited=(os.dup(inherited.fileno()),)) as served:
                assert served.address == address
                async with connected(served) as peer:
                    assert (await peer.ask(GET)).status == 200
        with socket.create_connection(address) as waiting:
            waiting.sendall(GET)
            async with serving(echo, inherited=(os.dup(inherited.fileno()),)) as served:
                await wait_until(lambda: served.counts.requests == 1)

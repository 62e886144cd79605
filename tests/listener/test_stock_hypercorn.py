"""What we replace, and why: each fault is there in the Hypercorn (or quart-trio) that is installed.

A test that fails says which part of ours an upgrade has made needless.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from typing import Any

import pytest
import trio
from attrs import define
from hypercorn.config import Config
from hypercorn.logging import AccessLogAtoms
from hypercorn.trio import serve
from quart import ResponseReturnValue, websocket
from quart_trio import QuartTrio
from trio.testing import MockClock

from adapters.listener import ListenerCounts
from tests.listener.harness import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    ConnectionEnded,
    Frame,
    RawPeer,
    Receive,
    RunningListener,
    Send,
    application,
    close_frame,
    connected,
    echo,
    frame,
    socket_to,
    wait_until,
)

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
SOON = 0.4
"""Seconds within which a frame or an end would arrive."""


def needless(override: str, package: str = "hypercorn") -> str:
    return f"{package} {version(package)} no longer needs our {override}: delete it"


@define
class StockHypercorn:
    """Hypercorn without our listener."""

    served: RunningListener
    died: bool = False


@asynccontextmanager
async def stock(app: Any, **numbers: Any) -> AsyncIterator[StockHypercorn]:
    """Hypercorn's own serve on a free port; `died` is set when an attack has ended it."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.graceful_timeout = 0.1
    for name, value in numbers.items():
        setattr(config, name, value)
    scope = trio.CancelScope()

    async def run(task_status: trio.TaskStatus[list[str]]) -> None:
        try:
            with scope:
                await serve(app, config, shutdown_trigger=trio.sleep_forever, task_status=task_status)
        except BaseException as error:  # noqa: BLE001 - what an attack brings about, and that is the point
            found.died = not isinstance(error, trio.Cancelled)

    async with trio.open_nursery() as nursery:
        (address,) = await nursery.start(run)
        port = int(address.rpartition(":")[2])
        served = RunningListener(
            ("127.0.0.1", port), ListenerCounts(), trio.Event(), scope.cancel, trio.Event()
        )
        found = StockHypercorn(served)
        yield found
        scope.cancel()


async def frames_of(peer: RawPeer) -> list[Frame]:
    """The frames that come soon, until the end."""
    found = []
    with trio.move_on_after(SOON), suppress(ConnectionEnded):
        while True:
            found.append(await peer.frame())
    return found


async def ends(peer: RawPeer) -> bool:
    """Whether the server ends the connection soon."""
    with trio.move_on_after(SOON):
        try:
            while True:
                await peer.more()
        except ConnectionEnded:
            return True
    return False


def quart_application() -> QuartTrio:
    app = QuartTrio(__name__)

    @app.get("/")
    async def root() -> ResponseReturnValue:
        return "ok"

    @app.post("/early")
    async def early() -> ResponseReturnValue:
        return "no", 401

    @app.websocket("/ws")
    async def ws() -> None:
        while True:
            await websocket.send(f"{await websocket.receive()!r}")

    return app


async def test_the_boundary_and_the_handshake() -> None:
    """Undecodable bytes in a handshake end the whole server."""
    async with stock(echo) as found, connected(found.served) as peer:
        await peer.send(UPGRADE + b"Sec-WebSocket-Protocol: \xff\r\n\r\n")
        with suppress(trio.TooSlowError):
            await wait_until(lambda: found.died)
        assert found.died, needless("boundary in serving.py, plain_handshake")


async def test_http1_speaks_no_http2() -> None:
    async with stock(echo) as found, connected(found.served) as peer:
        await peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        settings = await peer.exactly(9)
        assert settings[3] == 4, needless("Http1 (no cleartext HTTP/2)")


async def test_the_socket_holds_early_frames_back() -> None:
    async def slow(scope: Any, receive: Receive, send: Send) -> None:
        await trio.sleep(SOON / 2)
        await echo(scope, receive, send)

    async with stock(application(websocket=slow)) as found, connected(found.served) as peer:
        await peer.send(UPGRADE + b"\r\n" + frame(TEXT, b"early"))
        answered = []
        with trio.move_on_after(SOON), suppress(ConnectionEnded):
            answered = [(await peer.response()).status]
        assert answered != [101], needless("WebSocket.receive (bytes before the 101)")


async def test_the_exchange_closes_what_quart_trio_cancels() -> None:
    left_open = []
    async with stock(quart_application()) as found:
        for _ in range(5):
            async with connected(found.served) as peer:
                await peer.send(GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
                left_open.append(not await ends(peer))
    assert any(left_open), needless("AsgiExchange.send, PeerConnection._responded")


async def test_connections_idle_timer(clock: MockClock) -> None:
    """Stock keep-alive connections never time out after their first request."""
    async with stock(quart_application(), keep_alive_timeout=30) as found, connected(found.served) as peer:
        assert (await peer.ask(GET)).status == 200
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(60)
        assert not await ends(peer), needless("PeerConnection (deadlines of its reader)")


async def test_connections_write_deadline() -> None:
    """A send to a peer that does not read cannot be cancelled."""
    over = trio.Event()

    async def flooding(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        with trio.move_on_after(0.1):
            while True:
                await send({"type": "websocket.send", "bytes": bytes(1_000_000)})
                await trio.lowlevel.checkpoint()  # which send itself makes none of, once the peer has left
        over.set()

    async with (
        stock(application(websocket=flooding)) as found,
        connected(found.served, receive_buffer=4096) as peer,
    ):
        await peer.send(UPGRADE + b"\r\n")
        with trio.move_on_after(SOON):
            await over.wait()
        assert not over.is_set(), needless("PeerWriter._write")


@pytest.mark.parametrize(
    ("sent", "code"),
    [(frame(3), 1002), (frame(TEXT, b"\xff"), 1007)],
    ids=["a reserved opcode", "text that is not UTF-8"],
)
async def test_the_socket_fails_with_a_code(sent: bytes, code: int) -> None:
    async with stock(echo) as found, socket_to(found.served) as peer:
        await peer.send(sent)
        codes = [one.close[0] for one in await frames_of(peer) if one.opcode == CLOSE]
        assert codes != [code], needless("WebSocket._peer_closes")


async def test_message_buffer_counts_bytes() -> None:
    async with stock(echo, websocket_max_message_size=100) as found, socket_to(found.served) as peer:
        await peer.send(frame(TEXT, "é".encode() * 100))
        assert (await peer.frame()).opcode == TEXT, needless("MessageBuffer")


async def test_no_extension_is_accepted() -> None:
    async with stock(echo) as found, connected(found.served) as peer:
        response = await peer.upgrade(headers=b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
        assert "sec-websocket-extensions" in response.headers, needless("plain_handshake (extensions)")


async def test_the_socket_checks_its_pings() -> None:
    app = application()
    async with stock(app, websocket_ping_interval=0.05) as found, socket_to(found.served) as peer:
        assert not await ends(peer), needless("WebSocket.expire (pings)")


async def test_the_socket_keeps_a_close_that_meets_data() -> None:
    """Closed at once after its close frame, a connection whose peer sends is reset."""

    async def refusing(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1008})

    async with stock(application(websocket=refusing)) as found, socket_to(found.served) as peer:
        assert (await peer.frame()).close[0] == 1008
        with pytest.raises(ConnectionEnded), trio.fail_after(10 * SOON):
            await peer.more()  # it has not waited for our response


async def test_sends_that_never_yield() -> None:
    """A tight loop of sends to a disconnected peer freezes the server: no deadline can end it."""
    turns = 0

    async def flooding(scope: Any, receive: Receive, send: Send) -> None:
        nonlocal turns
        await send({"type": "websocket.accept"})
        await receive()
        while (await receive())["type"] != "websocket.disconnect":
            pass
        with trio.move_on_after(0.05):
            while turns < 100_000:
                await send({"type": "websocket.send", "text": "x"})
                turns += 1

    async with stock(application(websocket=flooding)) as found:
        async with socket_to(found.served) as peer:
            await peer.send(close_frame(1000))
        with suppress(trio.TooSlowError):
            await wait_until(lambda: turns >= 100_000)
        assert turns == 100_000, needless("AsgiSocket.send (checkpoints)")


async def test_app_tasks_inbox() -> None:
    """A reader that waits for the application misses pings."""

    async def deaf(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await trio.sleep_forever()

    async with stock(application(websocket=deaf)) as found, socket_to(found.served) as peer:
        await peer.send(*[frame(TEXT, b"x")] * 20, frame(PING))
        assert PONG not in [one.opcode for one in await frames_of(peer)], needless("AppTasks, Inbox")


async def test_watched_lifespan() -> None:
    """Stock Hypercorn continues to serve an application whose lifespan has crashed."""

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return await echo(scope, receive, send)
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise RuntimeError("a background task has crashed")

    async with stock(app) as found, connected(found.served) as peer:
        assert (await peer.ask(GET)).status == 200, needless("WatchedLifespan")


async def test_structlog_logger_keeps_the_referer_out() -> None:
    assert "%(f)s" in Config.access_log_format, needless("StructlogLogger")
    scope: Any = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "query_string": b"",
        "headers": [(b"referer", b"https://app.example/?token=secret")],
    }
    assert "secret" in AccessLogAtoms(scope, None, 0.0)["f"], needless("StructlogLogger")


async def test_empty_bytes() -> None:
    """quart-trio gives an application None for an empty binary message."""
    async with stock(quart_application()) as found, socket_to(found.served) as peer:
        await peer.send(frame(BINARY))
        assert (await peer.frame()).payload == b"None", needless("EmptyBytes", "quart-trio")


async def test_trio_ends_at_an_accept_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(_: trio.SocketListener) -> trio.SocketStream:
        raise ConnectionAbortedError(103, "aborted")

    async with stock(echo) as found:
        monkeypatch.setattr(trio.SocketListener, "accept", failing)
        with suppress(trio.TooSlowError, OSError, ConnectionEnded):
            async with connected(found.served) as peer, connected(found.served):
                with trio.fail_after(SOON):
                    await peer.ask(GET)
        with suppress(trio.TooSlowError):
            await wait_until(lambda: found.died)
        assert found.died, needless("_Listener._accept", "trio")

"""No input of a peer ends more than its own connection."""

from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from adapters.listener import heads
from tests.listener.harness import (
    TEXT,
    UPGRADE,
    ConnectionEnded,
    Receive,
    Send,
    application,
    connected,
    echo,
    frame,
    serving,
    socket_to,
    wait_until,
)

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.mark.parametrize(
    ("field", "status"),
    [
        pytest.param(b"Sec-WebSocket-Protocol: \xff\xfe", 400, id="protocol"),
        pytest.param(b"Sec-WebSocket-Extensions: \xff\xfe", 101, id="extensions"),
        pytest.param(b"Connection: \xff", 400, id="connection"),
        pytest.param(b"X-Other: \xff", 101, id="other"),
    ],
)
async def test_handshake_headers_that_do_not_decode_end_nothing_else(field: bytes, status: int) -> None:
    """Bytes that are not ASCII get a 400 in fields of the handshake, and are passed on in others."""
    async with serving(echo) as served, socket_to(served) as other, connected(served) as peer:
        assert (await peer.upgrade(headers=field + b"\r\n")).status == status
        await other.send(frame(TEXT, b"still here"))
        assert (await other.frame()).payload == b"still here"


async def test_frames_before_the_101_are_held_back_and_delivered_after_it() -> None:
    """Data between the upgrade request and the 101 waits for the accept."""
    accept = trio.Event()

    async def slow(scope: Any, receive: Receive, send: Send) -> None:
        await accept.wait()
        await echo(scope, receive, send)

    async with serving(application(websocket=slow)) as served, connected(served) as peer:
        await peer.send(UPGRADE + b"\r\n" + frame(TEXT, b"one"), frame(TEXT, b"two"))
        await wait_all_tasks_blocked()
        accept.set()
        assert (await peer.response()).status == 101
        assert [(await peer.frame()).payload, (await peer.frame()).payload] == [b"one", b"two"]


@pytest.mark.parametrize(
    "preface",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x01\x04\x00\x00\x00\x00\x01\xff",
        b"PRI * HTTP/2.0\r\n\r\n" + b"\xff" * 100,
    ],
)
async def test_http2_with_prior_knowledge_is_refused(preface: bytes) -> None:
    async with serving(echo) as served, connected(served) as peer:
        assert (await peer.ask(preface)).status == 505
        assert await peer.end() == b""


async def test_h2c_upgrade_is_ignored() -> None:
    """RFC 9110, 7.8: a server may ignore an Upgrade, and continue in HTTP/1.1."""
    upgrade = b"GET /a HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    async with serving(echo) as served, connected(served) as peer:
        assert (await peer.ask(upgrade + b"HTTP2-Settings: \xff\xff\r\n\r\n")).body == b"GET /a? "
        assert (await peer.ask(GET)).status == 200


async def test_a_fault_of_the_listener_is_logged_counted_and_ends_one_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An exception in the listener's own code, which is a bug, ends that connection only."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    async with serving(echo, faults=1) as served, socket_to(served) as other:
        with monkeypatch.context() as patched, capture_logs() as logs:
            patched.setattr(heads, "take_head", broken)
            async with connected(served) as peer:
                await peer.send(b"GET /?token=secret HTTP/1.1\r\nAuthorization: secret\r\n\r\n")
                with pytest.raises(ConnectionEnded):
                    await peer.response()
            await wait_until(lambda: served.counts.faults == 1)
        (line,) = [line for line in logs if line["event"] == "connection_failed"]
        assert line["client"] == "127.0.0.1"
        assert "secret" not in str(line)
        await other.send(frame(TEXT, b"still here"))
        assert (await other.frame()).payload == b"still here"


async def test_an_exception_of_the_application_is_answered_500() -> None:
    async def failing(scope: Any, receive: Receive, send: Send) -> None:
        raise RuntimeError("a bug")

    async with serving(application(http=failing)) as served, connected(served) as peer:
        response = await peer.ask(GET)
        assert response.status == 500
        assert response.headers["content-type"] == "application/problem+json"
        assert await peer.end() == b""
        assert served.counts.application_errors == 1


async def test_an_incomplete_response_ends_in_a_reset() -> None:
    """In HTTP/1.0 an orderly end of the connection would mark the end of the body."""

    async def failing(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("a bug")

    async with serving(application(http=failing)) as served, connected(served) as peer:
        await peer.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await peer.gone()).reset

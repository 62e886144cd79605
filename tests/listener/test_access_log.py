"""One line per request, and no secret in any line."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.listener.harness import (
    TEXT,
    UPGRADE,
    Receive,
    Send,
    application,
    close_frame,
    connected,
    echo,
    frame,
    respond,
    serving,
    wait_until,
)

SECRETS = (
    b"Referer: https://app.example/?token=secret\r\nAuthorization: Bearer secret\r\n"
    b"Cookie: session=secret\r\nSec-WebSocket-Protocol: bearer, secret\r\n"
)


async def answering(scope: Any, receive: Receive, send: Send) -> None:
    await respond(send, 201, b"12345", (b"x-request-id", b"r-1"))


async def test_a_request_is_one_line_without_query_and_headers() -> None:
    with capture_logs() as logs:
        async with serving(application(http=answering)) as served, connected(served) as peer:
            await peer.ask(b"GET /a%20b?token=secret HTTP/1.1\r\nHost: test\r\n" + SECRETS + b"\r\n")
    (line,) = [line for line in logs if line["event"] == "request"]
    assert isinstance(line.pop("ms"), float)
    assert line == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "path": "/a%20b",
        "status": 201,
        "bytes": 5,
        "client": "127.0.0.1",
        "request_id": "r-1",
    }
    assert "secret" not in str(logs)


async def test_a_handshake_and_its_end_are_a_line_each() -> None:
    with capture_logs() as logs:
        async with serving(echo) as served, connected(served) as peer:
            await peer.send(UPGRADE.replace(b"/ws", b"/ws?token=secret") + SECRETS + b"\r\n")
            assert (await peer.response()).status == 101
            await peer.send(frame(TEXT, b"secret"))
            await peer.frame()
    events = [(line["event"], line.get("path"), line.get("status") or line.get("code")) for line in logs]
    assert ("request", "/ws", 101) in events
    assert ("socket_closed", "/ws", 1006) in events
    assert "secret" not in str(logs)


async def closing(scope: Any, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    if (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.close", "code": 4001, "reason": "session_revoked"})


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (frame(TEXT, b"x"), 4001, "session_revoked"),
        (close_frame(4002, "secret"), 4002, None),
    ],
    ids=["the server's", "the peer's"],
)
async def test_a_sockets_end_logs_only_the_servers_reason(sent: bytes, code: int, reason: str | None) -> None:
    """A peer may choose any text as its reason."""
    with capture_logs() as logs:
        async with serving(application(websocket=closing)) as served, connected(served) as peer:
            await peer.send(UPGRADE + b"\r\n")
            assert (await peer.response()).status == 101
            await peer.send(sent)
            await wait_until(lambda: any(line["event"] == "socket_closed" for line in logs))
    (line,) = [line for line in logs if line["event"] == "socket_closed"]
    assert (line["code"], line["reason"]) == (code, reason)
    assert "secret" not in str(logs)


async def test_a_refused_request_is_a_line_without_what_was_sent() -> None:
    """h11's message quotes the line that it refuses, which may hold a token."""
    with capture_logs() as logs:
        async with serving(echo) as served, connected(served) as peer:
            response = await peer.ask(
                b"GET /?token=secret HTTP/1.1\r\nHost: test\r\nAuthor ization: secret\r\n\r\n"
            )
            assert response.status == 400
            assert b"secret" not in response.body
    (line,) = [line for line in logs if line["event"] == "request_refused"]
    assert (line["status"], line["client"]) == (400, "127.0.0.1")
    assert "secret" not in str(logs)


async def test_a_failing_application_is_logged_without_its_query() -> None:
    async def failing(scope: Any, receive: Receive, send: Send) -> None:
        raise RuntimeError("a bug")

    with capture_logs() as logs:
        async with serving(application(http=failing)) as served, connected(served) as peer:
            await peer.ask(b"GET /a?token=secret HTTP/1.1\r\nHost: test\r\n" + SECRETS + b"\r\n")
            await wait_until(lambda: any(line["event"] == "request" for line in logs))
    by_event = {line["event"]: line for line in logs}
    assert by_event["application_failed"]["path"] == "/a"
    assert by_event["request"]["status"] == 500
    assert "secret" not in str(logs)

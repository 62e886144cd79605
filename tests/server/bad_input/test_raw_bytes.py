"""Malformed bytes on the connection."""

import httpx
import pytest
import trio

from tests.patience import PATIENCE
from tests.server.calls import Scene
from tests.server.clients import expect
from tests.server.servers import ServerHere

HANDSHAKE = (
    b"GET /ws?token=x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
LOGIN = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
HOSTILE = {
    "nothing": b"",
    "line noise": b"\x00\xff\x16\x03\x01\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303"),
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 64,
    "HTTP/2 upgrade": UPGRADE + b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "a length below zero": LOGIN + b"Content-Length: -1\r\n\r\n",
    "two lengths": LOGIN + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "length and chunks": LOGIN + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bad chunks": LOGIN + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}",
    "a body that stops": LOGIN + b"Content-Length: 100\r\n\r\n{",
    "endless headers": b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 20_000,
    "an endless line": b"GET /" + b"a" * 200_000,
    "an endless query": b"GET /health?" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in a header": b"GET /health HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n",
    "bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "an absolute address": b"GET http://x/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bad absolute address": b"GET http://[x/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "a bad host": b"GET /api/v1/chats HTTP/1.1\r\nHost: \xff[::\r\n\r\n",
    "an asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"FROB /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "handshake with bytes in a header": HANDSHAKE + b"X-A: \xff\xfe\r\n\r\n",
    "handshake with bytes in the origin": HANDSHAKE + b"Origin: \xff\xfe\r\n\r\n",
    "handshake with bytes in the subprotocol": HANDSHAKE + b"Sec-WebSocket-Protocol: \xff\r\n\r\n",
    "handshake with bytes in the query": HANDSHAKE.replace(b"token=x", b"token=\xff") + b"\r\n",
    "handshake, then data at once": HANDSHAKE + b"\r\n" + b"\x81\x85\x00\x00\x00\x00hello" * 100,
    "handshake, then noise": HANDSHAKE + b"\r\n" + b"\xff" * 1000,
    "handshake elsewhere": HANDSHAKE.replace(b"/ws?", b"/api/v1/chats?") + b"\r\n",
    "handshake nowhere": HANDSHAKE.replace(b"/ws?", b"/nothing?") + b"\r\n",
    "handshake of another version": HANDSHAKE.replace(b"13", b"8") + b"\r\n",
    "handshake without a key": HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X-Key") + b"\r\n",
    "handshake by POST": HANDSHAKE.replace(b"GET", b"POST") + b"\r\n",
    "no handshake": b"GET /ws?token=x HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_the_server_survives(server: ServerHere, scene: Scene, name: str) -> None:
    """Malformed bytes end at most their own connection, with an error that says whose fault it is."""
    url = httpx.URL(server.address)
    for leaves_at_once in (False, True):
        stream = await trio.open_tcp_stream(url.host, url.port or 80)
        async with stream:
            response = b""
            with trio.move_on_after(PATIENCE):
                try:
                    await stream.send_all(HOSTILE[name])
                    if not leaves_at_once:
                        await stream.send_eof()
                        response = b"".join([piece async for piece in stream])
                except trio.BrokenResourceError:
                    pass  # the server has closed the connection
        assert response[9:12] not in {b"500", b"503"}, response[:500]
    expect(await scene.alice.ask("GET", "/users/me"), 200)
    async with scene.alice.socket() as socket:
        sent = await scene.bob.send(scene.chat)
        assert (await socket.message())["id"] == sent["id"]


@pytest.mark.parametrize("path", [b"/nothing?", b"/ws/?", b"//ws?", b"/%ff?"])
async def test_a_handshake_at_another_path_is_not_found(server: ServerHere, path: bytes) -> None:
    """A handshake at an unknown path is a 404 and logs no failure."""
    url = httpx.URL(server.address)
    async with await trio.open_tcp_stream(url.host, url.port or 80) as stream:
        with trio.fail_after(PATIENCE):
            await stream.send_all(HANDSHAKE.replace(b"/ws?", path) + b"\r\n")
            response = b"".join([piece async for piece in stream])
    assert response[9:12] == b"404", response
    assert b'"code":"not_found"' in response

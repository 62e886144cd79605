"""Unambiguous handshakes bypass h11, and get the same responses."""

import re
from contextlib import suppress
from typing import Any

import h11
import pytest
import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.listener.harness import (
    KEY,
    ConnectionEnded,
    Receive,
    RunningListener,
    Send,
    application,
    connected,
    respond,
    serving,
    whole_body,
)


async def http(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    with suppress(ConnectionEnded):
        body = await whole_body(receive)
        await respond(send, 200, describe(scope).encode() + body)


async def websocket(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Does what the path says, and responds with the scope if possible."""
    await receive()
    match scope["path"]:
        case "/close":
            await send({"type": "websocket.close"})
        case "/raise":
            raise RuntimeError("as the path asks")
        case "/end":
            pass
        case "/response":
            fields = [(b"content-type", b"text/plain"), (b"x-y", b"z")]
            await send({"type": "websocket.http.response.start", "status": 418, "headers": fields})
            await send({"type": "websocket.http.response.body", "body": describe(scope).encode()})
        case _:
            chosen = scope["subprotocols"][-1] if scope["subprotocols"] else None
            await send({"type": "websocket.accept", "subprotocol": chosen, "headers": [(b"x-y", b"z")]})
            await send({"type": "websocket.send", "bytes": None, "text": describe(scope)})
            while (await receive())["type"] != "websocket.disconnect":
                pass


def describe(scope: dict[str, Any]) -> str:
    """The scope without ports, which differ between connections."""
    known = {key: value for key, value in scope.items() if key not in {"client", "server", "extensions"}}
    return repr(sorted(known.items()))


# --- the handshakes -----------------------------------------------------------------------------------------

PLAIN: tuple[tuple[str, str], ...] = (
    ("Host", "test"),
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY.decode()),
)
NAMES = st.sampled_from(
    [
        *(name for name, _ in PLAIN),
        "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions",
        "Origin",
        "Content-Length",
        "Transfer-Encoding",
        "Expect",
        "sec-websocket-key",
        "UPGRADE",
        "Cookie",
        "X Y",
        "",
    ]
)
VALUES = st.sampled_from(
    [
        *(value for _, value in PLAIN),
        "keep-alive, Upgrade",
        "upgrade,close",
        "keep-alive",
        "h2c, WebSocket",
        "h2c",
        "12",
        "13, 13",
        "bearer, a.b-c",
        "a,,b",
        "permessage-deflate; client_max_window_bits",
        "https://app.test",
        "AAAA",
        "AAAAAAAAAAAAAAAAAAAAA",
        "chunked",
        "100-continue",
        "0",
        "3",
        "",
        " x\ty ",
        "\xe4",
    ]
) | st.text("aA0 \t,:;/@%=\xff", max_size=6)
PATHS = ["/close", "/raise", "/end", "/response", "//a", "/%61", "*", "http://a/b"]
FIELDS = st.tuples(NAMES, VALUES)


@st.composite
def handshakes(draw: st.DrawFn) -> bytes:
    """A handshake with some changes, or none: fields left out, changed, added and mixed."""
    fields = []
    for name, value in PLAIN:
        match draw(st.sampled_from([*["as it is"] * 20, "left out", "changed"])):
            case "as it is":
                fields.append((name, value))
            case "changed":
                fields.append((name, draw(VALUES)))
    fields += draw(st.just([]) | st.lists(FIELDS, max_size=3))
    if draw(st.booleans()):
        fields = draw(st.permutations(fields))
    method = draw(st.sampled_from(["GET"] * 12 + ["POST", "get", "HEAD"]))
    path = draw(st.sampled_from(["/"] * 5 + PATHS))
    query = draw(st.sampled_from(["", "", "", "?", "?a=b&c=%20", "?token=a.b-c_d", "?a b", "?a#b", "?[]"]))
    version = draw(st.sampled_from(["1.1"] * 12 + ["1.0", "2.0"]))
    lines = [
        f"{method} {path}{query} HTTP/{version}",
        *(f"{name}: {value}" for name, value in fields),
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1")


CLOSING = b"\x88\x82\0\0\0\0\x03\xe8"
"""Ends a connection: as a WebSocket's close frame, and, read as HTTP, as a request."""


async def came(served: RunningListener, asked: bytes) -> bytes:
    """All bytes until the end, without the date."""
    async with connected(served) as peer:
        await peer.send(asked + CLOSING * 3)  # the first may be read as a body
        return re.sub(rb"\r\ndate: [^\r]+", b"\r\ndate", await peer.end())


@settings(max_examples=40, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(st.lists(handshakes(), min_size=10, max_size=20))
def test_both_ways_send_the_same_bytes(asked: list[bytes]) -> None:
    """The application receives the same scope, with which it responds."""

    async def main() -> None:
        app = application(http, websocket)
        async with serving(app) as quick, serving(app, quick_path=False) as long:
            for each in asked:
                assert await came(quick, each) == await came(long, each), each

    trio.run(main)


@pytest.mark.parametrize(
    ("fields", "quick"),
    [
        (PLAIN, True),
        ((*PLAIN, ("Sec-WebSocket-Protocol", "bearer, a.b.c"), ("Origin", "https://app.test")), True),
        ((*PLAIN, ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")), True),
        ((*PLAIN, ("Cookie", "a=\xe4")), True),
        ((*PLAIN[:1], ("connection", "keep-alive, upgrade"), *PLAIN[2:]), True),
        ((*PLAIN, ("X", "y"), ("x", "z")), False),
        ((*PLAIN, ("Content-Length", "0")), False),
        (PLAIN[:-1], False),
        ((*PLAIN[:-1], (PLAIN[-1][0], "AAAA")), False),
        ((*PLAIN[:2], ("Upgrade", "h2c"), *PLAIN[3:]), False),
    ],
)
async def test_only_unambiguous_handshakes_bypass_h11(
    fields: tuple[tuple[str, str], ...], quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """h11 parses all others, above all refused ones, so their responses stay the same."""
    read: list[bytes] = []
    receive = h11.Connection.receive_data

    def noting(connection: h11.Connection, data: bytes) -> None:
        read.append(data)
        receive(connection, data)

    monkeypatch.setattr(h11.Connection, "receive_data", noting)
    lines = ["GET /ws HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    asked = "\r\n".join(lines).encode("latin-1")
    async with serving(application(http, websocket)) as served:
        answered = await came(served, asked)
    assert answered.startswith(b"HTTP/1.1 101") or not quick
    assert read[:1] == ([] if quick else [asked])


async def test_h11_writes_a_response_in_place_of_the_accept() -> None:
    """h11 parses the handshake then, because the request determines the framing of its response."""
    asked = "".join(f"{name}: {value}\r\n" for name, value in PLAIN)
    async with serving(application(http, websocket)) as served:
        answered = await came(served, f"GET /response HTTP/1.1\r\n{asked}\r\n".encode())
    assert answered.startswith(b"HTTP/1.1 418 \r\ncontent-type: text/plain\r\nx-y: z\r\n")
    assert b"connection: close\r\n" in answered
    assert b"Transfer-Encoding: chunked\r\n" in answered  # a response to HTTP/1.1, which h11 must have seen
    assert b"('type', 'websocket')" in answered

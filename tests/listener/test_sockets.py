"""WebSockets: messages arrive, are bounded, and each end has its code."""

import resource
import struct
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.listener.harness import (
    BINARY,
    CLOSE,
    LONG,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    ConnectionEnded,
    Receive,
    Send,
    application,
    close_frame,
    connected,
    echo,
    frame,
    lifespan,
    serving,
    socket_to,
    wait_until,
)
from tests.patience import PATIENCE

LIMIT = 65_536


class RecordingApplication:
    """Accepts, and records each event that the application receives."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        while not self.ends:
            self.events.append(await receive())

    @property
    def ends(self) -> list[int]:
        return [event["code"] for event in self.events if event["type"] == "websocket.disconnect"]


# --- the handshake ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("offered", [b"permessage-deflate", b"permessage-deflate; client_max_window_bits, x"])
async def test_no_extension_is_ever_accepted(offered: bytes) -> None:
    """permessage-deflate costs 92 KB a connection, and a bomb of 58 KB peaked at 220 MB."""
    async with serving(echo) as served, connected(served) as peer:
        response = await peer.upgrade(headers=b"Sec-WebSocket-Extensions: " + offered + b"\r\n")
        assert response.status == 101
        assert "sec-websocket-extensions" not in response.headers
        await peer.send(frame(TEXT, b"compressed?", rsv=0b100))
        assert (await peer.frame()).close[0] == 1002


async def test_another_version_gets_a_426_with_the_supported_one() -> None:
    async with serving(echo) as served, connected(served) as peer:
        response = await peer.ask(UPGRADE.replace(b"Version: 13", b"Version: 8") + b"\r\n")
        assert (response.status, response.headers["sec-websocket-version"]) == (426, "13")


@pytest.mark.parametrize("key", [b"", b"short", b"A" * 24, b"\xff" * 24, b"AAAAAAAAAAAAAAAAAAAAAA=="[:-1]])
async def test_an_invalid_key_is_a_bad_request(key: bytes) -> None:
    head, _, _ = UPGRADE.partition(b"Sec-WebSocket-Key")
    async with serving(echo) as served, connected(served) as peer:
        assert (await peer.ask(head + b"Sec-WebSocket-Key: " + key + b"\r\n\r\n")).status == 400


async def test_header_lines_of_a_handshake_are_joined() -> None:
    """RFC 9110, 5.3. Hypercorn 0.18 reads only the last line of each."""
    seen: list[Any] = []

    async def noting(scope: Any, receive: Receive, send: Send) -> None:
        seen.extend(scope["subprotocols"])
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][0]})

    protocols = b"Sec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol: c\r\n"
    several = b"Connection: keep-alive\r\nUpgrade: h2c\r\n" + protocols
    async with serving(application(websocket=noting)) as served, connected(served) as peer:
        response = await peer.upgrade(headers=several)
        assert (response.status, response.headers["sec-websocket-protocol"]) == (101, "a")
        assert seen == ["a", "b", "c"]


async def test_header_fields_of_an_accept_are_sent() -> None:
    async def accepting(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", "headers": [(b"x-extra", b"yes"), (b"set-cookie", b"a=b")]})

    async with serving(application(websocket=accepting)) as served, connected(served) as peer:
        headers = (await peer.upgrade()).headers
        assert (headers["x-extra"], headers["set-cookie"]) == ("yes", "a=b")


@pytest.mark.parametrize(
    "accept",
    [{"subprotocol": "b"}, {"headers": [(b"x", b"y\r\nset-cookie: a=b")]}, {"headers": [(b"x\ny", b"z")]}],
)
async def test_an_accept_that_cannot_be_sent_is_a_500(accept: dict[str, Any]) -> None:
    """A subprotocol that was not offered, or a line break in a header field."""

    async def accepting(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept", **accept})

    async with serving(application(websocket=accepting)) as served, connected(served) as peer:
        response = await peer.upgrade(headers=b"Sec-WebSocket-Protocol: a\r\n")
        assert (response.status, "set-cookie" in response.headers) == (500, False)
        assert await peer.end() == b""


async def test_a_close_before_the_accept_is_a_403() -> None:
    heard: list[Any] = []

    async def refusing(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        heard.append(await receive())

    async with serving(application(websocket=refusing)) as served, connected(served) as peer:
        assert (await peer.upgrade()).status == 403
        assert await peer.end() == b""
        await wait_until(lambda: heard == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}])


async def test_a_response_in_place_of_an_accept_is_sent() -> None:
    """ASGI's extension websocket.http.response."""

    async def answering(scope: Any, receive: Receive, send: Send) -> None:
        assert "websocket.http.response" in scope["extensions"]
        headers = [(b"content-length", b"2")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async with serving(application(websocket=answering)) as served, connected(served) as peer:
        response = await peer.upgrade()
        assert (response.status, response.body, response.headers["connection"]) == (401, b"no", "close")
        assert await peer.end() == b""


async def test_an_application_that_fails_before_the_accept_is_a_500() -> None:
    async def failing(scope: Any, receive: Receive, send: Send) -> None:
        raise RuntimeError("a bug")

    async with serving(application(websocket=failing)) as served, connected(served) as peer:
        assert (await peer.upgrade()).status == 500
        assert await peer.end() == b""


# --- messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opcode", "payload"), [(TEXT, b""), (BINARY, b""), (TEXT, "é".encode()), (BINARY, b"\xff")]
)
async def test_messages_arrive_as_they_were_sent(opcode: int, payload: bytes) -> None:
    """Exactly one of text and bytes is set, for an empty message too."""
    app = RecordingApplication()
    async with serving(app) as served, socket_to(served) as peer:
        await peer.send(frame(opcode, payload))
        await wait_until(lambda: bool(app.events))
    event = app.events[0]
    expected = (payload.decode(), None) if opcode == TEXT else (None, payload)
    assert (event["text"], event["bytes"]) == expected


@pytest.mark.parametrize(
    ("opcode", "unit"),
    [
        pytest.param(TEXT, b"x", id="ascii"),
        pytest.param(TEXT, "é".encode(), id="two bytes a character"),
        pytest.param(BINARY, b"\x00", id="binary"),
    ],
)
@pytest.mark.parametrize("pieces", [1, 4])
async def test_the_limit_counts_bytes_and_all_fragments(opcode: int, unit: bytes, pieces: int) -> None:
    """A message of exactly the limit passes; a byte more closes with 1009."""

    def message(size: int) -> list[bytes]:
        payload = unit * (LIMIT // len(unit)) + b"x" * (size - LIMIT)
        step = len(payload) // pieces + 1
        parts = [payload[start : start + step] for start in range(0, len(payload), step)]
        last = len(parts) - 1
        return [frame(0 if n else opcode, part, fin=n == last) for n, part in enumerate(parts)]

    async with serving(echo) as served, socket_to(served) as peer:
        await peer.send(*message(LIMIT))
        assert len((await peer.frame()).payload) == LIMIT
        await peer.send(*message(LIMIT + 1))
        assert (await peer.frame()).close == (1009, "message_too_big")


async def test_beyond_the_limit_nothing_is_buffered() -> None:
    """Hypercorn 0.18 sends 1009 and continues to buffer: 100 MB sent took 147 MB."""
    app = RecordingApplication()
    async with serving(app) as served, socket_to(served) as peer:
        endless = bytes([0x82, 0xFF]) + struct.pack("!Q", 1 << 40) + bytes(4)
        await peer.send(endless)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with suppress(ConnectionEnded):
            for _ in range(1_000):
                await peer.send(bytes(100_000))
        await wait_until(lambda: app.ends == [1009])
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
    assert [event["type"] for event in app.events] == ["websocket.disconnect"]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(3), 1002, id="reserved opcode"),
        pytest.param(frame(TEXT, rsv=1), 1002, id="reserved bit"),
        pytest.param(frame(TEXT, b"x", masked=False), 1002, id="no mask"),
        pytest.param(frame(PING, fin=False), 1002, id="fragmented ping"),
        pytest.param(frame(PING, bytes(126)), 1002, id="long ping"),
        pytest.param(frame(0, b"x"), 1002, id="continuation of nothing"),
        pytest.param(frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002, id="message in a message"),
        pytest.param(frame(CLOSE, b"x"), 1002, id="half a close code"),
        pytest.param(close_frame(1005), 1002, id="close code that is never sent"),
        pytest.param(close_frame(99), 1002, id="no close code"),
        pytest.param(frame(TEXT, b"\xff"), 1007, id="no UTF-8"),
        pytest.param(frame(TEXT, b"\xed\xa0\x80"), 1007, id="a surrogate"),
        pytest.param(frame(CLOSE, b"\x03\xe8\xff"), 1007, id="no UTF-8 in a reason"),
    ],
)
async def test_a_malformed_frame_closes_with_a_code(sent: bytes, code: int) -> None:
    """The peer and the application see the same code, once; then the connection ends."""
    app = RecordingApplication()
    async with serving(app) as served, socket_to(served) as peer:
        await peer.send(sent)
        assert (await peer.frame()).close[0] == code
        assert await peer.end() == b""
        await wait_until(lambda: app.ends == [code])
        assert served.counts.protocol_errors == 1


# --- closing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "answered", "reported"),
    [
        (close_frame(1000, "bye"), (1000, "bye"), 1000),
        (close_frame(4000), (4000, ""), 4000),
        (frame(CLOSE), (1005, ""), 1005),
    ],
    ids=["a code and a reason", "a code", "neither"],
)
async def test_a_peers_close_is_answered_and_reported_once(sent: bytes, answered: Any, reported: int) -> None:
    app = RecordingApplication()
    async with serving(app) as served, socket_to(served) as peer:
        await peer.send(sent)
        assert (await peer.frame()).close == answered
        assert await peer.end() == b""
        await wait_until(lambda: bool(app.ends))
    assert app.ends == [reported]


async def test_a_peer_that_vanishes_is_reported_as_1006() -> None:
    app = RecordingApplication()
    async with serving(app) as served:
        async with socket_to(served):
            pass
        await wait_until(lambda: app.ends == [1006])


@pytest.mark.parametrize("busy", [False, True])
async def test_accept_then_close_arrives_with_code_and_reason(busy: bool) -> None:
    """Also while the peer is sending: to close without reading further would reset the connection."""

    async def refusing(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 1008, "reason": "token_invalid"})

    async with serving(application(websocket=refusing), linger_time=0.5) as served:
        for _ in range(10):
            async with connected(served) as peer, trio.open_nursery() as nursery:
                assert (await peer.upgrade()).status == 101
                if busy:
                    nursery.start_soon(peer.flood, frame(BINARY, bytes(10_000)))
                assert (await peer.frame()).close == (1008, "token_invalid")
                if busy:
                    nursery.cancel_scope.cancel()


async def test_a_close_waits_for_the_peers_close_but_not_for_long(clock: MockClock) -> None:
    async def closing(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})

    async with serving(application(websocket=closing), linger_time=30) as served, socket_to(served) as peer:
        assert (await peer.frame()).close[0] == 4000
        await wait_all_tasks_blocked()
        assert served.counts.open_connections == 1
        clock.jump(31)
        with trio.fail_after(PATIENCE), pytest.raises(ConnectionEnded):
            await peer.more()


async def test_an_application_that_fails_closes_with_1011() -> None:
    async def failing(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise RuntimeError("a bug")

    async with serving(application(websocket=failing)) as served, socket_to(served) as peer:
        assert (await peer.frame()).close == (1011, "")
        await peer.send(close_frame(1011))
        assert await peer.end() == b""
        assert served.counts.application_errors == 1


# --- pings ------------------------------------------------------------------------------------------------


async def test_a_ping_is_answered_though_the_application_is_busy() -> None:
    """The listener answers pings, whether or not the application receives."""

    async def deaf(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await trio.sleep_forever()

    async with serving(application(websocket=deaf)) as served, socket_to(served) as peer:
        for _ in range(100):
            await peer.send(frame(TEXT, b"not read") if _ % 2 else frame(PING, b"%d" % _))
        assert [(await peer.frame_of(PONG)).payload for _ in range(50)] == [
            b"%d" % n for n in range(0, 100, 2)
        ]


async def test_a_peer_that_is_silent_after_a_ping_is_dropped_within_two_intervals() -> None:
    """Half-open: no bytes arrive, not even an end. The application sees 1006."""
    app = RecordingApplication()
    async with serving(app, ping_interval=0.2) as served, socket_to(served) as peer:
        assert (await peer.frame()).opcode == PING
        with pytest.raises(ConnectionEnded):
            await peer.frame()
        await wait_until(lambda: app.ends == [1006])
        assert served.counts.pings_without_pong == 1


@pytest.mark.parametrize("sign", [PONG, TEXT])
async def test_any_frame_keeps_a_peer_alive(sign: int, clock: MockClock) -> None:
    async with serving(RecordingApplication(), ping_interval=30) as served, socket_to(served) as peer:
        for _ in range(6):
            await wait_all_tasks_blocked()
            clock.jump(31)
            payload = (await peer.frame_of(PING)).payload
            await peer.send(frame(sign, payload))
        assert served.counts.pings_without_pong == 0


# --- an application that does not receive -----------------------------------------------------------------


async def test_an_application_that_does_not_receive_has_a_bounded_inbox_and_then_1011() -> None:
    """A full inbox stops the reader (back-pressure); after `stall_time` the socket closes with 1011."""
    asleep = trio.Event()
    heard: list[Any] = []

    async def deaf(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await asleep.wait()
        while not heard or heard[-1]["type"] != "websocket.disconnect":
            heard.append(await receive())

    app = application(websocket=deaf)
    async with serving(app, stall_time=0.3, inbox_messages=8, abandon_time=LONG) as served:
        async with socket_to(served) as peer, trio.open_nursery() as nursery:
            nursery.start_soon(peer.flood, frame(TEXT, b"x" * 50))
            assert (await peer.frame()).close == (1011, "not_read")
            nursery.cancel_scope.cancel()
        asleep.set()
        await wait_until(lambda: bool(heard) and heard[-1]["type"] == "websocket.disconnect")
    kinds = [event["type"] for event in heard]
    assert kinds == ["websocket.connect"] + ["websocket.receive"] * 7 + ["websocket.disconnect"]


async def test_an_application_that_is_slow_gets_everything_in_order() -> None:
    """Back-pressure loses no message."""
    numbers: list[int] = []

    async def slow(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while len(numbers) < 500:
            numbers.append(int((await receive())["text"]))
            await trio.sleep(0.0005)
        await send({"type": "websocket.close"})

    app = application(websocket=slow)
    async with serving(app, inbox_messages=4) as served, socket_to(served) as peer:
        await peer.send(b"".join(frame(TEXT, b"%d" % n) for n in range(500)))
        assert (await peer.frame()).close[0] == 1000
    assert numbers == list(range(500))


@pytest.mark.parametrize(
    ("decision", "status"),
    [({"type": "websocket.accept"}, b" 101 "), ({"type": "websocket.close"}, b" 403 ")],
    ids=["accepted", "refused"],
)
async def test_a_half_close_before_the_accept_waits_for_the_response(
    decision: dict[str, Any], status: bytes
) -> None:
    """As after any other request; frames before it are still processed."""
    decide = trio.Event()

    async def undecided(scope: Any, receive: Receive, send: Send) -> None:
        await receive()
        await decide.wait()
        await send(decision)
        assert (await receive())["type"] == "websocket.disconnect"

    async with serving(application(websocket=undecided)) as served, connected(served) as peer:
        await peer.send(UPGRADE + b"\r\n" + frame(PING, b"early"))
        await peer.half_close()
        await trio.testing.wait_all_tasks_blocked(0.05)
        decide.set()
        came = await peer.end()
    assert status in came
    assert (b"\x8a\x05early" in came) == (status == b" 101 ")


async def test_early_frames_are_bounded_too() -> None:
    """Before the accept the reader stops at one message's size."""

    async def undecided(scope: Any, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    app = application(websocket=undecided)
    async with serving(app, message_bytes=10_000, handshake_time=0.5) as served, connected(served) as peer:
        await peer.send(UPGRADE + b"\r\n")
        await peer.flood(bytes(100_000))

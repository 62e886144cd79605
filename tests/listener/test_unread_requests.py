"""Unread requests are bounded, and the peer that has sent the most is refused."""

from typing import Any

import pytest
import trio

from adapters.http_api.exchange import HttpResponse
from tests.listener.harness import (
    UPGRADE,
    Receive,
    Send,
    WholeFor,
    application,
    connected,
    echo,
    echo_whole,
    refuses_nothing,
    respond,
    serving,
    wait_until,
    whole_body,
)

NOT_COUNTED: dict[str, Any] = {"uncounted_addresses": frozenset()}
WAYS = {"whole": b"", "asgi": b"TE: trailers\r\n"}


def post(size: int, way: str = "whole") -> bytes:
    return b"POST /a HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n" % size + WAYS[way] + b"\r\n"


@pytest.mark.parametrize("way", WAYS)
async def test_a_body_is_counted_until_it_is_answered(way: str) -> None:
    """Here and with the application; a disconnect releases it, too."""
    async with serving(echo, whole_requests=WholeFor(echo_whole)) as served:
        async with connected(served) as peer:
            await peer.send(post(3000, way), b"x" * 1000)
            await wait_until(lambda: served.counts.unread_bytes == 1000)
            await peer.send(b"x" * 1999)
            await wait_until(lambda: served.counts.unread_bytes == 2999)
            assert (await peer.ask(b"x")).body.endswith(b"x" * 3000)
            await wait_until(lambda: not served.counts.unread_bytes)
            await peer.send(post(3000, way), b"x" * 1000)
            await wait_until(lambda: served.counts.unread_bytes == 1000)
        await wait_until(lambda: not served.counts.unread_bytes)


@pytest.mark.parametrize("way", WAYS)
async def test_beyond_the_bound_the_largest_sender_is_refused(way: str) -> None:
    """503 with Retry-After, which it reads while it is sending; the others, also the last, get responses."""
    async with (
        serving(echo, whole_requests=WholeFor(echo_whole), unread_bytes=5000) as served,
        connected(served) as large,
        connected(served) as middle,
        connected(served) as small,
    ):
        for peer, size in ((large, 3000), (middle, 1500), (small, 1000)):
            before = served.counts.unread_bytes
            await peer.send(post(4000, way), b"x" * size)
            if peer is not small:
                await wait_until(lambda: served.counts.unread_bytes == before + size)  # noqa: B023
        response = await large.response()
        assert (response.status, response.headers["connection"]) == (503, "close")
        assert int(response.headers["retry-after"]) > 0
        assert b'"code":"busy"' in response.body
        await large.send(b"x" * 500)
        assert await large.end() == b""
        assert (await middle.ask(b"x" * 2500)).status == 200
        assert (await small.ask(b"x" * 3000)).status == 200
        assert served.counts.unread_shed == 1
        await wait_until(lambda: not served.counts.unread_bytes)


async def test_an_address_has_a_bound_of_its_own() -> None:
    offered = WholeFor(echo_whole)
    async with (
        serving(echo, whole_requests=offered, unread_bytes_per_address=2000, **NOT_COUNTED) as served,
        connected(served, address="127.0.0.2") as other,
        connected(served) as one,
        connected(served) as two,
    ):
        await other.send(post(4000), b"x" * 1900)
        await one.send(post(4000), b"x" * 1200)
        await wait_until(lambda: served.counts.unread_bytes == 3100)
        await two.send(post(4000), b"x" * 900)
        assert (await one.response()).status == 503
        assert (await two.ask(b"x" * 3100)).status == 200
        assert (await other.ask(b"x" * 2100)).status == 200


async def test_the_application_sees_a_disconnect_for_a_shed_body() -> None:
    heard = list[str]()

    async def reading(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        while not heard or heard[-1] != "http.disconnect":
            heard.append((await receive())["type"])

    app = application(http=reading)
    async with serving(app, unread_bytes=1000) as served, connected(served) as peer:
        await peer.send(post(4000, "asgi"), b"x" * 1001)
        assert (await peer.response()).status == 503
        await wait_until(lambda: heard[-1:] == ["http.disconnect"])


async def test_a_request_that_is_being_answered_is_not_shed() -> None:
    """It may be committed by now; another is shed instead, if need be the last."""
    begun, going_on = trio.Event(), trio.Event()

    async def slow(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        body = await whole_body(receive)
        begun.set()
        await going_on.wait()
        await respond(send, 200, b"%d" % len(body))

    app = application(http=slow)
    async with (
        serving(app, unread_bytes=5000) as served,
        connected(served) as peer,
        connected(served) as other,
    ):
        await peer.send(post(4500, "asgi"), b"x" * 4500)
        await begun.wait()
        await other.send(post(4000, "asgi"), b"x" * 1000)
        assert (await other.response()).status == 503
        going_on.set()
        assert (await peer.response()).body == b"4500"


async def test_heads_count_too() -> None:
    """The bound applies to incomplete heads and bodies together."""
    async with serving(echo, unread_bytes=5000) as served, connected(served) as one, connected(served) as two:
        await one.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 4000)
        await wait_until(lambda: served.counts.unread_bytes > 4000)
        await two.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 2000)
        assert (await one.response()).status == 503
        assert (await two.ask(b"\r\nHost: test\r\n\r\n")).status == 200


async def test_frames_before_the_accept_count_too() -> None:
    """The largest sender is reset: a handshake has no second response."""

    async def undecided(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await receive()
        await receive()

    app = application(websocket=undecided)
    async with serving(app, unread_bytes=5000) as served, connected(served) as one, connected(served) as two:
        await one.send(UPGRADE + b"\r\n", b"x" * 4000)
        await wait_until(lambda: served.counts.unread_bytes == 4000)
        await two.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 2000)
        assert (await one.gone()).reset
        assert (await two.ask(b"\r\nHost: test\r\n\r\n")).status == 200


async def test_a_large_body_is_refused_by_its_head() -> None:
    """Like a small one, in any form; a request that is not refused goes through ASGI with its body."""
    asked = list[str]()

    async def refuse(head: Any) -> HttpResponse | None:
        asked.append(head.path)
        return HttpResponse(401, b"no") if "x" in head.headers else await refuses_nothing(head)

    offered = WholeFor(echo_whole, refusal=refuse, body_bytes=10)
    chunked = b"POST /%61 HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n"
    async with serving(echo, whole_requests=offered) as served, connected(served) as peer:
        for head, body in (
            (post(70_000)[:-2], b"x" * 70_000),
            (post(20, "asgi")[:-2], b"x" * 20),
            (chunked, b"1\r\nx\r\n0\r\n\r\n"),
        ):
            response = await peer.ask(head + b"X: y\r\n\r\n")
            assert (response.status, response.body) == (401, b"no")
            assert (await peer.ask(body, head + b"\r\n", body)).body.startswith(b"POST /a? x")
        assert asked == ["/a"] * 6
        assert served.counts.requests == 6

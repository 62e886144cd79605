"""Failing applications and vanishing peers harm no other connection."""

import socket
import struct
from collections.abc import Awaitable, Callable

import pytest
import trio
from structlog.testing import capture_logs

from adapters.http_api.exchange import HttpRequest, HttpResponse
from tests.listener.harness import RawPeer, WholeFor, connected, echo, serving, wait_until
from tests.listener.whole_requests.both_ways import GET, failing, post


async def test_an_exception_is_a_500_and_is_logged() -> None:
    """It ends its connection only; the log has the path, but not the query."""
    with capture_logs() as logs:
        async with (
            serving(echo, whole_requests=WholeFor(failing, path="/a")) as served,
            connected(served) as other,
            connected(served) as peer,
        ):
            response = await peer.ask(b"GET /a?token=secret HTTP/1.1\r\nHost: test\r\n\r\n" + GET)
            assert (response.status, response.headers["connection"]) == (500, "close")
            assert response.headers["content-type"] == "application/problem+json"
            assert await peer.end() == b""
            assert served.counts.application_errors == 1
            assert (await other.ask(post(0, path=b"/b"))).status == 200
    (failed,) = [line for line in logs if line["event"] == "application_failed"]
    assert failed["path"] == "/a"
    assert "secret" not in str(logs)


async def test_several_exceptions_are_contained_as_well() -> None:
    """As those of a nursery."""

    async def responding(asked: HttpRequest) -> HttpResponse:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing, asked)
            nursery.start_soon(failing, asked)
        return HttpResponse(200, b"ok")

    async with serving(echo, whole_requests=WholeFor(responding)) as served, connected(served) as peer:
        assert (await peer.ask(GET)).status == 500
        assert await peer.end() == b""
        assert served.counts.application_errors == 1


@pytest.mark.parametrize(
    "unsendable",
    [
        HttpResponse(200, b"ok", (("x", "\u20ac"),)),
        HttpResponse(200, b"ok", (("x", "y\r\nset-cookie: z"),)),
        HttpResponse(200, b"ok", (("x\r\ny", "z"),)),
    ],
    ids=["not ISO 8859-1", "a line break in a value", "a line break in a name"],
)
async def test_a_response_that_cannot_be_written_is_the_applications_failure(
    unsendable: HttpResponse,
) -> None:
    """As through ASGI: a 500, and no fault of the listener; a header's value cannot start another field."""

    async def responding(asked: HttpRequest) -> HttpResponse:
        return unsendable

    async with serving(echo, whole_requests=WholeFor(responding)) as served, connected(served) as peer:
        answered = await peer.ask(GET)
        assert answered.status == 500
        assert "set-cookie" not in answered.headers
        assert served.counts.application_errors == 1


async def reset(peer: RawPeer) -> None:
    """Vanish as a peer does whose process is killed with bytes unread."""
    plain = peer.stream.socket
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await peer.stream.aclose()


Leave = Callable[[RawPeer], Awaitable[None]]


async def close(peer: RawPeer) -> None:
    await peer.stream.aclose()


@pytest.mark.parametrize("leave", [reset, close])
@pytest.mark.parametrize("size", [2, 10_000_000])
async def test_a_peer_may_vanish_before_its_response(leave: Leave, size: int) -> None:
    """Its response is dropped, and other connections are not affected."""
    begun, going_on = trio.Event(), trio.Event()

    async def responding(asked: HttpRequest) -> HttpResponse:
        begun.set()
        await going_on.wait()
        return HttpResponse(200, b"x" * size)

    async with (
        serving(echo, whole_requests=WholeFor(responding, path="/a")) as served,
        connected(served) as other,
    ):
        async with connected(served) as peer:
            await peer.send(GET)
            await begun.wait()
            await leave(peer)
        going_on.set()
        await wait_until(lambda: served.counts.open_connections == 1)
        assert (await other.ask(post(0, path=b"/b"))).status == 200


async def test_the_response_to_a_vanished_peer_is_not_cancelled() -> None:
    """The reader notices at the write; the shutdown waits for it no longer than `drain_time`."""
    begun, cancelled = trio.Event(), trio.Event()

    async def responding(asked: HttpRequest) -> HttpResponse:
        begun.set()
        try:
            await trio.Event().wait()
        finally:
            cancelled.set()
        return HttpResponse(200, b"ok")

    async with serving(echo, whole_requests=WholeFor(responding), drain_time=0.2) as served:
        async with connected(served) as peer:
            await peer.send(GET)
            await begun.wait()
            await reset(peer)
        assert not cancelled.is_set()
    assert cancelled.is_set()

"""Responses of one call are the bytes that ASGI would have sent."""

from typing import Any

import pytest

from adapters.http_api.exchange import HttpRequest, HttpResponse
from tests.listener.harness import WholeFor, application, connected, echo, serving, wait_until
from tests.listener.whole_requests.both_ways import GET, SAYS, THROUGH_ASGI, both


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"Hello"), (200, b""), (201, b"\xff\x00\r\n\r\n"), (204, b""), (404, b"{}"), (500, b"x")],
)
async def test_a_response_is_the_same_bytes_both_ways(status: int, body: bytes) -> None:
    """In the same order, with one Date; without a length where there can be no body."""
    fields = (("content-type", "text/plain"), ("x-y", ""), ("vary", "a"), ("vary", "b\xff"))

    async def responding(asked: HttpRequest) -> HttpResponse:
        return HttpResponse(status, body, fields)

    async def through_asgi(scope: Any, receive: Any, send: Any) -> None:
        length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in fields]
        await send({"type": "http.response.start", "status": status, "headers": [*length, *pairs]})
        await send({"type": "http.response.body", "body": body})

    app = application(http=through_asgi)
    async with serving(app, whole_requests=WholeFor(responding)) as served, connected(served) as peer:
        short, long = await both(peer)
        assert short == long
        assert short[-1] == body


async def test_the_response_to_a_head_has_no_body() -> None:
    """Even if the application gives one: it would be read as the start of the next response."""
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        await peer.send(b"HEAD /a HTTP/1.1\r\nHost: test\r\n\r\n" + GET)
        assert (await peer.response(head=True)).status == 200
        assert (await peer.response()).body == b"whole GET /a? "


async def test_the_date_is_current() -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        dates = [(await peer.ask(request)).headers["date"] for request in (GET, THROUGH_ASGI, GET)]
    assert len(set(dates)) <= 2
    assert all(date.endswith(" GMT") for date in dates)


async def test_the_application_receives_client_and_request() -> None:
    seen = list[HttpRequest]()

    async def responding(asked: HttpRequest) -> HttpResponse:
        seen.append(asked)
        return HttpResponse(200, b"ok")

    async with serving(echo, whole_requests=WholeFor(responding)) as served, connected(served) as peer:
        await peer.ask(b"PUT /a?b=%20 HTTP/1.1\r\nHost: test\r\nX: 1\r\nx: 2\r\nContent-Length: 1\r\n\r\n!")
    fields = {"host": "test", "x": "1, 2", "content-length": "1"}
    assert seen == [HttpRequest("PUT", "/a", b"b=%20", fields, b"!", "127.0.0.1")]


async def test_a_large_response_arrives_whole_at_a_slow_reader() -> None:
    """The rest follows as the kernel accepts it, then the next response."""
    large = bytes(range(256)) * 20_000

    async def responding(asked: HttpRequest) -> HttpResponse:
        return HttpResponse(200, large)

    async with (
        serving(echo, whole_requests=WholeFor(responding)) as served,
        connected(served, receive_buffer=4096) as peer,
    ):
        await peer.send(GET + GET + THROUGH_ASGI)
        assert [(await peer.response()).body == large for _ in range(2)] == [True, True]
        assert (await peer.response()).body == b"GET /a? "


async def test_a_peer_that_does_not_read_is_cut_off() -> None:
    """Each 64 KiB has `write_time`; its pipelined requests get no responses."""
    answered = list[str]()

    async def responding(asked: HttpRequest) -> HttpResponse:
        answered.append(asked.path)
        return HttpResponse(200, b"x" * 10_000_000)

    async with (
        serving(echo, whole_requests=WholeFor(responding), write_time=0.2) as served,
        connected(served, receive_buffer=4096) as peer,
    ):
        await peer.send(GET * 3)
        await wait_until(lambda: served.counts.write_timeouts == 1)
        await wait_until(lambda: served.counts.open_connections == 0)
        assert answered == ["/a"]

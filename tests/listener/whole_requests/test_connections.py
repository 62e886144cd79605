"""Requests on one connection, one after another: their order, both ways in turn, and its end."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from adapters.http_api.exchange import HttpRequest, HttpResponse
from tests.listener.harness import (
    TEXT,
    UPGRADE,
    WholeFor,
    connected,
    echo,
    frame,
    serving,
    wait_until,
)
from tests.listener.whole_requests.both_ways import GET, SAYS, post, say_whole


@pytest.mark.parametrize("number", [2, 50])
async def test_pipelined_requests_are_answered_in_order(number: int) -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        body = b"body"
        await peer.send(b"".join(post(4, path=b"/%d" % n) + body for n in range(number)))
        for n in range(number):
            assert (await peer.response()).body == b"whole POST /%d? body" % n
        assert served.counts.requests == number


async def test_other_tasks_run_between_pipelined_requests() -> None:
    """Although the responses themselves never wait."""
    begun, turns = trio.Event(), list[str]()

    async def responding(asked: HttpRequest) -> HttpResponse:
        turns.append("response")
        begun.set()
        return HttpResponse(200, b"ok")

    async def other() -> None:
        await begun.wait()
        for _ in range(20):
            turns.append("other")
            await trio.lowlevel.checkpoint()

    async with (
        serving(echo, whole_requests=WholeFor(responding)) as served,
        connected(served) as peer,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(other)
        await peer.send(GET * 40)
        for _ in range(40):
            await peer.response()
    assert turns.index("other") <= 2
    assert turns[: turns.index("other") + 40].count("other") > 15


async def test_no_request_overtakes_another() -> None:
    """The next one waits for the response, in the kernel if there are many."""
    going_on, begun = trio.Event(), list[str]()

    async def responding(asked: HttpRequest) -> HttpResponse:
        begun.append(asked.path)
        await going_on.wait()
        return await say_whole(asked)

    async with serving(echo, whole_requests=WholeFor(responding)) as served, connected(served) as peer:
        await peer.send(post(0, path=b"/1") + post(0, path=b"/2"))
        await wait_until(lambda: bool(begun))
        await trio.testing.wait_all_tasks_blocked()
        assert begun == ["/1"]
        going_on.set()
        assert [(await peer.response()).body for _ in range(2)] == [b"whole POST /1? ", b"whole POST /2? "]


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("first", [0, 1])
async def test_both_paths_alternate_on_one_connection(first: int, pipelined: bool) -> None:
    """In either order, with and without bodies, many times."""
    requests, expected = list[bytes](), list[bytes]()
    for n in range(40):
        short = n % 2 == first
        field = b"X: y" if short else b"TE: trailers"
        requests.append(post(n, field, path=b"/%d" % n) + b"x" * n)
        expected.append(b"whole " * short + b"POST /%d? " % n + b"x" * n)
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        if pipelined:
            await peer.send(b"".join(requests))
            answered = [(await peer.response()).body for _ in requests]
        else:
            answered = [(await peer.ask(request)).body for request in requests]
        assert answered == expected
        assert served.counts.requests == len(requests)


async def test_a_socket_may_follow() -> None:
    """A handshake on a connection that has had whole requests, in one segment with the last of them."""
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        assert (await peer.ask(GET)).status == 200
        await peer.send(GET + UPGRADE + b"\r\n" + frame(TEXT, b"hi"))
        assert (await peer.response()).body == b"whole GET /a? "
        assert (await peer.response()).status == 101
        assert (await peer.frame()).payload == b"hi"


async def test_invalid_bytes_after_a_request_are_refused_after_its_response() -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        await peer.send(GET + b"\x00\x01\r\n\r\n")
        assert (await peer.response()).status == 200
        assert (await peer.response()).status == 400
        assert await peer.end() == b""
        assert (served.counts.requests, served.counts.bad_requests) == (1, 1)


async def test_a_path_without_a_route_goes_through_asgi() -> None:
    async with (
        serving(echo, whole_requests=WholeFor(say_whole, path="/a")) as served,
        connected(served) as peer,
    ):
        assert (await peer.ask(GET)).body == b"whole GET /a? "
        assert (await peer.ask(post(2, path=b"/b"), b"xy")).body == b"POST /b? xy"


async def test_a_100_comes_before_the_body() -> None:
    """`Expect: 100-continue` goes through ASGI, where the listener sends the 100."""
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        assert (await peer.ask(post(2, b"Expect: 100-continue"))).status == 100
        assert (await peer.ask(b"xy")).body == b"POST /a? xy"
        assert (await peer.ask(GET)).body == b"whole GET /a? "


async def test_connection_close_ends_the_connection() -> None:
    """With `Connection: close` it is answered, the connection ends, and what follows it is not served."""
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        response = await peer.ask(post(1, b"Connection: close") + b"x" + GET)
        assert (response.body, response.headers["connection"]) == (b"whole POST /a? x", "close")
        assert await peer.end() == b""
        assert served.counts.requests == 1


async def test_a_half_close_after_a_request_does_not_cancel_it() -> None:
    """The responses arrive, then the end."""
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        await peer.send(GET + post(1) + b"x")
        await peer.half_close()
        assert (await peer.response()).body == b"whole GET /a? "
        assert (await peer.response()).body == b"whole POST /a? x"
        assert await peer.end() == b""


async def test_each_request_has_a_timeout_of_its_own(clock: MockClock) -> None:
    """The timeout of one request does not end a busy connection."""
    async with (
        serving(echo, whole_requests=SAYS, body_time=30, head_time=30) as served,
        connected(served) as peer,
    ):
        for _ in range(3):
            assert (await peer.ask(post(1), b"x")).status == 200
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(20)


async def test_an_idle_connection_is_closed_without_a_response(clock: MockClock) -> None:
    async with serving(echo, whole_requests=SAYS, idle_time=30) as served, connected(served) as peer:
        await peer.ask(GET)
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(31)
        assert await peer.end() == b""

"""A refusal by the head is sent before the body, which is then dropped."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from adapters.http_api.exchange import HttpRequest, HttpResponse
from tests.listener.harness import WholeFor, connected, echo, serving, wait_until
from tests.listener.whole_requests.both_ways import GET, failing, post, say_whole

REFUSED = post(1000, b"X: refused")


async def refuse(head: HttpRequest) -> HttpResponse | None:
    assert head.body == b""
    return HttpResponse(401, b"no") if "x" in head.headers else None


REFUSES = WholeFor(say_whole, refusal=refuse)


@pytest.mark.parametrize("rest", [(b"x" * 1000 + GET,), (b"x", b"x" * 998, b"x" + GET), (b"x" * 1000, GET)])
@pytest.mark.parametrize("begun", [b"", b"x"])
async def test_a_refusal_by_the_head_precedes_the_body(begun: bytes, rest: tuple[bytes, ...]) -> None:
    """The body is dropped, and the next request on the connection is answered."""
    async with serving(echo, whole_requests=REFUSES) as served, connected(served) as peer:
        for _ in range(2):
            response = await peer.ask(REFUSED + begun)
            assert (response.status, response.body) == (401, b"no")
            assert "connection" not in response.headers
            assert (await peer.ask(rest[0][len(begun) :], *rest[1:])).body == b"whole GET /a? "
        assert served.counts.requests == 4


async def test_a_request_that_is_not_refused_awaits_its_body() -> None:
    async with serving(echo, whole_requests=REFUSES) as served, connected(served) as peer:
        assert (await peer.ask(post(2), b"x", b"y")).body == b"whole POST /a? xy"


async def test_the_head_is_checked_once_and_only_without_its_body() -> None:
    """The hot path, a request in one piece, pays nothing for it."""
    checked = list[str]()

    async def note(head: HttpRequest) -> None:
        checked.append(head.path)

    offered = WholeFor(say_whole, refusal=note)
    async with serving(echo, whole_requests=offered) as served, connected(served) as peer:
        await peer.ask(GET)
        await peer.ask(post(2, path=b"/whole") + b"xy")
        assert checked == []
        await peer.ask(post(3, path=b"/pieces"), b"x", b"y", b"z")
        assert checked == ["/pieces"]


async def test_a_refusal_closes_the_connection_if_the_client_requests_it() -> None:
    """The peer may continue to send, and still reads the response."""
    async with serving(echo, whole_requests=REFUSES) as served, connected(served) as peer:
        response = await peer.ask(post(1000, b"X: refused", b"Connection: close"))
        assert (response.status, response.headers["connection"]) == (401, "close")
        await peer.send(b"x" * 1000)
        assert await peer.end() == b""


@pytest.mark.parametrize("numbers", [{"body_idle_time": 0.2}, {"body_time": 0.2}])
async def test_the_rest_of_a_refused_body_has_a_timeout(numbers: dict[str, Any]) -> None:
    """The connection ends without a second response."""
    async with serving(echo, whole_requests=REFUSES, **numbers) as served, connected(served) as peer:
        assert (await peer.ask(REFUSED + b"x")).status == 401
        assert await peer.end() == b""


async def test_a_disconnect_within_a_refused_body_ends_the_connection() -> None:
    async with serving(echo, whole_requests=REFUSES) as served, connected(served) as peer:
        assert (await peer.ask(REFUSED + b"x")).status == 401
        await peer.half_close()
        assert await peer.end() == b""
        await wait_until(lambda: not served.counts.open_connections)


async def test_a_refusal_during_the_drain_closes_the_connection() -> None:
    """Its response has `Connection: close`, like all responses during the drain."""
    begun, going_on = trio.Event(), trio.Event()

    async def late(head: HttpRequest) -> HttpResponse:
        begun.set()
        await going_on.wait()
        return HttpResponse(401, b"ok")

    offered = WholeFor(say_whole, refusal=late)
    async with serving(echo, whole_requests=offered) as served, connected(served) as peer:
        await peer.send(REFUSED)
        await begun.wait()
        served.shutdown.set()
        await wait_all_tasks_blocked()
        going_on.set()
        response = await peer.response()
        assert (response.status, response.headers["connection"]) == (401, "close")


async def test_a_refusal_that_fails_is_a_500() -> None:
    offered = WholeFor(say_whole, refusal=failing)
    async with serving(echo, whole_requests=offered) as served, connected(served) as peer:
        assert (await peer.ask(REFUSED)).status == 500
        assert await peer.end() == b""
        assert served.counts.application_errors == 1

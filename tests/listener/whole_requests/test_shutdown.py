"""The shutdown and whole requests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from adapters.http_api.exchange import HttpRequest, HttpResponse
from tests.listener.harness import (
    LONG,
    ConnectionEnded,
    RawPeer,
    RunningListener,
    WholeFor,
    connected,
    echo,
    serving,
    wait_until,
)
from tests.listener.whole_requests.both_ways import GET, SAYS, post, say_whole
from tests.patience import PATIENCE


@asynccontextmanager
async def waiting(*, drain_time: float = LONG) -> AsyncIterator[tuple[RunningListener, RawPeer, trio.Event]]:
    """A peer whose request is being answered, once the event is set."""
    begun, going_on = trio.Event(), trio.Event()

    async def responding(asked: HttpRequest) -> HttpResponse:
        begun.set()
        await going_on.wait()
        return await say_whole(asked)

    async with (
        serving(echo, whole_requests=WholeFor(responding), drain_time=drain_time) as served,
        connected(served) as peer,
    ):
        await peer.send(GET + GET)
        await begun.wait()
        yield served, peer, going_on


async def test_at_the_end_an_idle_connection_closes() -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        await peer.ask(GET)
        served.shutdown.set()
        assert await peer.end() == b""


async def test_at_the_end_a_request_in_flight_is_answered() -> None:
    """With `Connection: close`, and what follows it is not served."""
    async with waiting() as (served, peer, going_on):
        served.shutdown.set()
        await trio.testing.wait_all_tasks_blocked()
        going_on.set()
        response = await peer.response()
        assert (response.body, response.headers["connection"]) == (b"whole GET /a? ", "close")
        assert await peer.end() == b""
        assert served.counts.requests == 1


async def test_at_the_end_a_body_may_still_arrive() -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        await peer.send(post(5) + b"Hell")
        await wait_until(lambda: served.counts.open_connections == 1)
        await trio.testing.wait_all_tasks_blocked()
        served.shutdown.set()
        await trio.testing.wait_all_tasks_blocked()
        response = await peer.ask(b"o")
        assert (response.body, response.headers["connection"]) == (b"whole POST /a? Hello", "close")
        assert await peer.end() == b""


async def test_a_response_does_not_delay_the_end() -> None:
    """After `drain_time` a response in progress is cancelled."""
    async with waiting(drain_time=0.5) as (served, peer, _):
        served.shutdown.set()
        with trio.fail_after(PATIENCE):
            await served.ended.wait()
        assert (await peer.gone()).reset


async def test_cancelling_the_server_ends_it_at_once() -> None:
    async with waiting() as (served, peer, _):
        served.cancel()
        with trio.fail_after(PATIENCE):
            await served.ended.wait()
        with pytest.raises(ConnectionEnded):
            await peer.response()

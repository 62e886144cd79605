"""Unsent responses are stored once, are bounded, and do not harm other peers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from trio.testing import wait_all_tasks_blocked

from adapters.http_api.exchange import HttpRequest, HttpResponse
from adapters.listener import ASGIApp
from adapters.listener.unsent import UnsentResponses
from adapters.listener.writer import PeerWriter
from tests.listener.harness import (
    RawPeer,
    Receive,
    RunningListener,
    Send,
    WholeFor,
    application,
    connected,
    respond,
    serving,
    wait_until,
)

LARGE = 8_000_000
"""Bytes: more than the kernel accepts of an unread response."""
FILE = bytes(LARGE)


def get(size: int = LARGE, *, method: bytes = b"GET", asgi: bool = False) -> bytes:
    way = b"TE: trailers\r\n" if asgi else b""
    return method + b" /%d HTTP/1.1\r\nHost: test\r\n" % size + way + b"\r\n"


async def sized(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Responds with as many bytes as the path says, through ASGI."""
    await respond(send, 200, FILE if scope["path"] == f"/{LARGE}" else bytes(int(scope["path"][1:])))


APP: ASGIApp = application(http=sized)


class SizedResponses:
    """The same in one call; records the paths."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.whole = WholeFor(self.respond)

    async def respond(self, asked: HttpRequest) -> HttpResponse:
        self.asked.append(asked.path)
        return HttpResponse(200, bytes(int(asked.path[1:])))


@asynccontextmanager
async def stalled(
    served: RunningListener, request: bytes, address: str = "127.0.0.1"
) -> AsyncIterator[RawPeer]:
    """A peer that does not read its response, which fills the kernel's buffers."""
    async with connected(served, receive_buffer=4096, address=address) as peer:
        before = served.counts.unsent_bytes
        await peer.send(request)
        await wait_until(lambda: served.counts.unsent_bytes != before)
        yield peer


@pytest.mark.parametrize("asgi", [False, True], ids=["whole", "asgi"])
async def test_an_unread_response_counts_until_it_is_read(asgi: bool) -> None:
    """Its bytes once, for there is one copy; reading and disconnecting release them."""
    async with serving(APP, whole_requests=SizedResponses().whole) as served:
        async with stalled(served, get(asgi=asgi)) as peer:
            assert served.counts.unsent_bytes == LARGE
            assert (await peer.response()).body == FILE
            await wait_until(lambda: not served.counts.unsent_bytes)
        async with stalled(served, get(asgi=asgi)):
            pass
        await wait_until(lambda: not served.counts.unsent_bytes)


async def test_a_response_that_is_read_is_not_counted() -> None:
    """The hot path: a response that the kernel accepts at once never reaches the ledger."""
    noted = list[int]()
    counting = UnsentResponses.counting

    def note(unsent: Any, holder: Any, address: str, response: bytes) -> Any:
        noted.append(len(response))
        return counting(unsent, holder, address, response)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UnsentResponses, "counting", note)
        async with serving(APP, whole_requests=SizedResponses().whole) as served, connected(served) as peer:
            for size in (0, 100, 10_000):
                assert len((await peer.ask(get(size))).body) == size
                assert len((await peer.ask(get(size, asgi=True))).body) == size
    assert noted == []


async def test_an_object_counts_once_for_all_its_readers() -> None:
    """Slow readers share a file: no byte of it is copied, and no connection is shed for it."""
    written = list[int]()
    write = PeerWriter.write

    async def note(writer: PeerWriter, head: bytes, body: bytes = b"") -> None:
        written.append(id(body))
        await write(writer, head, body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PeerWriter, "write", note)
        async with serving(APP, unsent_bytes=LARGE + 1) as served, AsyncExitStack() as peers:
            peer = await peers.enter_async_context(stalled(served, get()))
            others = [
                await peers.enter_async_context(connected(served, receive_buffer=4096)) for _ in range(10)
            ]
            for other in others:
                await other.send(get())
            await wait_until(lambda: written.count(id(FILE)) == 11)
            assert served.counts.unsent_bytes == LARGE
            assert (await peer.response()).body == FILE
            assert served.counts.unsent_bytes == LARGE  # that of the others
            assert (await others[0].response()).body == FILE
            assert served.counts.unsent_shed == 0


async def test_beyond_the_bound_the_largest_is_reset_and_not_the_last() -> None:
    """A request other than GET has taken effect, and gets its response; small responses are always sent."""
    offered = SizedResponses().whole
    async with (
        serving(APP, whole_requests=offered, unsent_bytes=LARGE * 2, write_time=60.0) as served,
        stalled(served, get(LARGE, method=b"POST")) as first,
        stalled(served, get(LARGE - 1, method=b"POST")) as second,
        stalled(served, get(LARGE - 2, method=b"POST")) as third,
    ):
        assert served.counts.unsent_shed == 1
        assert (await first.gone()).reset
        assert served.counts.unsent_bytes == LARGE * 2 - 3
        assert len((await third.response()).body) == LARGE - 2
        assert len((await second.response()).body) == LARGE - 1


async def test_an_address_has_a_bound_of_its_own() -> None:
    """Other addresses are not affected."""
    numbers: dict[str, Any] = {
        "unsent_bytes_per_address": LARGE + 1000,
        "uncounted_addresses": frozenset[str](),
    }
    async with (
        serving(APP, whole_requests=SizedResponses().whole, **numbers) as served,
        stalled(served, get(method=b"POST"), "127.0.0.2") as other,
        stalled(served, get(method=b"POST")) as first,
        stalled(served, get(LARGE - 1, method=b"POST"), "127.0.0.1"),
    ):
        assert (await first.gone()).reset
        assert served.counts.unsent_shed == 1
        assert (await other.response()).body == FILE


async def test_a_large_response_without_room_waits_and_is_built_again() -> None:
    """It is not in memory meanwhile; small responses overtake it."""
    sized = SizedResponses()
    numbers: dict[str, Any] = {"unsent_bytes": LARGE + 1000, "unsent_wait": 60.0}
    async with (
        serving(APP, whole_requests=sized.whole, **numbers) as served,
        stalled(served, get()) as slow,
        connected(served) as waiting,
        connected(served) as other,
    ):
        await waiting.send(get(LARGE - 1))
        await wait_until(lambda: len(sized.asked) == 2)
        assert len((await other.ask(get(10_000))).body) == 10_000
        assert served.counts.unsent_bytes == LARGE
        assert (await slow.response()).body == FILE
        assert len((await waiting.response()).body) == LARGE - 1
        assert sized.asked == [f"/{LARGE}", f"/{LARGE - 1}", "/10000", f"/{LARGE - 1}"]


async def test_a_large_response_without_room_is_a_503() -> None:
    """The connection stays open; the same request is not executed again only to be refused."""
    sized = SizedResponses()
    numbers: dict[str, Any] = {"unsent_bytes": LARGE + 1000, "unsent_wait": 0.05}
    async with (
        serving(APP, whole_requests=sized.whole, **numbers) as served,
        stalled(served, get()),
        connected(served) as peer,
    ):
        for _ in range(3):
            response = await peer.ask(get(LARGE - 1))
            assert (response.status, response.headers["retry-after"]) == (503, "5")
        assert sized.asked == [f"/{LARGE}", f"/{LARGE - 1}"]
        assert served.counts.unsent_refused == 3
        # Another caller's response at the same path may be small: it is built before it is judged.
        another = get(LARGE - 1)[:-2] + b"Authorization: Bearer another\r\n\r\n"
        assert (await peer.ask(another)).status == 503
        assert sized.asked == [f"/{LARGE}", f"/{LARGE - 1}", f"/{LARGE - 1}"]
        assert len((await peer.ask(get(1000))).body) == 1000


async def test_a_large_response_leaves_half_of_the_room_to_others() -> None:
    """So large responses cannot use the room that small ones need."""
    numbers: dict[str, Any] = {"unsent_bytes": LARGE * 2, "unsent_wait": 0.05}
    async with (
        serving(APP, whole_requests=SizedResponses().whole, **numbers) as served,
        stalled(served, get()),
        connected(served) as peer,
    ):
        assert (await peer.ask(get(LARGE // 2 + 1))).status == 503
        assert len((await peer.ask(get(LARGE // 2))).body) == LARGE // 2


async def test_a_slow_reader_is_shed_for_an_address_that_holds_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """After its `GRACE`: a few slow readers do not block large responses for all others."""
    monkeypatch.setattr("adapters.listener.unsent.GRACE", 0.0)
    numbers: dict[str, Any] = {
        "unsent_bytes": LARGE + 1000,
        "unsent_wait": 0.05,
        "uncounted_addresses": frozenset[str](),
    }
    async with (
        serving(APP, whole_requests=SizedResponses().whole, **numbers) as served,
        stalled(served, get()) as slow,
        connected(served) as same,
        connected(served, address="127.0.0.2") as other,
    ):
        assert (await same.ask(get(1_000_000))).status == 503
        assert len((await other.ask(get(1_000_000))).body) == 1_000_000
        assert (await slow.gone()).reset


async def test_a_pipelined_request_is_not_answered_before_the_last_response_is_sent() -> None:
    """One response waits for a peer at a time."""
    sized = SizedResponses()
    async with serving(APP, whole_requests=sized.whole) as served, stalled(served, get() + get(10)) as peer:
        await wait_all_tasks_blocked()
        assert sized.asked == [f"/{LARGE}"]
        assert (await peer.response()).body == FILE
        assert len((await peer.response()).body) == 10


async def test_requests_behind_an_unread_response_are_counted_too() -> None:
    """As unread requests."""
    ahead = get(10) * 100
    async with (
        serving(APP, whole_requests=SizedResponses().whole) as served,
        stalled(served, get() + ahead) as peer,
    ):
        assert served.counts.unread_bytes == len(ahead)
        assert (await peer.response()).body == FILE
        for _ in range(100):
            await peer.response()
        await wait_until(lambda: not served.counts.unread_bytes)

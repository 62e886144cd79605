"""What a peer does not read waits in memory once, is bounded, and is nobody else's trouble."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from trio.testing import wait_all_tasks_blocked

from adapters.listener import ASGIApp
from adapters.listener.connection import PeerConnection
from adapters.listener.unsent import UnsentAnswers
from adapters.listener.whole_requests import WholeRequest
from tests.listener.harness import (
    PlainAnswer,
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
"""Bytes: more than the kernel takes of an answer that nobody reads."""
FILE = bytes(LARGE)


def get(size: int = LARGE, *, method: bytes = b"GET", asgi: bool = False) -> bytes:
    way = b"TE: trailers\r\n" if asgi else b""
    return method + b" /%d HTTP/1.1\r\nHost: test\r\n" % size + way + b"\r\n"


async def sized(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answers with as many bytes as the path says, through ASGI."""
    await respond(send, 200, FILE if scope["path"] == f"/{LARGE}" else bytes(int(scope["path"][1:])))


APP: ASGIApp = application(http=sized)


class Sized:
    """The same in one call; and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.whole = WholeFor(self.answer)

    async def answer(self, asked: WholeRequest) -> PlainAnswer:
        self.asked.append(asked.path)
        return PlainAnswer(200, bytes(int(asked.path[1:])))


@asynccontextmanager
async def stalled(
    served: RunningListener, request: bytes, address: str = "127.0.0.1"
) -> AsyncIterator[RawPeer]:
    """A peer that has asked, and of whose answer the kernel is full."""
    async with connected(served, receive_buffer=4096, address=address) as peer:
        before = served.counts.unsent_bytes
        await peer.send(request)
        await wait_until(lambda: served.counts.unsent_bytes != before)
        yield peer


@pytest.mark.parametrize("asgi", [False, True], ids=["whole", "asgi"])
async def test_what_is_not_read_is_counted_until_it_is(asgi: bool) -> None:
    """Its bytes once, for there is one copy; a peer that reads, and one that leaves, give them back."""
    async with serving(APP, whole_requests=Sized().whole) as served:
        async with stalled(served, get(asgi=asgi)) as peer:
            assert served.counts.unsent_bytes == LARGE
            assert (await peer.answer()).body == FILE
            await wait_until(lambda: not served.counts.unsent_bytes)
        async with stalled(served, get(asgi=asgi)):
            pass
        await wait_until(lambda: not served.counts.unsent_bytes)


async def test_small_answers_are_not_counted_while_they_are_read() -> None:
    """The hot path: what the kernel takes at once never reaches the ledger."""
    noted = list[int]()
    counting = UnsentAnswers.counting

    def note(unsent: Any, holder: Any, address: str, answer: bytes) -> Any:
        noted.append(len(answer))
        return counting(unsent, holder, address, answer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UnsentAnswers, "counting", note)
        async with serving(APP, whole_requests=Sized().whole) as served, connected(served) as peer:
            for size in (0, 100, 10_000):
                assert len((await peer.ask(get(size))).body) == size
                assert len((await peer.ask(get(size, asgi=True))).body) == size
    assert noted == []


async def test_one_object_is_counted_once_however_many_read_it() -> None:
    """A file that slow readers ask for is shared: no byte of it is copied, and nobody gives way for it."""
    written = list[int]()
    write = PeerConnection.write

    async def note(connection: PeerConnection, head: bytes, body: bytes = b"") -> None:
        written.append(id(body))
        await write(connection, head, body)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PeerConnection, "write", note)
        async with serving(APP, unsent_bytes=LARGE + 1) as served, AsyncExitStack() as peers:
            peer = await peers.enter_async_context(stalled(served, get()))
            others = [
                await peers.enter_async_context(connected(served, receive_buffer=4096)) for _ in range(10)
            ]
            for other in others:
                await other.send(get())
            await wait_until(lambda: written.count(id(FILE)) == 11)
            assert served.counts.unsent_bytes == LARGE
            assert (await peer.answer()).body == FILE
            assert served.counts.unsent_bytes == LARGE  # that of the others
            assert (await others[0].answer()).body == FILE
            assert served.counts.unsent_shed == 0


async def test_beyond_the_bound_the_largest_is_reset_and_not_the_last() -> None:
    """What is not a GET has happened, and is answered; whose answer is small is answered in any case."""
    offered = Sized().whole
    async with (
        serving(APP, whole_requests=offered, unsent_bytes=LARGE * 2, write_time=60.0) as served,
        stalled(served, get(LARGE, method=b"POST")) as first,
        stalled(served, get(LARGE - 1, method=b"POST")) as second,
        stalled(served, get(LARGE - 2, method=b"POST")) as third,
    ):
        assert served.counts.unsent_shed == 1
        assert (await first.gone()).reset
        assert served.counts.unsent_bytes == LARGE * 2 - 3
        assert len((await third.answer()).body) == LARGE - 2
        assert len((await second.answer()).body) == LARGE - 1


async def test_an_address_has_a_bound_of_its_own() -> None:
    """Another's are not touched for it."""
    numbers: dict[str, Any] = {
        "unsent_bytes_per_address": LARGE + 1000,
        "uncounted_addresses": frozenset[str](),
    }
    async with (
        serving(APP, whole_requests=Sized().whole, **numbers) as served,
        stalled(served, get(method=b"POST"), "127.0.0.2") as other,
        stalled(served, get(method=b"POST")) as first,
        stalled(served, get(LARGE - 1, method=b"POST"), "127.0.0.1"),
    ):
        assert (await first.gone()).reset
        assert served.counts.unsent_shed == 1
        assert (await other.answer()).body == FILE


async def test_a_large_answer_without_room_waits_and_is_made_again() -> None:
    """It is not kept meanwhile; small ones are answered past it."""
    sized = Sized()
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
        assert (await slow.answer()).body == FILE
        assert len((await waiting.answer()).body) == LARGE - 1
        assert sized.asked == [f"/{LARGE}", f"/{LARGE - 1}", "/10000", f"/{LARGE - 1}"]


async def test_a_large_answer_without_room_is_a_503() -> None:
    """The connection goes on; the same request is not carried out again only to be refused."""
    sized = Sized()
    numbers: dict[str, Any] = {"unsent_bytes": LARGE + 1000, "unsent_wait": 0.05}
    async with (
        serving(APP, whole_requests=sized.whole, **numbers) as served,
        stalled(served, get()),
        connected(served) as peer,
    ):
        for _ in range(3):
            answer = await peer.ask(get(LARGE - 1))
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert sized.asked == [f"/{LARGE}", f"/{LARGE - 1}"]
        assert served.counts.unsent_refused == 3
        assert len((await peer.ask(get(1000))).body) == 1000


async def test_a_large_answer_leaves_half_of_the_room_to_others() -> None:
    """So who asks for much at once cannot take what others need for little."""
    numbers: dict[str, Any] = {"unsent_bytes": LARGE * 2, "unsent_wait": 0.05}
    async with (
        serving(APP, whole_requests=Sized().whole, **numbers) as served,
        stalled(served, get()),
        connected(served) as peer,
    ):
        assert (await peer.ask(get(LARGE // 2 + 1))).status == 503
        assert len((await peer.ask(get(LARGE // 2))).body) == LARGE // 2


async def test_a_slow_reader_gives_way_to_an_address_that_keeps_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has had its time: a few slow ones do not keep everybody else from large answers."""
    monkeypatch.setattr("adapters.listener.unsent.GRACE", 0.0)
    numbers: dict[str, Any] = {
        "unsent_bytes": LARGE + 1000,
        "unsent_wait": 0.05,
        "uncounted_addresses": frozenset[str](),
    }
    async with (
        serving(APP, whole_requests=Sized().whole, **numbers) as served,
        stalled(served, get()) as slow,
        connected(served) as same,
        connected(served, address="127.0.0.2") as other,
    ):
        assert (await same.ask(get(1_000_000))).status == 503
        assert len((await other.ask(get(1_000_000))).body) == 1_000_000
        assert (await slow.gone()).reset


async def test_a_pipelined_request_is_not_answered_before_the_last_answer_is_sent() -> None:
    """One answer waits for a peer at a time."""
    sized = Sized()
    async with serving(APP, whole_requests=sized.whole) as served, stalled(served, get() + get(10)) as peer:
        await wait_all_tasks_blocked()
        assert sized.asked == [f"/{LARGE}"]
        assert (await peer.answer()).body == FILE
        assert len((await peer.answer()).body) == 10


async def test_requests_behind_an_unread_answer_are_counted_too() -> None:
    """Among what has come and is not answered yet."""
    ahead = get(10) * 100
    async with serving(APP, whole_requests=Sized().whole) as served, stalled(served, get() + ahead) as peer:
        assert served.counts.unread_bytes == len(ahead)
        assert (await peer.answer()).body == FILE
        for _ in range(100):
            await peer.answer()
        await wait_until(lambda: not served.counts.unread_bytes)

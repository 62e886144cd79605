"""Plain sockets in place of trio's streams: accepted in batches, with the same options."""

import errno
import selectors
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from adapters.listener.tcp import ACCEPTED_AT_ONCE, TcpListener, TcpStream
from tests.listener.harness import connected, echo, serving, wait_until

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
async def listener() -> AsyncIterator[TcpListener]:
    (one,) = await TcpListener.on("127.0.0.1", 0, 100)
    yield one
    one.close()


@contextmanager
def waiting(address: tuple[str, int], number: int) -> Iterator[None]:
    """Connect `number` peers, which stay in the backlog: the loop does not run meanwhile."""
    with ExitStack() as stack:
        for _ in range(number):
            stack.enter_context(socket.create_connection(address))
        yield


async def test_accepted_sockets_have_the_options_of_trios(listener: TcpListener) -> None:
    """They inherit them from the listening socket."""
    with waiting(listener.socket.getsockname(), 1):
        (stream,) = listener.accept_pending()
        with stream.socket as plain:
            assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 16_384
            assert not plain.getblocking()
            assert stream.client == plain.getpeername()
            assert stream.server == listener.socket.getsockname()


@pytest.mark.parametrize("own", ["127.0.0.1", "127.0.0.2"])
async def test_a_listener_on_all_addresses_knows_the_address_of_each_connection(own: str) -> None:
    listener = TcpListener(socket.create_server(("", 0)))
    with listener.socket, waiting((own, listener.socket.getsockname()[1]), 1):
        (stream,) = listener.accept_pending()
        with stream.socket as plain:
            assert stream.server == plain.getsockname() == (own, listener.socket.getsockname()[1])


async def test_one_batch_of_connections_is_bounded(listener: TcpListener) -> None:
    with waiting(listener.socket.getsockname(), ACCEPTED_AT_ONCE + 1):
        for expected in (ACCEPTED_AT_ONCE, 1, 0):
            streams = list(listener.accept_pending())
            assert len(streams) == expected
            for stream in streams:
                stream.close()


async def test_other_tasks_run_between_batches() -> None:
    """Many pending connections are accepted over several turns of the loop."""
    async with serving(echo) as served:
        await wait_all_tasks_blocked()
        seen = [0]
        with waiting(served.address, 5 * ACCEPTED_AT_ONCE):
            while served.counts.accepted < 5 * ACCEPTED_AT_ONCE:
                await trio.lowlevel.checkpoint()
                seen.append(served.counts.accepted)
        # Tasks run in a random order in each turn: two turns of the listener may be adjacent.
        assert max(after - before for before, after in pairwise(seen)) <= 2 * ACCEPTED_AT_ONCE


async def test_a_connection_that_failed_before_its_accept_is_skipped(
    listener: TcpListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next accept may succeed, unlike after a lack of descriptors."""
    accept = socket.socket.accept
    failures = [OSError(errno.ECONNABORTED, "aborted"), OSError(errno.EPROTO, "protocol error")]

    def failing(plain: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop()
        return accept(plain)

    monkeypatch.setattr(socket.socket, "accept", failing)
    with waiting(listener.socket.getsockname(), 1):
        (stream,) = listener.accept_pending()
        stream.close()
    failures.append(OSError(errno.EMFILE, "too many open files"))
    with pytest.raises(OSError, match="too many"):
        list(listener.accept_pending())


async def test_a_connection_before_its_first_byte_has_no_task() -> None:
    async with serving(echo) as served:
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        async with connected(served) as peer:
            await wait_until(lambda: served.counts.open_connections == 1)
            assert trio.lowlevel.current_statistics().tasks_living == before
            assert (await peer.ask(GET)).status == 200


async def test_a_connection_that_cannot_be_watched_is_the_end_of_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register = selectors.DefaultSelector.register
    failures = [OSError(errno.ENOSPC, "no space left")]

    def failing(
        selector: selectors.DefaultSelector, descriptor: int, events: int, data: object
    ) -> selectors.SelectorKey:
        if failures:
            raise failures.pop()
        return register(selector, descriptor, events, data)

    monkeypatch.setattr(selectors.DefaultSelector, "register", failing)
    async with serving(echo, faults=1) as served:
        with socket.create_connection(served.address) as plain:
            await wait_until(lambda: served.counts.faults == 1)
            with pytest.raises(ConnectionResetError):
                plain.recv(1)
        async with connected(served) as peer:
            assert (await peer.ask(GET)).status == 200


@pytest.mark.parametrize("waits", ["reads", "writes"])
async def test_a_close_ends_pending_reads_and_writes(waits: str) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = TcpStream(ours)
    with theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_closed, stream, waits)
            await wait_all_tasks_blocked()
            stream.close()
            stream.close()


async def _expect_closed(stream: TcpStream, waits: str) -> None:
    wait = stream.receive_some(1) if waits == "reads" else stream.send_all(bytes(10_000_000))
    with pytest.raises(trio.ClosedResourceError):
        await wait

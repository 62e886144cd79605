"""Sockets that are refused repeatedly: when they are refused, and what is logged."""

from typing import Any

import pytest
import structlog.testing
import trio
import trio.testing

from adapters.listener import ListenerConfig
from adapters.quart_app import refusals
from adapters.quart_app.refusals import RepeatedRefusals
from messaging_core.limits import Limits, Rate
from messaging_core.profiles import Close
from tests.server.clients import browser, open_socket, register
from tests.server.servers import serving

INVALID = Close(1008, "token_invalid")
EXPIRED = Close(1008, "token_expired")


def new_table() -> RepeatedRefusals:
    return RepeatedRefusals(Rate(0.1, 3), trio.current_time, handshake_time=10)


async def refuse(
    table: RepeatedRefusals, token: str = "bad", client: str = "::1", by: Close = INVALID
) -> float:
    """The delay of a refusal, in seconds."""
    before = trio.current_time()
    await table.delay(token, client, by, trio.sleep_forever)
    return trio.current_time() - before


async def test_a_client_that_retries_each_second_waits_almost_the_handshakes_time(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first refusals are immediate; later ones are delayed, so the client gets one in nine seconds."""
    table = new_table()
    delays = []
    for _ in range(20):
        delays.append(await refuse(table))
        await trio.sleep(1)
    assert delays[:3] == [0, 0, 0]
    assert delays[4:] == [pytest.approx(8)] * 16


async def test_a_rare_client_is_refused_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """A client that connects rarely, or after growing pauses, is not delayed."""
    table = new_table()
    for _ in range(20):
        assert await refuse(table) == 0
        await trio.sleep(10)


async def test_each_token_is_counted_separately(autojump_clock: trio.testing.MockClock) -> None:
    """Each token and reason is counted separately; without a token, each IPv4 address or IPv6 /64."""
    table = new_table()
    for _ in range(5):
        await refuse(table)
        await refuse(table, token="", client="2001:db8::1")
    assert await refuse(table, token="other") == 0
    assert await refuse(table, by=EXPIRED) == 0
    assert await refuse(table, token="", client="192.0.2.1") == 0
    assert await refuse(table, token="", client="2001:db8::2") > 0


async def test_a_disconnect_ends_the_delay(autojump_clock: trio.testing.MockClock) -> None:
    """A disconnect ends the delay, and releases the handshake."""
    table = new_table()
    before = trio.current_time()
    for _ in range(6):
        await table.delay("bad", "::1", INVALID, trio.lowlevel.checkpoint)
    assert trio.current_time() == before


async def test_delays_are_bounded_in_number(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a bounded number of handshakes is delayed; further ones are refused at once."""
    monkeypatch.setattr(refusals, "WAITING", 5)
    table = new_table()
    delays: list[float] = []

    async def one() -> None:
        delays.append(await refuse(table))

    for _ in range(2):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
    assert [delay > 0 for delay in sorted(delays)] == [False] * 30 + [True] * 10


async def test_the_memory_is_bounded(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any number of tokens, the latest are remembered, each by a hash."""
    monkeypatch.setattr(refusals, "TOKENS", 50)
    monkeypatch.setattr(refusals, "REPEATING", 10)
    table = new_table()
    for number in range(500):
        for _ in range(4):
            await table.delay(f"token {number}", "::1", INVALID, trio.lowlevel.checkpoint)
    assert len(table._throttles._buckets) <= 50
    assert len(table._repeated) == 10
    assert "token" not in repr([*table._throttles._buckets, *table._repeated]).replace("refused_socket", "")


async def test_repeated_refusals_are_logged_once_a_minute(autojump_clock: trio.testing.MockClock) -> None:
    """The first repeated refusal is logged, and then, each minute, the number of refusals."""
    table = new_table()
    with structlog.testing.capture_logs() as logged:
        for _ in range(3 + 100):
            await table.delay("secret", "192.0.2.1", INVALID, trio.lowlevel.checkpoint)
            await trio.sleep(1)
    lines = [line for line in logged if line["event"] == "Sockets are refused again and again"]
    assert [line["times"] for line in lines] == [1, 60]
    assert (lines[0]["client"], lines[0]["reason"]) == ("192.0.2.1", "token_invalid")
    assert "secret" not in str(logged)


async def test_the_last_refusals_are_logged_when_their_minute_is_over(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A client that stops coming leaves a line with its last refusals; a server that stops leaves one too."""
    table = new_table()
    nursery.start_soon(table.keep_logging)
    with structlog.testing.capture_logs() as logged:
        for _ in range(3 + 10):
            await table.delay("bad", "192.0.2.1", INVALID, trio.lowlevel.checkpoint)
        await trio.sleep(refusals.LOG_EVERY + refusals.CHECK_EVERY)
        assert [line["times"] for line in logged] == [1, 9]
        await trio.sleep(2 * refusals.LOG_EVERY)
        assert (len(logged), table._repeated) == (2, {})
        for _ in range(3 + 2):
            await table.delay("other", "192.0.2.1", INVALID, trio.lowlevel.checkpoint)
        nursery.cancel_scope.cancel()
        await trio.lowlevel.cancel_shielded_checkpoint()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
    assert [line["times"] for line in logged] == [1, 9, 1, 1]


async def test_delayed_and_immediate_refusals_are_equal() -> None:
    """Every refusal closes an open socket with 1008 and a reason; a valid token is never delayed."""
    limits = Limits(refused_socket_rate=Rate(0.001, 3))
    listener = ListenerConfig(handshake_time=0.5)
    with structlog.testing.capture_logs() as logged:
        async with serving(limits, listener=listener, rate_limits=True) as server, browser(server) as http:
            alice = await register(server, http, "Alice")
            for _ in range(6):
                async with open_socket(server, "?token=garbage") as socket:
                    assert await socket.closed() == (1008, "token_invalid")
            async with alice.socket() as socket:
                await socket.connection.ping()
    assert count(logged, "request", status=101) == 3 + 1
    assert count(logged, "socket_closed", code=1008) == 3
    assert count(logged, "Sockets are refused again and again", times=1) == 1


def count(logged: list[Any], event: str, **values: object) -> int:
    lines = [line for line in logged if line["event"] == event]
    return sum(all(line[name] == value for name, value in values.items()) for line in lines)

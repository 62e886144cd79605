"""The last response on a connection is equal on both ways, whichever side ends it."""

from typing import Any

import pytest
import trio
import trio.testing

from tests.server.calls import Scene
from tests.server.clients import expect
from tests.server.quick_path.both_ways import ANOTHER_FORM, ExactResponse, Line, get, line_to
from tests.server.servers import ServerHere


async def test_a_last_request_gets_equal_responses(
    server: ServerHere, quick: list[str], scene: Scene
) -> None:
    """A request with `Connection: close`, as of probes, takes the quick path, with an equal response."""
    request = get(scene.alice, "/users/me")
    quick.clear()
    async with line_to(server, quick) as one, line_to(server, quick) as two:
        plain = await one.response(request, ("Connection", "close"))
        other = await two.response(request, ("Connection", "close, x"))
        assert (await one.peer.end(), await two.peer.end()) == (b"", b"")
    assert quick == ["GET /api/v1/users/me"]
    assert plain.value(b"Connection") == b"close"
    assert plain == other


async def test_at_shutdown_the_responses_are_equal(
    server: ServerHere, quick: list[str], scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request in flight gets its response with `connection: close`, in the same place."""
    request = get(scene.alice, "/users/me")
    expect(await scene.alice.ask("GET", "/users/me"), 200)
    quick.clear()
    going_on, begun, read = trio.Event(), list[int](), server.messaging.read

    async def slow(query: Any) -> Any:
        begun.append(1)
        await going_on.wait()
        return await read(query)

    monkeypatch.setattr(server.messaging, "read", slow)
    responses = dict[str, ExactResponse]()

    async def ask(way: str, line: Line, *more: tuple[str, str]) -> None:
        responses[way] = await line.response(request, *more)

    async with line_to(server, quick) as one, line_to(server, quick) as two, trio.open_nursery() as nursery:
        nursery.start_soon(ask, "plain", one)
        nursery.start_soon(ask, "other", two, ANOTHER_FORM)
        while len(begun) < 2:
            await trio.lowlevel.checkpoint()
        server.shutdown.set()
        await trio.testing.wait_all_tasks_blocked()
        going_on.set()
    assert len(quick) == 1
    assert responses["plain"].value(b"connection") == b"close"
    assert responses["plain"] == responses["other"]

"""Only a few large pages are in memory at a time, on either way."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from adapters.http_api.dispatch import LARGE_READS
from tests.server.calls import Scene
from tests.server.clients import expect
from tests.server.quick_path.both_ways import ANOTHER_FORM, get, line_to
from tests.server.servers import ServerHere


async def test_only_a_few_large_pages_are_read_at_a_time(
    server: ServerHere, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large page takes megabytes until its response is sent; pages of usual size do not wait for it."""
    expect(await scene.alice.ask("GET", "/users/me"), 200)
    read, reading, going_on = server.messaging.read, list[int](), trio.Event()
    statuses = list[int]()

    async def held(query: Any) -> Any:
        reading.append(1)
        await going_on.wait()
        return await read(query)

    async def ask(number: int) -> None:
        async with line_to(server, []) as line:
            more = (ANOTHER_FORM,) if number % 2 else ()
            target = f"/messages?chat_id={scene.chat}&limit=200"
            statuses.append((await line.response(get(scene.alice, target), *more)).status)

    async with trio.open_nursery() as nursery:
        with monkeypatch.context() as patch:
            patch.setattr(server.messaging, "read", held)
            for number in range(LARGE_READS + 3):
                nursery.start_soon(ask, number)
            while len(reading) < LARGE_READS:
                await trio.lowlevel.checkpoint()
            await wait_all_tasks_blocked(0.05)
            assert len(reading) == LARGE_READS
        usual = await scene.alice.ask("GET", f"/messages?chat_id={scene.chat}&limit=50")
        assert usual.status_code == 200
        going_on.set()
    assert statuses == [200] * (LARGE_READS + 3)

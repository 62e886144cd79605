"""The quick path changes no response: each request is sent both ways, and the bytes are compared."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from adapters.http_api.api import Route
from tests.server.quick_path.both_ways import Line, line_to
from tests.server.servers import ServerHere


@pytest.fixture
def quick() -> Iterator[list[str]]:
    """The requests that take the quick path."""
    taken, respond = list[str](), Route.respond

    async def noted(route: Route, request: Any) -> Any:
        taken.append(f"{request.method} {request.path}")
        return await respond(route, request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Route, "respond", noted)
        yield taken


@pytest.fixture
async def line(server: ServerHere, quick: list[str]) -> AsyncIterator[Line]:
    async with line_to(server, quick) as line:
        yield line

"""The frontend's checklist: its rows, by number, over a real port with real clients."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.patience import PATIENCE
from tests.server.clients import ORIGIN
from tests.server.servers import ServerHere


@pytest.fixture(params=[True, False], ids=["quick path", "framework"])
def quick_path(request: pytest.FixtureRequest) -> bool:
    """The contract holds on both ways: through the framework and on the quick path."""
    return bool(request.param)


@pytest.fixture
async def stranger(server: ServerHere) -> AsyncIterator[httpx.AsyncClient]:
    """A client on a page of another origin."""
    async with httpx.AsyncClient(
        base_url=server.address,
        headers={"Origin": ORIGIN},
        timeout=PATIENCE,
        verify=False,  # noqa: S501
    ) as client:
        yield client

"""A server in this process, its clients, and two users who have a chat."""

from collections.abc import AsyncIterator

import httpx
import pytest

from adapters.listener import ListenerConfig
from tests.server.calls import Scene, scene_of
from tests.server.clients import Person, browser, register
from tests.server.servers import ServerHere, serving


@pytest.fixture
def quick_path() -> bool:
    """Whether requests may take the quick path; a module of tests for both ways overrides it."""
    return True


@pytest.fixture
async def server(quick_path: bool) -> AsyncIterator[ServerHere]:
    """A fresh server with the default settings, but without rate limits."""
    async with serving(listener=ListenerConfig(quick_path=quick_path)) as running:
        yield running


@pytest.fixture
async def http(server: ServerHere) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API that is not logged in."""
    async with browser(server) as client:
        yield client


@pytest.fixture
async def alice(server: ServerHere, http: httpx.AsyncClient) -> Person:
    return await register(server, http, "Alice")


@pytest.fixture
async def bob(server: ServerHere, http: httpx.AsyncClient, alice: Person) -> Person:
    """Always the second user."""
    return await register(server, http, "Bob")


@pytest.fixture
async def chat(alice: Person, bob: Person) -> int:
    """Alice's and Bob's direct chat."""
    return await alice.direct_chat_with(bob)


@pytest.fixture
async def scene(alice: Person, bob: Person, chat: int) -> Scene:
    """Alice, Bob, their chat, a message of Alice's in it, and two groups of hers."""
    return await scene_of(alice, bob, chat)

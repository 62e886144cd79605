"""Bad input is refused with the right error and changes nothing, and the server goes on.

`clients.browser` checks every response: none is a 5xx, and each error has its form.
"""

import pytest

from tests.server.calls import Scene
from tests.server.clients import expect


@pytest.fixture
async def scene(scene: Scene) -> Scene:
    """The scene after Bob's first request, whose token changes the state."""
    expect(await scene.bob.ask("GET", "/users/me"), 200)
    return scene

"""Whatever comes in, the answer is a clear refusal, nothing is half-done, and the server goes on.

That no answer is a 5xx, and that each error has its form, is checked of every answer by `clients.browser`.
"""

import pytest

from tests.server.calls import Scene
from tests.server.clients import expect


@pytest.fixture
async def scene(scene: Scene) -> Scene:
    """The scene, when what the first use of a token changes has changed."""
    expect(await scene.bob.ask("GET", "/users/me"), 200)
    return scene

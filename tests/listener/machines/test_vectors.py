"""Each HTTP/1.1 shape gets from the machines what it gets from a server, at once."""

from typing import Any

import pytest

from tests.listener.http_vectors import VECTORS, play, segment
from tests.listener.machines.driver import machine_peer


@pytest.mark.parametrize("whole", [False, True], ids=["through h11", "whole"])
@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_a_shape_gets_what_it_must(vector: dict[str, Any], whole: bool) -> None:
    """The vectors of the server's tests, whichever way requests take."""
    peer, connection = machine_peer(whole=whole, **vector.get("numbers", {}))
    await play(vector, peer)
    if vector["then"] == "open":
        assert ("/another" in connection.responded_whole) == whole


@pytest.mark.parametrize("whole", [False, True], ids=["through h11", "whole"])
@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_the_segments_make_no_difference(vector: dict[str, Any], whole: bool) -> None:
    """A shape that arrives byte by byte, or in a thousand segments, gets the same."""
    peer, _ = machine_peer(whole=whole, **vector.get("numbers", {}))
    text = b"".join(map(segment, vector["send"])).decode("latin-1")
    step = 1 + len(text) // 1000
    await play(vector | {"send": [text[n : n + step] for n in range(0, len(text), step)]}, peer)

"""Each HTTP/1.1 shape gets what it must, whichever way requests take, through ASGI or whole."""

from typing import Any

import pytest

from adapters.http_api.exchange import HttpRequest, HttpResponse
from tests.listener.harness import WholeFor, connected, echo, echo_whole, serving
from tests.listener.http_vectors import VECTORS, play


@pytest.mark.parametrize("whole", [False, True], ids=["through ASGI", "whole"])
@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_a_shape_gets_what_it_must(vector: dict[str, Any], whole: bool) -> None:
    """From a server, over a real connection."""
    targets: list[str] = []

    async def echo_noted(asked: HttpRequest) -> HttpResponse:
        targets.append(asked.path)
        return await echo_whole(asked)

    offered = WholeFor(echo_noted) if whole else None
    async with (
        serving(echo, whole_requests=offered, **vector.get("numbers", {})) as served,
        connected(served) as peer,
    ):
        await play(vector, peer)
        if vector["then"] == "open":
            assert ("/another" in targets) == whole


def test_every_vector_has_a_name_of_its_own() -> None:
    names = [vector["name"] for vector in VECTORS]
    assert len(names) == len(set(names))

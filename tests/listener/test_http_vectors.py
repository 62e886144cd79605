"""HTTP/1.1 shapes that servers and proxies read differently, and what each must get: `http_vectors.toml`.

Each must get it whichever way requests take, through ASGI or whole.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from adapters.http_api.exchange import HttpAnswer, HttpRequest
from tests.listener.harness import WholeFor, connected, echo, echo_whole, serving

VECTORS = tomllib.loads(Path(__file__).with_name("http_vectors.toml").read_text())["vector"]
ANOTHER = b"GET /another HTTP/1.1\r\nHost: test\r\n\r\n"


def segment(text: str) -> bytes:
    """A segment's bytes; `{x*3}` stands for xxx."""
    repeated = re.sub(r"\{([^{}]*)\*(\d+)\}", lambda found: found[1] * int(found[2]), text)
    return repeated.encode("latin-1")


@pytest.mark.parametrize("whole", [False, True], ids=["through ASGI", "whole"])
@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_a_shape_gets_what_it_must(vector: dict[str, Any], whole: bool) -> None:
    targets: list[str] = []

    async def echo_noted(asked: HttpRequest) -> HttpAnswer:
        targets.append(asked.path)
        return await echo_whole(asked)

    offered = WholeFor(echo_noted) if whole else None
    async with (
        serving(echo, whole_requests=offered, **vector.get("numbers", {})) as served,
        connected(served) as peer,
    ):
        await peer.send(*map(segment, vector["send"]))
        if vector.get("half_close"):
            await peer.half_close()
        heads = vector.get("heads", 0)
        answers = [await peer.answer(head=n < heads) for n in range(len(vector["statuses"]))]
        assert [answer.status for answer in answers] == vector["statuses"]
        if "bodies" in vector:
            assert [answer.body.decode() for answer in answers] == vector["bodies"]
        for answer in answers:
            if answer.status >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["connection"] == "close"
        if vector["then"] == "closed":
            assert await peer.end() == b""
        else:
            assert (await peer.ask(ANOTHER)).body == b"GET /another? "
            assert ("/another" in targets) == whole


def test_every_vector_has_a_name_of_its_own() -> None:
    names = [vector["name"] for vector in VECTORS]
    assert len(names) == len(set(names))

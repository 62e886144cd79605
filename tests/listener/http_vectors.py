"""HTTP/1.1 shapes that servers and proxies read differently, and what each must get: `http_vectors.toml`."""

import re
import tomllib
from pathlib import Path
from typing import Any

from tests.listener.harness import RawPeer

VECTORS = tomllib.loads(Path(__file__).with_name("http_vectors.toml").read_text())["vector"]
ANOTHER = b"GET /another HTTP/1.1\r\nHost: test\r\n\r\n"


def segment(text: str) -> bytes:
    """A segment's bytes; `{x*3}` stands for xxx."""
    repeated = re.sub(r"\{([^{}]*)\*(\d+)\}", lambda found: found[1] * int(found[2]), text)
    return repeated.encode("latin-1")


async def play(vector: dict[str, Any], peer: RawPeer) -> None:
    """Send a vector's segments, and check what the peer gets."""
    await peer.send(*map(segment, vector["send"]))
    if vector.get("half_close"):
        await peer.half_close()
    heads = vector.get("heads", 0)
    responses = [await peer.response(head=n < heads) for n in range(len(vector["statuses"]))]
    assert [response.status for response in responses] == vector["statuses"]
    if "bodies" in vector:
        assert [response.body.decode() for response in responses] == vector["bodies"]
    for response in responses:
        if response.status >= 400:
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["connection"] == "close"
    if vector["then"] == "closed":
        assert await peer.end() == b""
    else:
        assert (await peer.ask(ANOTHER)).body == b"GET /another? "

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

"""The body of a whole request: it may arrive in pieces, and has its limits."""

from typing import Any

import pytest

from adapters.listener.whole_requests import MAX_BODY
from tests.listener.harness import WholeFor, connected, echo, serving
from tests.listener.whole_requests.both_ways import GET, SAYS, post, say_whole


@pytest.mark.parametrize(
    "parts",
    [
        [post(5) + b"Hello"],
        [post(5), b"Hello"],
        [post(5) + b"H", b"el", b"lo"],
        [bytes([byte]) for byte in post(5) + b"Hello"],
    ],
    ids=["one segment", "head and body", "in between", "byte by byte"],
)
async def test_a_body_may_arrive_in_pieces(parts: list[bytes]) -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        for _ in range(2):
            assert (await peer.ask(*parts)).body == b"whole POST /a? Hello"
        assert served.counts.requests == 2


async def test_a_body_is_bytes() -> None:
    """Blank lines, and text in the form of a request, are its content."""
    body = b"\r\n\r\n" + GET + bytes(range(256))
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        assert (await peer.ask(post(len(body)) + body + GET)).body == b"whole POST /a? " + body
        assert (await peer.response()).body == b"whole GET /a? "


async def test_a_get_may_have_a_body() -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        head = b"GET /a HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n"
        assert (await peer.ask(head + b"xy" + GET)).body == b"whole GET /a? xy"
        assert (await peer.response()).body == b"whole GET /a? "


@pytest.mark.parametrize(
    ("bound", "offered", "numbers"),
    [
        (MAX_BODY, SAYS, {}),
        (1000, WholeFor(say_whole, body_bytes=1000), {}),
        (1000, SAYS, {"body_bytes": 1000, "refusal_time": 0.1}),
    ],
    ids=["the listener's own", "the application's", "the configured one"],
)
async def test_a_large_body_goes_through_asgi(bound: int, offered: WholeFor, numbers: dict[str, Any]) -> None:
    """The smallest of the limits decides."""
    async with serving(echo, whole_requests=offered, **numbers) as served, connected(served) as peer:
        assert (await peer.ask(post(bound), b"x" * bound)).body == b"whole POST /a? " + b"x" * bound
        body = b"x" * (bound + 1)
        response = await peer.ask(post(bound + 1), body)
        if "body_bytes" in numbers:
            assert response.status == 413
        else:
            assert response.body == b"POST /a? " + body


async def test_an_end_within_a_body_is_a_400() -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        await peer.send(post(5) + b"Hell")
        await peer.half_close()
        assert (await peer.response()).status == 400
        assert await peer.end() == b""


@pytest.mark.parametrize("numbers", [{"body_idle_time": 0.2}, {"body_time": 0.2}])
@pytest.mark.parametrize("before", [b"", GET])
async def test_a_body_has_a_timeout(before: bytes, numbers: dict[str, Any]) -> None:
    """For a pause and for all of it: 408, in the first request as in a later one."""
    async with serving(echo, whole_requests=SAYS, **numbers) as served, connected(served) as peer:
        if before:
            await peer.ask(before)
        response = await peer.ask(post(5), b"Hell")
        assert (response.status, response.headers["content-type"]) == (408, "application/problem+json")
        assert await peer.end() == b""
        assert served.counts.timeouts == 1

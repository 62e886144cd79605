"""Whole requests, and the same ones through ASGI."""

from adapters.http_api.exchange import HttpRequest, HttpResponse
from tests.listener.harness import RawPeer, WholeFor

GET = b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n"
THROUGH_ASGI = b"GET /a HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n"
"""The same, in a form that always goes through ASGI."""


def post(size: int, *fields: bytes, path: bytes = b"/a") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: test", b"Content-Length: %d" % size, *fields, b"\r\n"]
    return b"\r\n".join(lines)


async def say_whole(asked: HttpRequest) -> HttpResponse:
    """Gives the responses of `echo`, marked as its own."""
    return HttpResponse(
        200, f"whole {asked.method} {asked.path}?{asked.query.decode()} ".encode() + asked.body
    )


SAYS = WholeFor(say_whole)


async def failing(asked: HttpRequest) -> HttpResponse:
    raise RuntimeError("a bug")


async def both(
    peer: RawPeer, method: bytes = b"GET", *, path: bytes = b"/a", fields: tuple[bytes, ...] = ()
) -> list[list[bytes]]:
    """The lines of the two responses to a request, without the date; the body is the last line."""
    responses = list[list[bytes]]()
    for way in ((), (b"TE: trailers",)):
        lines = [method + b" " + path + b" HTTP/1.1", b"Host: test", *fields, *way, b"\r\n"]
        await peer.send(b"\r\n".join(lines))
        lines = (await peer.until(b"\r\n\r\n")).split(b"\r\n")[:-2]
        lengths = [int(line.split()[1]) for line in lines if line.startswith(b"content-length")]
        body = b"" if method == b"HEAD" else await peer.exactly(sum(lengths))
        responses.append([line for line in lines if not line.startswith(b"date: ")] + [body])
        assert len(lines) == len(responses[-1]), "one Date"
    return responses

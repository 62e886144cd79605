"""Requests that are answered whole and the same ones through ASGI, and who answers them."""

from adapters.listener.whole_requests import WholeRequest
from tests.listener.harness import PlainAnswer, RawPeer, WholeFor

GET = b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n"
THROUGH_ASGI = b"GET /a HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n"
"""The same, in a form that is never answered whole."""


def post(size: int, *fields: bytes, path: bytes = b"/a") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: test", b"Content-Length: %d" % size, *fields, b"\r\n"]
    return b"\r\n".join(lines)


async def say_whole(asked: WholeRequest) -> PlainAnswer:
    """Answers as `echo` does, and that it was this one."""
    return PlainAnswer(
        200, f"whole {asked.method} {asked.path}?{asked.query.decode()} ".encode() + asked.body
    )


SAYS = WholeFor(say_whole)


async def failing(asked: WholeRequest) -> PlainAnswer:
    raise RuntimeError("a bug")


async def both(
    peer: RawPeer, method: bytes = b"GET", *, path: bytes = b"/a", fields: tuple[bytes, ...] = ()
) -> list[list[bytes]]:
    """The bytes of the two answers to a request, line by line, but for the date; a body is the last line."""
    answers = list[list[bytes]]()
    for way in ((), (b"TE: trailers",)):
        lines = [method + b" " + path + b" HTTP/1.1", b"Host: test", *fields, *way, b"\r\n"]
        await peer.send(b"\r\n".join(lines))
        told = (await peer.until(b"\r\n\r\n")).split(b"\r\n")[:-2]
        lengths = [int(line.split()[1]) for line in told if line.startswith(b"content-length")]
        body = b"" if method == b"HEAD" else await peer.exactly(sum(lengths))
        answers.append([line for line in told if not line.startswith(b"date: ")] + [body])
        assert len(told) == len(answers[-1]), "one Date"
    return answers

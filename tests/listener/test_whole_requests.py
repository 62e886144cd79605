"""Requests that are answered in one call: which ones, and that nobody can tell them from the others."""

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import h11
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from structlog.typing import EventDict

from adapters.listener.answers import Refused
from adapters.listener.head import plain_request, take_head
from adapters.listener.whole_requests import MAX_BODY, Head, WholeRequest, plain_head
from tests.listener.harness import (
    TEXT,
    UPGRADE,
    Answer,
    Gone,
    Peer,
    Served,
    Told,
    Whole,
    application,
    connected,
    echo,
    frame,
    respond,
    serving,
    wait_until,
)

GET = b"GET /a HTTP/1.1\r\nHost: test\r\n\r\n"
THROUGH_ASGI = b"GET /a HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n"
"""The same, in a form that is never answered whole."""


def post(size: int, *fields: bytes, path: bytes = b"/a") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: test", b"Content-Length: %d" % size, *fields, b"\r\n"]
    return b"\r\n".join(lines)


async def say_whole(asked: WholeRequest) -> Told:
    """Answers as `echo` does, and that it was this one."""
    return Told(200, f"whole {asked.method} {asked.path}?{asked.query.decode()} ".encode() + asked.body)


SAYS = Whole(say_whole)


# --- which heads --------------------------------------------------------------------------------------------

HOST = b"Host: test\r\n"

TAKEN: dict[str, tuple[bytes, Head]] = {
    "the plainest": (
        b"GET / HTTP/1.1\r\n" + HOST,
        Head("GET", "/", b"", {"host": "test"}, 0),
    ),
    "a query, escapes and all": (
        b"GET /a/b.c-d_e~f?x=%40&y=/?:@!$'()*+,;z HTTP/1.1\r\n" + HOST,
        Head("GET", "/a/b.c-d_e~f", b"x=%40&y=/?:@!$'()*+,;z", {"host": "test"}, 0),
    ),
    "an empty query": (b"GET /? HTTP/1.1\r\n" + HOST, Head("GET", "/", b"", {"host": "test"}, 0)),
    "a length": (
        b"PATCH / HTTP/1.1\r\n" + HOST + b"Content-Length: 012\r\n",
        Head("PATCH", "/", b"", {"host": "test", "content-length": "012"}, 12),
    ),
    "names in any case, values without the white space around them": (
        b"GET / HTTP/1.1\r\nhOsT:\t test:80 \t\r\nX-A:\r\nX-B:  b  c  \r\n",
        Head("GET", "/", b"", {"host": "test:80", "x-a": "", "x-b": "b  c"}, 0),
    ),
    "a field that comes twice": (
        b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\nY: b\r\nx: \r\nX: c\r\n",
        Head("GET", "/", b"", {"host": "test", "x": "a, , c", "y": "b"}, 0),
    ),
    "bytes above 127": (
        b"GET / HTTP/1.1\r\n" + HOST + b"X: \xa0\xff\x85\r\n",
        Head("GET", "/", b"", {"host": "test", "x": "\xa0\xff\x85"}, 0),
    ),
    "a value with colons": (
        b"GET / HTTP/1.1\r\nHost: [::1]:80\r\nX: :a: b:\r\n",
        Head("GET", "/", b"", {"host": "[::1]:80", "x": ":a: b:"}, 0),
    ),
    "a connection that is kept": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Keep-Alive\r\n",
        Head("GET", "/", b"", {"host": "test", "connection": "Keep-Alive"}, 0),
    ),
    "a connection whose end is asked for": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Close\r\n",
        Head("GET", "/", b"", {"host": "test", "connection": "Close"}, 0, last=True),
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_head_beyond_doubt_is_taken(name: str) -> None:
    head, expected = TAKEN[name]
    assert plain_head(head + b"\r\n") == expected


DECLINED: dict[str, bytes] = {
    "HTTP/1.0 is answered otherwise": b"GET / HTTP/1.0\r\n" + HOST,
    "a version that is none": b"GET / HTTP/1.2\r\n" + HOST,
    "a method in lower case is another": b"get / HTTP/1.1\r\n" + HOST,
    "a method that is no word": b"M-SEARCH / HTTP/1.1\r\n" + HOST,
    "two spaces": b"GET  / HTTP/1.1\r\n" + HOST,
    "a tab": b"GET\t/ HTTP/1.1\r\n" + HOST,
    "a space at the end": b"GET / HTTP/1.1 \r\n" + HOST,
    "no target": b"GET HTTP/1.1\r\n" + HOST,
    "a path with escapes has two spellings": b"GET /%61 HTTP/1.1\r\n" + HOST,
    "absolute form": b"GET http://test/ HTTP/1.1\r\n" + HOST,
    "asterisk form": b"OPTIONS * HTTP/1.1\r\n" + HOST,
    "authority form": b"CONNECT test:80 HTTP/1.1\r\n" + HOST,
    "CONNECT, whatever it is sent to": b"CONNECT / HTTP/1.1\r\n" + HOST,
    "a fragment": b"GET /#a HTTP/1.1\r\n" + HOST,
    "a fragment after a query": b"GET /?a#b HTTP/1.1\r\n" + HOST,
    "a path that is not ASCII": b"GET /\xe4 HTTP/1.1\r\n" + HOST,
    "a query that is no URI's": b"GET /?[x]=<y> HTTP/1.1\r\n" + HOST,
    "a backslash": b"GET /a\\b HTTP/1.1\r\n" + HOST,
    "no Host": b"GET / HTTP/1.1\r\nX: y\r\n",
    "no field at all": b"GET / HTTP/1.1\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST,
    "two Hosts, one empty": b"GET / HTTP/1.1\r\n" + HOST + b"Host:\r\n",
    "a Host that is none": b"GET / HTTP/1.1\r\nHost: a/b\r\n",
    "a Host that is not ASCII": b"GET / HTTP/1.1\r\nHost: \xe4\r\n",
    "a name that is none": b"GET / HTTP/1.1\r\n" + HOST + b"X Y: z\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length : 1\r\n",
    "an empty name": b"GET / HTTP/1.1\r\n" + HOST + b": z\r\n",
    "a name that is not ASCII": b"GET / HTTP/1.1\r\n" + HOST + b"X\xe4: z\r\n",
    "a line without a colon": b"GET / HTTP/1.1\r\n" + HOST + b"nonsense\r\n",
    "a name alone": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length\r\n",
    "the end is asked for in a second field": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: keep-alive\r\nConnection: close\r\n"
    ),
    "a hop's own fields": b"GET / HTTP/1.1\r\n" + HOST + b"Connection: keep-alive, x\r\nX: y\r\n",
    "an empty Connection": b"GET / HTTP/1.1\r\n" + HOST + b"Connection:\r\n",
    "an upgrade": b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\n",
    "an upgrade that is meant": b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    "a chunked body": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n",
    "any coding": b"POST / HTTP/1.1\r\n" + HOST + b"TRANSFER-ENCODING: identity\r\n",
    "a coding and a length": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"
    ),
    "a 100 is awaited": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nExpect: 100-continue\r\n",
    "trailers": b"POST / HTTP/1.1\r\n" + HOST + b"Trailer: X\r\n",
    "trailers that are taken": b"GET / HTTP/1.1\r\n" + HOST + b"TE: trailers\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n",
    "two lengths in one": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n",
    "an empty length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length:\r\n",
    "a signed length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n",
    "a negative length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n",
    "a hexadecimal length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 0x1\r\n",
    "a length with an underscore": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1_0\r\n",
    "a length in other digits": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: \xb2\r\n",
    "a length beyond all bounds": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000\r\n",
}


@pytest.mark.parametrize("reason", DECLINED)
def test_a_head_that_leaves_a_question_open_is_declined(reason: str) -> None:
    """It is h11's to judge, as it was before."""
    assert plain_head(DECLINED[reason] + b"\r\n") is None


NAMES = st.sampled_from(
    [
        "Host",
        "host",
        "Connection",
        "Content-Length",
        "Transfer-Encoding",
        "Upgrade",
        "Expect",
        "TE",
        "X",
        "x-y",
    ]
) | st.text("aZ9-_~ :\xe4", max_size=4)
VALUES = st.sampled_from(
    ["test", "test:1", "[::1]", "keep-alive", "close", "chunked", "0", "7", "00", "1, 1", "", " ", "a, b"]
) | st.text("aA0 \t,:;/@%\xff\xa0\"'", max_size=6)
LINES = st.tuples(NAMES, st.sampled_from([": ", ":", ":\t", " :", ""]), VALUES).map("".join)
TARGETS = st.sampled_from(["/", "/a", "*", "http://a/b", "//a", "/../a", "a"]) | st.text(
    "/a.%~?#=&+;\\\xe4 ", max_size=8
)
HEADS = st.tuples(
    st.sampled_from(["GET", "HEAD", "POST", "CONNECT", "get", "G-T"]),
    st.sampled_from([" ", "  "]),
    TARGETS,
    st.sampled_from([" HTTP/1.1", " HTTP/1.1", " HTTP/1.0", " HTTP/1.1 ", ""]),
    st.lists(LINES, max_size=4).map(lambda lines: "".join(f"\r\n{line}" for line in ["Host: test", *lines])),
).map(lambda parts: "".join(parts).encode("latin-1") + b"\r\n\r\n")


@settings(max_examples=300)
@given(HEADS)
def test_what_is_taken_is_what_h11_reads(head: bytes) -> None:
    """A head that is taken is one that h11 takes too, and it says the same."""
    try:
        taken = take_head(bytearray(head), max_bytes=16_384, max_fields=100)
    except Refused:
        return
    assert taken is not None
    plain = plain_head(taken)
    if plain is None:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(taken)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    target, fields = plain_request(request)
    path, _, query = target.partition(b"?")
    joined: dict[str, str] = {}
    for name, value in fields:
        key, told = name.decode(), value.decode("latin-1")
        joined[key] = f"{joined[key]}, {told}" if key in joined else told
    assert plain == Head(
        request.method.decode(),
        path.decode(),
        query,
        joined,
        int(joined.get("content-length", 0)),
        last="close" in joined.get("connection", "").lower(),
    )
    assert b"%" not in path


# --- bodies -------------------------------------------------------------------------------------------------


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
async def test_a_body_may_come_in_pieces(parts: list[bytes]) -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        for _ in range(2):
            assert (await peer.ask(*parts)).body == b"whole POST /a? Hello"
        assert served.counts.requests == 2


async def test_a_body_is_bytes() -> None:
    """Blank lines, and what looks like a request, are its content."""
    body = b"\r\n\r\n" + GET + bytes(range(256))
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        assert (await peer.ask(post(len(body)) + body + GET)).body == b"whole POST /a? " + body
        assert (await peer.answer()).body == b"whole GET /a? "


async def test_a_get_may_have_a_body() -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        head = b"GET /a HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n"
        assert (await peer.ask(head + b"xy" + GET)).body == b"whole GET /a? xy"
        assert (await peer.answer()).body == b"whole GET /a? "


@pytest.mark.parametrize(
    ("bound", "offered", "numbers"),
    [
        (MAX_BODY, SAYS, {}),
        (1000, Whole(say_whole, body_bytes=1000), {}),
        (1000, SAYS, {"body_bytes": 1000, "refusal_time": 0.1}),
    ],
    ids=["the listener's own", "the application's", "the configured one"],
)
async def test_a_large_body_goes_through_asgi(bound: int, offered: Whole, numbers: dict[str, Any]) -> None:
    """The largest that is awaited whole is that of the smallest bound."""
    async with serving(echo, whole_requests=offered, **numbers) as served, connected(served) as peer:
        assert (await peer.ask(post(bound), b"x" * bound)).body == b"whole POST /a? " + b"x" * bound
        body = b"x" * (bound + 1)
        answer = await peer.ask(post(bound + 1), body)
        if "body_bytes" in numbers:
            assert answer.status == 413
        else:
            assert answer.body == b"POST /a? " + body


async def test_an_end_in_mid_body_is_told() -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        await peer.send(post(5) + b"Hell")
        await peer.half_close()
        assert (await peer.answer()).status == 400
        assert await peer.end() == b""


async def test_the_last_request_is_the_last() -> None:
    """With `Connection: close` it is answered, the connection ends, and what follows it is not served."""
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        answer = await peer.ask(post(1, b"Connection: close") + b"x" + GET)
        assert (answer.body, answer.headers["connection"]) == (b"whole POST /a? x", "close")
        assert await peer.end() == b""
        assert served.counts.requests == 1


async def test_a_half_close_after_a_request_is_none_of_its_business() -> None:
    """The answers come, then the end."""
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        await peer.send(GET + post(1) + b"x")
        await peer.half_close()
        assert (await peer.answer()).body == b"whole GET /a? "
        assert (await peer.answer()).body == b"whole POST /a? x"
        assert await peer.end() == b""


@pytest.mark.parametrize("numbers", [{"body_idle_time": 0.2}, {"body_time": 0.2}])
@pytest.mark.parametrize("before", [b"", GET])
async def test_a_body_has_its_time(before: bytes, numbers: dict[str, Any]) -> None:
    """For a pause as for all of it: 408, in the first request as in a later one."""
    async with serving(echo, whole_requests=SAYS, **numbers) as served, connected(served) as peer:
        if before:
            await peer.ask(before)
        answer = await peer.ask(post(5), b"Hell")
        assert (answer.status, answer.headers["content-type"]) == (408, "application/problem+json")
        assert await peer.end() == b""
        assert served.counts.timeouts == 1


async def test_each_request_has_a_time_of_its_own() -> None:
    """A connection on which requests go on coming is not cut off by the bound of one."""
    async with (
        serving(echo, whole_requests=SAYS, body_time=0.3, head_time=0.3) as served,
        connected(served) as peer,
    ):
        until = trio.current_time() + 0.5
        while trio.current_time() < until:
            assert (await peer.ask(post(1), b"x")).status == 200


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with serving(echo, whole_requests=SAYS, idle_time=0.1) as served, connected(served) as peer:
        await peer.ask(GET)
        assert await peer.end() == b""


# --- one after another --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 50])
async def test_pipelined_requests_are_answered_in_order(number: int) -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        body = b"body"
        await peer.send(b"".join(post(4, path=b"/%d" % n) + body for n in range(number)))
        for n in range(number):
            assert (await peer.answer()).body == b"whole POST /%d? body" % n
        assert served.counts.requests == number


async def test_pipelined_requests_starve_nobody() -> None:
    """Between any two of them others run, though the answers themselves never wait."""
    begun, turns = trio.Event(), list[str]()

    async def answer(asked: WholeRequest) -> Told:
        turns.append("answer")
        begun.set()
        return Told()

    async def other() -> None:
        await begun.wait()
        for _ in range(20):
            turns.append("other")
            await trio.lowlevel.checkpoint()

    async with (
        serving(echo, whole_requests=Whole(answer)) as served,
        connected(served) as peer,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(other)
        await peer.send(GET * 40)
        for _ in range(40):
            await peer.answer()
    assert turns.index("other") <= 2
    assert turns[: turns.index("other") + 40].count("other") > 15


async def test_no_request_overtakes_another() -> None:
    """While one is answered the next waits, in the kernel if there are many."""
    going_on, begun = trio.Event(), list[str]()

    async def answer(asked: WholeRequest) -> Told:
        begun.append(asked.path)
        await going_on.wait()
        return await say_whole(asked)

    async with serving(echo, whole_requests=Whole(answer)) as served, connected(served) as peer:
        await peer.send(post(0, path=b"/1") + post(0, path=b"/2"))
        await wait_until(lambda: bool(begun))
        await trio.testing.wait_all_tasks_blocked()
        assert begun == ["/1"]
        going_on.set()
        assert [(await peer.answer()).body for _ in range(2)] == [b"whole POST /1? ", b"whole POST /2? "]


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("first", [0, 1])
async def test_the_two_ways_take_turns_on_one_connection(first: int, pipelined: bool) -> None:
    """In either order, with and without bodies, many times."""
    requests, expected = list[bytes](), list[bytes]()
    for n in range(40):
        short = n % 2 == first
        field = b"X: y" if short else b"TE: trailers"
        requests.append(post(n, field, path=b"/%d" % n) + b"x" * n)
        expected.append(b"whole " * short + b"POST /%d? " % n + b"x" * n)
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        if pipelined:
            await peer.send(b"".join(requests))
            answered = [(await peer.answer()).body for _ in requests]
        else:
            answered = [(await peer.ask(request)).body for request in requests]
        assert answered == expected
        assert served.counts.requests == len(requests)


async def test_a_socket_may_follow() -> None:
    """A handshake on a connection that has had whole requests, in one segment with the last of them."""
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        assert (await peer.ask(GET)).status == 200
        await peer.send(GET + UPGRADE + b"\r\n" + frame(TEXT, b"hi"))
        assert (await peer.answer()).body == b"whole GET /a? "
        assert (await peer.answer()).status == 101
        assert (await peer.frame()).payload == b"hi"


async def test_nonsense_after_a_request_is_refused_after_its_answer() -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        await peer.send(GET + b"\x00\x01\r\n\r\n")
        assert (await peer.answer()).status == 200
        assert (await peer.answer()).status == 400
        assert await peer.end() == b""
        assert (served.counts.requests, served.counts.bad_requests) == (1, 1)


async def test_a_path_that_nobody_answers_whole_goes_through_asgi() -> None:
    async with serving(echo, whole_requests=Whole(say_whole, path="/a")) as served, connected(served) as peer:
        assert (await peer.ask(GET)).body == b"whole GET /a? "
        assert (await peer.ask(post(2, path=b"/b"), b"xy")).body == b"POST /b? xy"


async def test_a_100_comes_before_the_body() -> None:
    """`Expect: 100-continue` goes through ASGI: the body is asked for."""
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        assert (await peer.ask(post(2, b"Expect: 100-continue"))).status == 100
        assert (await peer.ask(b"xy")).body == b"POST /a? xy"
        assert (await peer.ask(GET)).body == b"whole GET /a? "


# --- answers ------------------------------------------------------------------------------------------------


async def both(
    peer: Peer, method: bytes = b"GET", *, path: bytes = b"/a", fields: tuple[bytes, ...] = ()
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


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"Hello"), (200, b""), (201, b"\xff\x00\r\n\r\n"), (204, b""), (404, b"{}"), (500, b"x")],
)
async def test_an_answer_is_the_same_bytes_both_ways(status: int, body: bytes) -> None:
    """In the same order, with one Date; without a length where there can be no body."""
    fields = (("content-type", "text/plain"), ("x-y", ""), ("vary", "a"), ("vary", "b\xff"))

    async def answer(asked: WholeRequest) -> Told:
        return Told(status, body, fields)

    async def through_asgi(scope: Any, receive: Any, send: Any) -> None:
        length = [] if status == 204 else [(b"content-length", b"%d" % len(body))]
        told = [(name.encode(), value.encode("latin-1")) for name, value in fields]
        await send({"type": "http.response.start", "status": status, "headers": [*length, *told]})
        await send({"type": "http.response.body", "body": body})

    app = application(http=through_asgi)
    async with serving(app, whole_requests=Whole(answer)) as served, connected(served) as peer:
        short, long = await both(peer)
        assert short == long
        assert short[-1] == body


async def test_the_answer_to_a_head_has_no_body() -> None:
    """Whatever the application says: it would be taken for the next answer's beginning."""
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        await peer.send(b"HEAD /a HTTP/1.1\r\nHost: test\r\n\r\n" + GET)
        assert (await peer.answer(head=True)).status == 200
        assert (await peer.answer()).body == b"whole GET /a? "


async def test_the_date_is_the_present() -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        dates = [(await peer.ask(request)).headers["date"] for request in (GET, THROUGH_ASGI, GET)]
    assert len(set(dates)) <= 2
    assert all(date.endswith(" GMT") for date in dates)


async def test_the_application_sees_who_asks_what() -> None:
    seen = list[WholeRequest]()

    async def answer(asked: WholeRequest) -> Told:
        seen.append(asked)
        return Told()

    async with serving(echo, whole_requests=Whole(answer)) as served, connected(served) as peer:
        await peer.ask(b"PUT /a?b=%20 HTTP/1.1\r\nHost: test\r\nX: 1\r\nx: 2\r\nContent-Length: 1\r\n\r\n!")
    fields = {"host": "test", "x": "1, 2", "content-length": "1"}
    assert seen == [WholeRequest("PUT", "/a", b"b=%20", fields, b"!", "127.0.0.1")]


async def test_a_large_answer_arrives_whole_at_a_slow_reader() -> None:
    """What the kernel does not take at once follows, then the next answer."""
    large = bytes(range(256)) * 20_000

    async def answer(asked: WholeRequest) -> Told:
        return Told(200, large)

    async with (
        serving(echo, whole_requests=Whole(answer)) as served,
        connected(served, receive_buffer=4096) as peer,
    ):
        await peer.send(GET + GET + THROUGH_ASGI)
        assert [(await peer.answer()).body == large for _ in range(2)] == [True, True]
        assert (await peer.answer()).body == b"GET /a? "


async def test_a_peer_that_does_not_read_is_cut_off() -> None:
    """Each 64 KiB has `write_time`; the requests that it has sent beside are not answered any more."""
    answered = list[str]()

    async def answer(asked: WholeRequest) -> Told:
        answered.append(asked.path)
        return Told(200, b"x" * 10_000_000)

    async with (
        serving(echo, whole_requests=Whole(answer), write_time=0.2) as served,
        connected(served, receive_buffer=4096) as peer,
    ):
        await peer.send(GET * 3)
        await wait_until(lambda: served.counts.write_timeouts == 1)
        await wait_until(lambda: served.counts.open_connections == 0)
        assert answered == ["/a"]


# --- failures -----------------------------------------------------------------------------------------------


async def failing(asked: WholeRequest) -> Told:
    raise RuntimeError("a bug")


async def test_an_exception_is_a_500_and_is_logged() -> None:
    """It ends its connection and nothing else; the log tells the path, and not the query."""
    with capture_logs() as logs:
        async with (
            serving(echo, whole_requests=Whole(failing, path="/a")) as served,
            connected(served) as other,
            connected(served) as peer,
        ):
            answer = await peer.ask(b"GET /a?token=secret HTTP/1.1\r\nHost: test\r\n\r\n" + GET)
            assert (answer.status, answer.headers["connection"]) == (500, "close")
            assert answer.headers["content-type"] == "application/problem+json"
            assert await peer.end() == b""
            assert served.counts.application_errors == 1
            assert (await other.ask(post(0, path=b"/b"))).status == 200
    (failed,) = [line for line in logs if line["event"] == "application_failed"]
    assert failed["path"] == "/a"
    assert "secret" not in str(logs)


async def test_several_exceptions_are_contained_as_well() -> None:
    """As those of a nursery."""

    async def answer(asked: WholeRequest) -> Told:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing, asked)
            nursery.start_soon(failing, asked)
        return Told()

    async with serving(echo, whole_requests=Whole(answer)) as served, connected(served) as peer:
        assert (await peer.ask(GET)).status == 500
        assert await peer.end() == b""
        assert served.counts.application_errors == 1


@pytest.mark.parametrize(
    "told",
    [
        Told(fields=(("x", "\u20ac"),)),
        Told(fields=(("x", "y\r\nset-cookie: z"),)),
        Told(fields=(("x\r\ny", "z"),)),
    ],
    ids=["not ISO 8859-1", "a line break in a value", "a line break in a name"],
)
async def test_an_answer_that_cannot_be_written_is_the_applications_failure(told: Told) -> None:
    """As through ASGI: a 500, and no fault of the listener's; a header's value can begin no other."""

    async def answer(asked: WholeRequest) -> Told:
        return told

    async with serving(echo, whole_requests=Whole(answer)) as served, connected(served) as peer:
        answered = await peer.ask(GET)
        assert answered.status == 500
        assert "set-cookie" not in answered.headers
        assert served.counts.application_errors == 1


async def reset(peer: Peer) -> None:
    """Vanish as a peer does whose process is killed with bytes unread."""
    plain = peer.stream.socket
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await peer.stream.aclose()


Leave = Callable[[Peer], Awaitable[None]]


async def close(peer: Peer) -> None:
    await peer.stream.aclose()


@pytest.mark.parametrize("leave", [reset, close])
@pytest.mark.parametrize("size", [2, 10_000_000])
async def test_a_peer_may_vanish_before_its_answer(leave: Leave, size: int) -> None:
    """The answer goes nowhere, and nobody else is concerned."""
    begun, going_on = trio.Event(), trio.Event()

    async def answer(asked: WholeRequest) -> Told:
        begun.set()
        await going_on.wait()
        return Told(200, b"x" * size)

    async with serving(echo, whole_requests=Whole(answer, path="/a")) as served, connected(served) as other:
        async with connected(served) as peer:
            await peer.send(GET)
            await begun.wait()
            await leave(peer)
        going_on.set()
        await wait_until(lambda: served.counts.open_connections == 1)
        assert (await other.ask(post(0, path=b"/b"))).status == 200


async def test_an_answer_that_nobody_waits_for_is_not_cut_short() -> None:
    """Its reader notices when it writes; the server's end does not wait for that longer than `drain_time`."""
    begun, cancelled = trio.Event(), trio.Event()

    async def answer(asked: WholeRequest) -> Told:
        begun.set()
        try:
            await trio.Event().wait()
        finally:
            cancelled.set()
        return Told()

    async with serving(echo, whole_requests=Whole(answer), drain_time=0.2) as served:
        async with connected(served) as peer:
            await peer.send(GET)
            await begun.wait()
            await reset(peer)
        assert not cancelled.is_set()
    assert cancelled.is_set()


# --- the end ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def waiting() -> AsyncIterator[tuple[Served, Peer, trio.Event]]:
    """A peer whose request is being answered, once the event is set."""
    begun, going_on = trio.Event(), trio.Event()

    async def answer(asked: WholeRequest) -> Told:
        begun.set()
        await going_on.wait()
        return await say_whole(asked)

    async with (
        serving(echo, whole_requests=Whole(answer), drain_time=0.5) as served,
        connected(served) as peer,
    ):
        await peer.send(GET + GET)
        await begun.wait()
        yield served, peer, going_on


async def test_at_the_end_an_idle_connection_closes() -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        await peer.ask(GET)
        served.shutdown.set()
        assert await peer.end() == b""


async def test_at_the_end_a_request_in_flight_is_answered() -> None:
    """With `Connection: close`, and what follows it is not served."""
    async with waiting() as (served, peer, going_on):
        served.shutdown.set()
        await trio.testing.wait_all_tasks_blocked()
        going_on.set()
        answer = await peer.answer()
        assert (answer.body, answer.headers["connection"]) == (b"whole GET /a? ", "close")
        assert await peer.end() == b""
        assert served.counts.requests == 1


async def test_at_the_end_a_body_may_still_come() -> None:
    async with serving(echo, whole_requests=SAYS) as served, connected(served) as peer:
        await peer.send(post(5) + b"Hell")
        await wait_until(lambda: served.counts.open_connections == 1)
        await trio.testing.wait_all_tasks_blocked()
        served.shutdown.set()
        await trio.testing.wait_all_tasks_blocked()
        answer = await peer.ask(b"o")
        assert (answer.body, answer.headers["connection"]) == (b"whole POST /a? Hello", "close")
        assert await peer.end() == b""


async def test_the_end_is_delayed_by_no_answer() -> None:
    """After `drain_time` the one that is being made is cancelled."""
    async with waiting() as (served, peer, _):
        served.shutdown.set()
        with trio.fail_after(4):
            await served.ended.wait()
        assert (await peer.gone()).reset


async def test_cancelling_the_server_ends_it_at_once() -> None:
    async with waiting() as (served, peer, _):
        served.cancel()
        with trio.fail_after(1):
            await served.ended.wait()
        with pytest.raises(Gone):
            await peer.answer()


# --- the log ------------------------------------------------------------------------------------------------


async def test_the_log_cannot_tell_the_two_ways_apart() -> None:
    """One line, the same but for the time; neither a query nor a field is in it."""

    async def answer(asked: WholeRequest) -> Told:
        return Told(201, b"12345", (("x-request-id", "r-1"),))

    async def through_asgi(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, 201, b"12345", (b"x-request-id", b"r-1"))

    secrets = (b"Authorization: Bearer secret", b"Cookie: secret", b"Referer: https://a/?token=secret")
    with capture_logs() as logs:
        app = application(http=through_asgi)
        async with serving(app, whole_requests=Whole(answer)) as served, connected(served) as peer:
            short, long = await both(peer, path=b"/a?token=secret", fields=secrets)
            assert short == long
    short_line, long_line = requests_in(logs)
    assert short_line == long_line
    assert short_line == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "path": "/a",
        "status": 201,
        "bytes": 5,
        "client": "127.0.0.1",
        "request_id": "r-1",
    }
    assert "secret" not in str(logs)


def requests_in(logs: list[EventDict]) -> list[dict[str, Any]]:
    """The lines of requests, without their times."""
    lines = [dict(line) for line in logs if line["event"] == "request"]
    for line in lines:
        assert 0 <= line.pop("ms") < 60_000
    return lines


@pytest.mark.parametrize("status", [400, 408, 500])
async def test_the_listeners_own_answer_is_the_same_both_ways(status: int) -> None:
    """Where the body does not come or the application fails: its bytes, its line in the log, its counts."""
    lines, counts, answers = list[list[dict[str, Any]]](), list[tuple[int, ...]](), list[Answer]()

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        if status == 500:
            raise RuntimeError("a bug")
        await echo(scope, receive, send)

    for offered in (None, Whole(failing if status == 500 else say_whole)):
        with capture_logs() as logs:
            async with (
                serving(application(http=broken), whole_requests=offered, body_idle_time=0.2) as served,
                connected(served) as peer,
            ):
                await peer.send(post(5) + (b"Hello" if status == 500 else b"Hell"))
                if status == 400:
                    await peer.half_close()
                answers.append(await peer.answer())
                assert answers[-1].headers.pop("date")
                assert await peer.end() == b""
        seen = served.counts
        counts.append((seen.bad_requests, seen.timeouts, seen.application_errors))
        lines.append(requests_in(logs))
    assert answers[0].status == status
    assert answers[1] == answers[0]
    assert list(answers[1].headers) == list(answers[0].headers)
    assert len(lines[0]) == 1
    assert lines[1] == lines[0]
    assert counts[1] == counts[0]

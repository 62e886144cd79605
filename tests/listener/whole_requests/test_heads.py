"""Unambiguous heads take the quick path, and are parsed as h11 parses them."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.listener.head import plain_request, take_head
from adapters.listener.refused_request import RefusedRequest
from adapters.listener.whole_requests import PlainHead, plain_head

HOST = b"Host: test\r\n"

TAKEN: dict[str, tuple[bytes, PlainHead]] = {
    "the plainest": (
        b"GET / HTTP/1.1\r\n" + HOST,
        PlainHead("GET", "/", b"", {"host": "test"}, 0),
    ),
    "a query, escapes and all": (
        b"GET /a/b.c-d_e~f?x=%40&y=/?:@!$'()*+,;z HTTP/1.1\r\n" + HOST,
        PlainHead("GET", "/a/b.c-d_e~f", b"x=%40&y=/?:@!$'()*+,;z", {"host": "test"}, 0),
    ),
    "an empty query": (b"GET /? HTTP/1.1\r\n" + HOST, PlainHead("GET", "/", b"", {"host": "test"}, 0)),
    "a length": (
        b"PATCH / HTTP/1.1\r\n" + HOST + b"Content-Length: 012\r\n",
        PlainHead("PATCH", "/", b"", {"host": "test", "content-length": "012"}, 12),
    ),
    "names in any case, values without the white space around them": (
        b"GET / HTTP/1.1\r\nhOsT:\t test:80 \t\r\nX-A:\r\nX-B:  b  c  \r\n",
        PlainHead("GET", "/", b"", {"host": "test:80", "x-a": "", "x-b": "b  c"}, 0),
    ),
    "a field that is sent twice": (
        b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\nY: b\r\nx: \r\nX: c\r\n",
        PlainHead("GET", "/", b"", {"host": "test", "x": "a, , c", "y": "b"}, 0),
    ),
    "bytes above 127": (
        b"GET / HTTP/1.1\r\n" + HOST + b"X: \xa0\xff\x85\r\n",
        PlainHead("GET", "/", b"", {"host": "test", "x": "\xa0\xff\x85"}, 0),
    ),
    "a value with colons": (
        b"GET / HTTP/1.1\r\nHost: [::1]:80\r\nX: :a: b:\r\n",
        PlainHead("GET", "/", b"", {"host": "[::1]:80", "x": ":a: b:"}, 0),
    ),
    "a keep-alive connection": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Keep-Alive\r\n",
        PlainHead("GET", "/", b"", {"host": "test", "connection": "Keep-Alive"}, 0),
    ),
    "Connection: close": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Close\r\n",
        PlainHead("GET", "/", b"", {"host": "test", "connection": "Close"}, 0, last=True),
    ),
    "an upgrade with any Connection field": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: keep-alive, x\r\nUpgrade: h2c\r\n",
        PlainHead(
            "GET",
            "/",
            b"",
            {"host": "test", "connection": "keep-alive, x", "upgrade": "h2c"},
            0,
            upgrade=True,
        ),
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_an_unambiguous_head_is_parsed(name: str) -> None:
    head, expected = TAKEN[name]
    assert plain_head(head + b"\r\n") == expected


DECLINED: dict[str, bytes] = {
    "HTTP/1.0 is answered otherwise": b"GET / HTTP/1.0\r\n" + HOST,
    "an invalid version": b"GET / HTTP/1.2\r\n" + HOST,
    "a method in lower case is another": b"get / HTTP/1.1\r\n" + HOST,
    "a method with a hyphen": b"M-SEARCH / HTTP/1.1\r\n" + HOST,
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
    "an invalid query": b"GET /?[x]=<y> HTTP/1.1\r\n" + HOST,
    "a backslash": b"GET /a\\b HTTP/1.1\r\n" + HOST,
    "no Host": b"GET / HTTP/1.1\r\nX: y\r\n",
    "no field at all": b"GET / HTTP/1.1\r\n",
    "two Hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST,
    "two Hosts, one empty": b"GET / HTTP/1.1\r\n" + HOST + b"Host:\r\n",
    "an invalid Host": b"GET / HTTP/1.1\r\nHost: a/b\r\n",
    "a Host that is not ASCII": b"GET / HTTP/1.1\r\nHost: \xe4\r\n",
    "an invalid name": b"GET / HTTP/1.1\r\n" + HOST + b"X Y: z\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length : 1\r\n",
    "an empty name": b"GET / HTTP/1.1\r\n" + HOST + b": z\r\n",
    "a name that is not ASCII": b"GET / HTTP/1.1\r\n" + HOST + b"X\xe4: z\r\n",
    "a line without a colon": b"GET / HTTP/1.1\r\n" + HOST + b"nonsense\r\n",
    "a name alone": b"GET / HTTP/1.1\r\n" + HOST + b"Content-Length\r\n",
    "close in a second Connection field": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: keep-alive\r\nConnection: close\r\n"
    ),
    "a hop's own fields": b"GET / HTTP/1.1\r\n" + HOST + b"Connection: keep-alive, x\r\nX: y\r\n",
    "an empty Connection": b"GET / HTTP/1.1\r\n" + HOST + b"Connection:\r\n",
    "an upgrade with a body": b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nContent-Length: 1\r\n",
    "an upgrade with a body of nothing": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nContent-Length: 0\r\n"
    ),
    "an upgrade with a field in two lines": (
        b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\nX: y\r\nX: z\r\n"
    ),
    "a chunked body": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n",
    "any coding": b"POST / HTTP/1.1\r\n" + HOST + b"TRANSFER-ENCODING: identity\r\n",
    "a coding and a length": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"
    ),
    "Expect: 100-continue": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nExpect: 100-continue\r\n",
    "trailers": b"POST / HTTP/1.1\r\n" + HOST + b"Trailer: X\r\n",
    "accepted trailers": b"GET / HTTP/1.1\r\n" + HOST + b"TE: trailers\r\n",
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
def test_an_ambiguous_head_is_left_to_h11(reason: str) -> None:
    """h11 decides about it."""
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
def test_a_plain_head_equals_that_of_h11(head: bytes) -> None:
    """h11 accepts each plain head, with the same result."""
    try:
        checked = take_head(bytearray(head), max_bytes=16_384, max_fields=100)
    except RefusedRequest:
        return
    assert checked is not None
    plain = plain_head(checked)
    if plain is None:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(checked)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    target, fields = plain_request(request)
    path, _, query = target.partition(b"?")
    joined: dict[str, str] = {}
    for name, value in fields:
        key, value_text = name.decode(), value.decode("latin-1")
        joined[key] = f"{joined[key]}, {value_text}" if key in joined else value_text
    assert plain == PlainHead(
        request.method.decode(),
        path.decode(),
        query,
        joined,
        int(joined.get("content-length", 0)),
        last=joined.get("connection", "").lower() == "close",
        upgrade="upgrade" in joined,
    )
    assert b"%" not in path

"""The client behind a proxy: only a trusted proxy's header fields count."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from adapters.http_api.exchange import HttpRequest, HttpResponse
from adapters.listener import TrustedProxies, parse_proxies
from adapters.listener.proxies import MAX_HOPS, parse_address, request_source
from tests.listener.harness import (
    UPGRADE,
    Receive,
    Send,
    WholeFor,
    application,
    connected,
    echo,
    respond,
    serving,
    wait_until,
)

PROXY = "10.0.0.1"
TRUSTED = parse_proxies("127.0.0.1 10.0.0.0/8 2001:db8:1::/48")


def head(*fields: str) -> bytes:
    """A head as a proxy forwards it."""
    return "\r\n".join(["GET / HTTP/1.1", "Host: test", *fields, "", ""]).encode("latin-1")


def client(*fields: str, trusted: TrustedProxies = TRUSTED) -> str:
    return request_source(head(*fields), PROXY, trusted).client


# --- the rule ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forwarded_for", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("  192.0.2.7\t", "192.0.2.7"),
        ("192.0.2.66, 192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, 10.1.2.3, 10.0.0.2", "192.0.2.7"),
        ("nonsense, <script>, 192.0.2.7, 10.0.0.2", "192.0.2.7"),
        ("10.0.0.9, 10.0.0.8", "10.0.0.9"),
        ("2001:db8::7", "2001:db8::7"),
        ("2001:DB8:0:0::7, 2001:db8:1::1", "2001:db8::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        (", ".join(["192.0.2.7", *["10.0.0.2"] * 9]), "192.0.2.7"),
        (", ".join(["192.0.2.7"] * 900), "192.0.2.7"),
    ],
)
def test_the_client_is_the_right_most_untrusted_address(forwarded_for: str, expected: str) -> None:
    """Addresses to the left of it may be forged; if all are trusted, it is the left-most one."""
    assert client(f"X-Forwarded-For: {forwarded_for}") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ",",
        "unknown",
        "unix:",
        "192.0.2.7, _hidden",
        "192.0.2.7,",
        "192.0.2.256",
        "192.0.2.7:",
        "192.0.2.7:port",
        "fe80::1%eth0",
        "fe80::1%\x1b[31m",
        "[192.0.2.7",
        "[]",
        "[]:443",
        "1",
        "0x7f.1",
        "192.0.2.7/32",
        "ÿ",
        "9" * 10_000,
        ", ".join(["10.0.0.2"] * (MAX_HOPS + 1)),
    ],
)
def test_an_invalid_address_means_the_proxys_own(text: str) -> None:
    """An invalid address before the client leaves only the address of the connection."""
    assert client(f"X-Forwarded-For: {text}") == PROXY


def test_no_header_means_the_proxys_own_address() -> None:
    """Without X-Forwarded-For, also with the other convention, the proxy is the client."""
    assert client() == PROXY
    assert client("Forwarded: for=192.0.2.7;proto=https", "X-Real-IP: 192.0.2.7") == PROXY
    assert client("X-Forwarded-For-What: 192.0.2.7") == PROXY


def test_several_header_lines_are_one_list() -> None:
    """In their order (RFC 9110, 5.3), with names in any case."""
    assert (
        client("X-Forwarded-For: 192.0.2.66", "A: b", "x-forwarded-FOR: 192.0.2.7, 10.0.0.2") == "192.0.2.7"
    )


@pytest.mark.parametrize(
    ("text", "secure"),
    [
        (["https"], True),
        ([" HTTPS "], True),
        (["http"], False),
        ([], False),
        (["wss"], False),
        (["https, http"], False),
        (["https", "https"], False),
    ],
)
def test_only_a_single_scheme_counts(text: list[str], secure: bool) -> None:
    """TLS ends at the proxy; several schemes mean http."""
    fields = [f"X-Forwarded-Proto: {scheme}" for scheme in text]
    assert request_source(head(*fields), PROXY, TRUSTED).secure is secure


@pytest.mark.parametrize("text", ["10.0.0.1/8", "proxy.example", "10.0.0.0/33", "fe80::1%eth0/64", "*", "1"])
def test_an_invalid_list_of_proxies_is_refused(text: str) -> None:
    """Names, stars, and networks with bits beyond their mask: a mistake here trusts the wrong peers."""
    with pytest.raises(ValueError, match=r"."):
        parse_proxies(text)


def test_without_a_list_no_address_is_trusted() -> None:
    """That is the default."""
    assert not TrustedProxies()
    assert parse_address("127.0.0.1") not in TrustedProxies()
    assert None not in parse_proxies("0.0.0.0/0 ::/0")


@pytest.mark.parametrize(
    ("text", "address"),
    [("::ffff:10.0.0.1", "10.0.0.1"), ("fe80::1%eth0", "fe80::1"), ("::1", "::1")],
)
def test_addresses_of_the_system_are_parsed(text: str, address: str) -> None:
    """A dual-stack socket gives IPv4-mapped IPv6; link-local addresses have a zone."""
    assert parse_address(text) == ip_address(address)


ADDRESSES = st.ip_addresses().map(str)
UNTRUSTED = ADDRESSES.filter(lambda text: (parsed := parse_address(text)) is None or parsed not in TRUSTED)
FIELD = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0")).map(
    lambda text: text.encode("latin-1").decode("latin-1")
)


@given(st.lists(FIELD, max_size=4))
def test_the_client_is_always_an_address(values: list[str]) -> None:
    """The log and the keys of the rate limits contain it."""
    text = client(*(f"X-Forwarded-For: {value}" for value in values))
    assert str(ip_address(text)) == text


@given(
    FIELD,
    UNTRUSTED,
    st.lists(st.sampled_from(["10.0.0.2", "127.0.0.1", "2001:db8:1::7"]), max_size=MAX_HOPS - 1),
)
def test_a_client_cannot_forge_its_address(sent: str, real: str, proxies: list[str]) -> None:
    """Behind a chain of trusted proxies that each append their client, with any header of its own."""
    text = ", ".join([sent, real, *proxies])
    assert client(f"X-Forwarded-For: {text}") == str(parse_address(real))


# --- over a port ------------------------------------------------------------------------------------------

FORGED = b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
GET = b"GET / HTTP/1.1\r\nHost: test\r\n" + FORGED + b"\r\n"
HERE = parse_proxies("127.0.0.0/8")
ELSEWHERE = parse_proxies("198.51.100.0/24 ::1")


async def tell(scope: Any, receive: Receive, send: Send) -> None:
    """Responds with its client and scheme."""
    response = f"{scope['client'][0]} {scope['scheme']}".encode()
    if scope["type"] == "http":
        await respond(send, 200, response)
    else:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": response})


async def tell_whole(asked: HttpRequest) -> HttpResponse:
    return HttpResponse(200, asked.client.encode())


@pytest.mark.parametrize(("trusted", "seen"), [(HERE, "192.0.2.7"), (ELSEWHERE, "127.0.0.1")])
async def test_each_path_of_a_request_finds_the_same_client(trusted: TrustedProxies, seen: str) -> None:
    """A whole request, one through ASGI, a WebSocket, and their log lines."""
    scheme = "https" if trusted is HERE else "http"
    whole = WholeFor(tell_whole, path="/whole")
    with capture_logs() as logs:
        async with serving(application(tell, tell), whole_requests=whole, trusted_proxies=trusted) as served:
            async with connected(served) as peer:
                assert (await peer.ask(GET.replace(b" / ", b" /whole "))).body == seen.encode()
                assert (await peer.ask(GET)).body == f"{seen} {scheme}".encode()
                assert (await peer.ask(GET.replace(FORGED, b""))).body == b"127.0.0.1 http"
                assert (await peer.ask(GET.replace(b"GET", b"GET  "))).status == 400
            async with connected(served) as peer:
                assert (await peer.ask(GET.replace(b" / ", b" /whole "))).body == seen.encode()
                assert (await peer.ask(b"\0")).status == 400
            async with connected(served) as peer:
                assert (await peer.ask(UPGRADE + FORGED + b"\r\n")).status == 101
                response = f"{seen} {scheme.replace('http', 'ws')}".encode()
                assert (await peer.frame()).payload == response
            await wait_until(lambda: any(line["event"] == "socket_closed" for line in logs))
    clients = [(line["event"], line["client"]) for line in logs if "client" in line]
    assert clients == [
        ("request", seen),
        ("request", seen),
        ("request", "127.0.0.1"),
        ("request_refused", seen),
        ("request", seen),
        ("request_refused", "127.0.0.1"),
        ("request", seen),
        ("socket_closed", seen),
    ]


@pytest.mark.parametrize("trusted", [True, False])
async def test_connections_of_a_proxy_are_not_counted_as_one_clients(trusted: bool) -> None:
    """All clients connect through it; another address has its limit."""
    async with (
        serving(
            echo,
            connections_per_address=1,
            uncounted_addresses=frozenset(),
            trusted_proxies=HERE if trusted else ELSEWHERE,
        ) as served,
        connected(served) as one,
        connected(served) as two,
    ):
        assert (await one.ask(GET)).status == 200
        if trusted:
            assert (await two.ask(GET)).status == 200
        else:
            assert (await two.response()).status == 503


async def test_a_huge_header_of_any_peer_is_refused() -> None:
    """A list of addresses beyond the head's limit is not parsed."""
    row = b"X-Forwarded-For: " + b"10.0.0.1, " * 2_000 + b"192.0.2.7\r\n"
    async with serving(echo, trusted_proxies=HERE) as served, connected(served) as peer:
        assert (await peer.ask(GET.replace(FORGED, row))).status == 431

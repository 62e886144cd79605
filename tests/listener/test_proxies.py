"""Who asks, when a proxy forwards: its word counts if it is trusted, and nobody else's changes anything."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from adapters.listener import TrustedProxies, parse_proxies
from adapters.listener.proxies import MAX_HOPS, parse_address, request_source
from adapters.listener.whole_requests import WholeRequest
from tests.listener.harness import (
    UPGRADE,
    PlainAnswer,
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
    """A head as a proxy passes it on."""
    return "\r\n".join(["GET / HTTP/1.1", "Host: test", *fields, "", ""]).encode("latin-1")


def client(*fields: str, trusted: TrustedProxies = TRUSTED) -> str:
    return request_source(head(*fields), PROXY, trusted).client


# --- the rule ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "seen"),
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
def test_the_right_most_address_that_is_no_trusted_proxy(told: str, seen: str) -> None:
    """What stands left of it may be invented; if all are trusted, it is the left-most."""
    assert client(f"X-Forwarded-For: {told}") == seen


@pytest.mark.parametrize(
    "told",
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
def test_garbage_is_the_proxys_own_address(told: str) -> None:
    """Where the way back meets what is no address, nobody knows more than whose connection it is."""
    assert client(f"X-Forwarded-For: {told}") == PROXY


def test_no_header_is_the_proxys_own_address() -> None:
    """A proxy that says nothing, or says it in the other convention, asks for itself."""
    assert client() == PROXY
    assert client("Forwarded: for=192.0.2.7;proto=https", "X-Real-IP: 192.0.2.7") == PROXY
    assert client("X-Forwarded-For-What: 192.0.2.7") == PROXY


def test_a_header_in_several_lines_is_one_list() -> None:
    """In their order (RFC 9110, 5.3), in whatever case they are written."""
    assert (
        client("X-Forwarded-For: 192.0.2.66", "A: b", "x-forwarded-FOR: 192.0.2.7, 10.0.0.2") == "192.0.2.7"
    )


@pytest.mark.parametrize(
    ("told", "secure"),
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
def test_the_scheme_is_one_or_it_is_not_known(told: list[str], secure: bool) -> None:
    """TLS ends at the proxy; of several answers none is believed."""
    fields = [f"X-Forwarded-Proto: {scheme}" for scheme in told]
    assert request_source(head(*fields), PROXY, TRUSTED).secure is secure


@pytest.mark.parametrize("text", ["10.0.0.1/8", "proxy.example", "10.0.0.0/33", "fe80::1%eth0/64", "*", "1"])
def test_a_wrong_list_of_proxies_is_refused(text: str) -> None:
    """Names, stars, and networks with bits beyond their mask: who slips here trusts the wrong ones."""
    with pytest.raises(ValueError, match=r"."):
        parse_proxies(text)


def test_no_list_trusts_nobody() -> None:
    """Nobody is the default."""
    assert not TrustedProxies()
    assert parse_address("127.0.0.1") not in TrustedProxies()
    assert None not in parse_proxies("0.0.0.0/0 ::/0")


@pytest.mark.parametrize(
    ("told", "address"),
    [("::ffff:10.0.0.1", "10.0.0.1"), ("fe80::1%eth0", "fe80::1"), ("::1", "::1")],
)
def test_an_address_as_the_system_spells_it(told: str, address: str) -> None:
    """On a socket for both, IPv4 comes in IPv6; a link's own addresses come with their zone."""
    assert parse_address(told) == ip_address(address)


ADDRESSES = st.ip_addresses().map(str)
UNTRUSTED = ADDRESSES.filter(lambda text: (parsed := parse_address(text)) is None or parsed not in TRUSTED)
FIELD = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0")).map(
    lambda text: text.encode("latin-1").decode("latin-1")
)


@given(st.lists(FIELD, max_size=4))
def test_whatever_is_sent_the_client_is_an_address(values: list[str]) -> None:
    """It goes into the log and into the keys of the rate limits."""
    told = client(*(f"X-Forwarded-For: {value}" for value in values))
    assert str(ip_address(told)) == told


@given(
    FIELD,
    UNTRUSTED,
    st.lists(st.sampled_from(["10.0.0.2", "127.0.0.1", "2001:db8:1::7"]), max_size=MAX_HOPS - 1),
)
def test_a_client_cannot_choose_who_it_is(sent: str, real: str, proxies: list[str]) -> None:
    """Whatever it sends, behind a row of trusted proxies that each add whom they see, it is itself."""
    told = ", ".join([sent, real, *proxies])
    assert client(f"X-Forwarded-For: {told}") == str(parse_address(real))


# --- over a port ------------------------------------------------------------------------------------------

FORGED = b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
GET = b"GET / HTTP/1.1\r\nHost: test\r\n" + FORGED + b"\r\n"
HERE = parse_proxies("127.0.0.0/8")
ELSEWHERE = parse_proxies("198.51.100.0/24 ::1")


async def tell(scope: Any, receive: Receive, send: Send) -> None:
    """Answers with whom it takes its caller for."""
    told = f"{scope['client'][0]} {scope['scheme']}".encode()
    if scope["type"] == "http":
        await respond(send, 200, told)
    else:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "bytes": told})


async def tell_whole(asked: WholeRequest) -> PlainAnswer:
    return PlainAnswer(200, asked.client.encode())


@pytest.mark.parametrize(("trusted", "seen"), [(HERE, "192.0.2.7"), (ELSEWHERE, "127.0.0.1")])
async def test_every_way_in_takes_a_request_for_the_same_clients(trusted: TrustedProxies, seen: str) -> None:
    """A whole request, one through ASGI, a WebSocket, and what the log says of each."""
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
                told = f"{seen} {scheme.replace('http', 'ws')}".encode()
                assert (await peer.frame()).payload == told
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
    """Everybody comes through it; of another address only so many are taken."""
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
            assert (await two.answer()).status == 503


async def test_a_huge_header_is_refused_whoever_sends_it() -> None:
    """A row of addresses beyond the head's bound never gets as far as being read."""
    row = b"X-Forwarded-For: " + b"10.0.0.1, " * 2_000 + b"192.0.2.7\r\n"
    async with serving(echo, trusted_proxies=HERE) as served, connected(served) as peer:
        assert (await peer.ask(GET.replace(FORGED, row))).status == 431

"""Where avatars may be loaded from: a URL is on a host only if no browser could think otherwise."""

import json
import shutil
import subprocess
from urllib.parse import urlsplit

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.avatars import ANY_HOST, NO_HOST, OWN_HOST, AvatarHosts, parse_host
from messaging_core.errors import Invalid
from messaging_core.ids import UserId
from messaging_core.models import User
from messaging_core.privacy import EmailVisibility, Privacy, participants_shown, shown
from messaging_core.testing import strategies as values
from tests.core.avatar_urls import ELSEWHERE, ON_IT, OWN

LISTED = AvatarHosts(hosts=frozenset({OWN}))
ALSO = AvatarHosts(own=True, hosts=frozenset({"cdn.example", "media.example:8443"}))


@pytest.mark.parametrize("url", ON_IT)
def test_a_url_on_the_host_is_admitted(url: str) -> None:
    """By a list, as the server's own, and as any; not where there are no avatars."""
    for hosts in (LISTED, OWN_HOST.at(OWN), OWN_HOST.at("OWN.example:443"), ANY_HOST):
        if not (hosts.here == "own.example:443" and url.startswith("http:")):
            assert hosts.admits(url)
    assert not NO_HOST.admits(url)
    assert not OWN_HOST.admits(url), "whose own it is no request has said"
    assert not OWN_HOST.at("evil.test").admits(url)


@pytest.mark.parametrize("url", ELSEWHERE)
def test_a_url_elsewhere_is_not(url: str) -> None:
    """Userinfo, ports, backslashes, control characters, other alphabets, dots: the unclear is elsewhere."""
    assert not LISTED.admits(url)
    assert not OWN_HOST.at(OWN).admits(url)
    assert ANY_HOST.admits(url)


READ_URLS = """
const read = (text) => { try { const url = new URL(text); return [url.protocol, url.host, url.username]; }
                         catch { return null; } };
console.log(JSON.stringify(JSON.parse(require("fs").readFileSync(0)).map(read)));
"""


def test_a_browser_reads_the_same_hosts() -> None:
    """What is admitted has for the URL standard too that host, on its implied port, and no user."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed, whose URL is read as browsers read it")
    urls = [*ON_IT, *ELSEWHERE]
    ran = subprocess.run(
        [node, "-e", READ_URLS], input=json.dumps(urls), capture_output=True, text=True, check=True
    )
    found = dict(zip(urls, json.loads(ran.stdout), strict=True))
    for url in filter(LISTED.admits, urls):
        assert found[url] in (["https:", OWN, ""], ["http:", OWN, ""]), url
    # The table is worth its while: of the others it loads some from here, and some from elsewhere.
    assert {OWN, "evil.test"} <= {found[url][1] for url in ELSEWHERE if found[url]}


PIECES = st.sampled_from(
    [
        OWN,
        "evil.test",
        "@",
        ":",
        "443",
        "80",
        "/",
        "\\",
        "?",
        "#",
        "[",
        "]",
        "%2e",
        ".",
        "\t",
        "\n",
        "//",
        "www",
    ]
)


@given(st.sampled_from(["https://", "http://", "https:"]), st.lists(PIECES, max_size=6).map("".join))
def test_what_is_admitted_has_the_host_for_another_parser_too(scheme: str, rest: str) -> None:
    """Python's own parser finds no other host, no user, and no other port in what is admitted."""
    url = scheme + rest
    if LISTED.admits(url):
        found = urlsplit(url)
        assert (found.hostname, found.username, found.password) == (OWN, None, None)
        assert found.port in {None, 443 if found.scheme == "https" else 80}


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("cdn.example", "cdn.example"),
        ("CDN.Example:8443", "cdn.example:8443"),
        ("localhost:8000", "localhost:8000"),
        ("a_b.example", "a_b.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("127.0.0.1:080", "127.0.0.1:80"),
        ("[::1]:8000", "[::1]:8000"),
        ("[0:0::0:1]", "[::1]"),
        *(
            (text, None)
            for text in (
                *("", ":", "cdn.example:", ":443", "cdn.example/", "https://cdn.example", "*.example", "a b"),
                *(
                    "a@b",
                    "bücher.example",
                    "cdn.example.",
                    ".example",
                    "a..b",
                    "127.1",
                    "1.2.3.0x4",
                    "0x7f000001",
                ),
                *("[::1", "[::g]", "[]", "cdn.example:123456", "cdn.example\n", "cdn.example;", "'self'"),
            )
        ),
    ],
)
def test_hosts(text: str, host: str | None) -> None:
    """A host is written in one form, and what is none is None; nothing in it means more in another header."""
    assert parse_host(text) == host
    if host is not None:
        assert parse_host(host) == host


def test_a_port_belongs_to_the_host() -> None:
    """A host without a port is on the port that the URL's scheme implies, one with a port on that alone."""
    hosts = AvatarHosts(hosts=frozenset({"cdn.example", "media.example:8443", "[::1]:8000", "127.0.0.1"}))
    for url, admitted in {
        "https://cdn.example/": True,
        "http://cdn.example/": True,
        "https://cdn.example:8443/": False,
        "https://media.example:8443/": True,
        "https://media.example:08443/": True,
        "https://media.example/": False,
        "http://[::1]:8000/": True,
        "http://[0:0:0:0:0:0:0:1]:8000/": True,
        "http://[::1]/": False,
        "http://[::ffff:127.0.0.1]/": False,
        "http://[::1%25lo]:8000/": False,
        "http://127.0.0.1/": True,
        "http://127.1/": False,
        "http://0x7f.0.0.1/": False,
        "http://2130706433/": False,
        "http://127.0.0.1./": False,
    }.items():
        assert hosts.admits(url) is admitted, url


def test_only_where_it_is_meant_a_requests_host_is_ones_own() -> None:
    """A Host header adds nothing to none, to a list and to any; one that is no host adds nothing at all."""
    for hosts in (NO_HOST, LISTED, ANY_HOST):
        assert hosts.at("evil.test") == hosts
    assert OWN_HOST.at(None) == OWN_HOST
    for text in ("", "evil.test/", "a@b", "*"):
        assert not OWN_HOST.at(text).admits("https://evil.test/")
    assert ALSO.at(OWN).admits("https://own.example/")
    assert ALSO.at(OWN).admits("https://cdn.example/")


@pytest.mark.parametrize(
    ("hosts", "says"),
    [
        (NO_HOST, "must be left out"),
        (OWN_HOST, "on this server"),
        (LISTED, "on own.example"),
        (ALSO, "on this server or cdn.example or media.example:8443"),
        (AvatarHosts(hosts=frozenset(f"cdn{n}.example" for n in range(9))), "cdn4.example or 4 other hosts"),
    ],
)
def test_the_refusal_says_what_is_taken(hosts: AvatarHosts, says: str) -> None:
    """The person who registers is told where an avatar may be, in words that name no setting."""
    hosts.check(None)
    with pytest.raises(Invalid) as raised:
        hosts.check("https://evil.test/a.png")
    (error,) = raised.value.errors
    assert (error.field, error.code) == ("avatar_url", "host_not_allowed")
    assert error.message.endswith(says) or error.message.startswith(says)
    assert "avatar_hosts" not in error.message
    ANY_HOST.check("https://evil.test/a.png")


@given(values.users, st.sampled_from(EmailVisibility))
def test_an_avatar_that_is_kept_elsewhere_is_shown_as_none(user: User, visibility: EmailVisibility) -> None:
    """To everybody, its owner included, alone and among participants; what is kept stays as it is."""
    user = evolve(user, avatar_url="https://evil.test/a.png")
    for hosts, url in ((ANY_HOST, user.avatar_url), (LISTED, None), (NO_HOST, None), (OWN_HOST, None)):
        privacy = Privacy(visibility, hosts).at("own.example")
        for viewer in (user.id, UserId(user.id + 1)):
            alone = shown(user, viewer=viewer, shares_chat=True, privacy=privacy)
            among = participants_shown({user.id: user}, viewer=viewer, privacy=privacy)[user.id]
            assert (alone.avatar_url, among.avatar_url) == (url, url)
    allowed = evolve(user, avatar_url="https://own.example/a.png")
    privacy = Privacy(visibility, OWN_HOST).at("own.example")
    assert shown(allowed, viewer=user.id, shares_chat=True, privacy=privacy).avatar_url == allowed.avatar_url

"""The hosts of avatars: a URL counts for a host only if no browser can read another host in it."""

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
    """A URL is admitted on a listed host, on the server's own, and on any host, but not without avatars."""
    for hosts in (LISTED, OWN_HOST.at(OWN), OWN_HOST.at("OWN.example:443"), ANY_HOST):
        if not (hosts.here == "own.example:443" and url.startswith("http:")):
            assert hosts.admits(url)
    assert not NO_HOST.admits(url)
    assert not OWN_HOST.admits(url), "the own host is unknown without a request"
    assert not OWN_HOST.at("evil.test").admits(url)


@pytest.mark.parametrize("url", ELSEWHERE)
def test_an_ambiguous_url_is_refused(url: str) -> None:
    """A URL with userinfo, another port, a backslash, a control or an odd dot in its host is refused."""
    assert not LISTED.admits(url)
    assert not OWN_HOST.at(OWN).admits(url)
    assert ANY_HOST.admits(url)


READ_URLS = """
const read = (text) => { try { const url = new URL(text); return [url.protocol, url.host, url.username]; }
                         catch { return null; } };
console.log(JSON.stringify(JSON.parse(require("fs").readFileSync(0)).map(read)));
"""


def test_a_browser_reads_the_same_hosts() -> None:
    """By the URL standard, an admitted URL has the admitted host, its scheme's port, and no user."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed; its URL class parses like a browser")
    urls = [*ON_IT, *ELSEWHERE]
    ran = subprocess.run(
        [node, "-e", READ_URLS], input=json.dumps(urls), capture_output=True, text=True, check=True
    )
    found = dict(zip(urls, json.loads(ran.stdout), strict=True))
    for url in filter(LISTED.admits, urls):
        assert found[url] in (["https:", OWN, ""], ["http:", OWN, ""]), url
    # The refused URLs include some that a browser loads from the own host, and some from another host.
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
def test_another_parser_reads_the_admitted_host(scheme: str, rest: str) -> None:
    """Python's own parser finds the admitted host, no user and no other port in an admitted URL."""
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
                    "1.2.3.0x4:80",
                    "0x7f000001",
                ),
                *("[::1", "[::g]", "[]", "cdn.example:123456", "cdn.example\n", "cdn.example;", "'self'"),
            )
        ),
    ],
)
def test_hosts(text: str, host: str | None) -> None:
    """A host has one normal form, in which no character has a meaning in a header; other texts are None."""
    assert parse_host(text) == host
    if host is not None:
        assert parse_host(host) == host


def test_a_port_belongs_to_the_host() -> None:
    """A host without a port means the port of the URL's scheme, a host with a port only that port."""
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


def test_the_host_header_counts_only_for_the_own_host_setting() -> None:
    """A valid Host header changes only settings that allow the server's own host."""
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
        (AvatarHosts(hosts=frozenset(f"cdn{n}.example" for n in range(5))), "cdn3.example or cdn4.example"),
    ],
)
def test_the_refusal_names_the_allowed_hosts(hosts: AvatarHosts, says: str) -> None:
    """The error names the hosts that an avatar may be on, and no setting."""
    hosts.check(None)
    with pytest.raises(Invalid) as raised:
        hosts.check("https://evil.test/a.png")
    (error,) = raised.value.errors
    assert (error.field, error.code) == ("avatar_url", "host_not_allowed")
    assert error.message.endswith(says) or error.message.startswith(says)
    assert "avatar_hosts" not in error.message
    ANY_HOST.check("https://evil.test/a.png")


@given(values.users, st.sampled_from(EmailVisibility))
def test_a_stored_avatar_on_another_host_is_shown_as_none(user: User, visibility: EmailVisibility) -> None:
    """Every view shows None, also to the owner and among participants; the stored URL does not change."""
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

"""The hosts from which avatars may be loaded: a picture's host learns who looks at it, and when.

URLs are parsed as browsers parse them (the URL standard, https://url.spec.whatwg.org). Browsers read a
backslash as a slash, ignore line breaks, and convert full-width letters and escapes in a host to ASCII; other
parsers do not. So a URL that two parsers could read differently matches no host.
"""

import re
from ipaddress import IPv4Address, IPv6Address

from attrs import evolve, frozen

from messaging_core.errors import FieldError, Invalid

NAMED = 5
"""The maximum number of hosts that a refusal names."""

_NAME = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\]"
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_HOST = re.compile(rf"({_NAME})(?::([0-9]{{1,5}}))?")
_ENDS_OF_ADDRESSES = "0123456789abcdefx]"
# No userinfo, which an `@` would end. An empty port is the implied one.
_URL = re.compile(rf"(https?)://({_NAME})(?::([0-9]{{0,5}}))?(?:[/?#][^\s\\\x00-\x20\x7f-\x9f]*)?")


@frozen
class AvatarHosts:
    """The hosts from which avatars may be loaded; none by default."""

    everywhere: bool = False
    """Whether every host is allowed; `own` and `hosts` then have no effect."""
    own: bool = False
    """Whether the server itself is allowed: the host that a request is addressed to."""
    hosts: frozenset[str] = frozenset()
    """Other allowed hosts, as returned by `parse_host`."""
    here: str | None = None
    """The server's own host, as returned by `parse_host`; None where `own` is False or no request is
    known."""

    def at(self, host: str | None) -> "AvatarHosts":
        """The hosts for a request that is addressed to `host`, which is the server's own."""
        return evolve(self, here=parse_host(host)) if self.own and host is not None else self

    def admits(self, url: str) -> bool:
        """Whether an avatar may be loaded from this URL."""
        return self.everywhere or any(host in self.hosts or host == self.here for host in _hosts_of(url))

    def check(self, url: str | None) -> None:
        """Raise `Invalid` for an avatar from a host that is not allowed; None passes."""
        if url is not None and not self.admits(url):
            raise Invalid(FieldError("avatar_url", "host_not_allowed", self._expected()))

    def _expected(self) -> str:
        if not self.own and not self.hosts:
            return "must be left out: this server shows no avatars"
        named = [*(["this server"] if self.own else []), *sorted(self.hosts)]
        more = [f"{len(named) - NAMED} other hosts"] if len(named) > NAMED else []
        return f"must be the http or https address of a picture on {' or '.join([*named[:NAMED], *more])}"


ANY_HOST = AvatarHosts(everywhere=True)
NO_HOST = AvatarHosts()
OWN_HOST = AvatarHosts(own=True)


def parse_host(text: str) -> str | None:
    """A host, `cdn.example` or `cdn.example:8443`, in its form for comparison; None if the text is no host.

    A host without a port has the port that the URL's scheme implies. A name in another alphabet must be in
    its ASCII form, `xn--…`, an address in the form that browsers write.
    """
    found = _HOST.fullmatch(text)
    name = None if found is None else _name(found[1])
    if found is None or name is None:
        return None
    return name if found[2] is None else f"{name}:{int(found[2])}"


def _hosts_of(url: str) -> tuple[str, ...]:
    """The host of a URL: with its port, and also without the port where the scheme implies it."""
    found = _URL.fullmatch(url)
    name = None if found is None else _name(found[2])
    if found is None or name is None:
        return ()
    implied = "443" if found[1] == "https" else "80"
    port = (found[3] or implied).lstrip("0")
    return (name, f"{name}:{port}") if port == implied else (f"{name}:{port}",)


def _name(text: str) -> str | None:
    """A host's name or address in the form that browsers write; None for one that they rewrite or refuse."""
    name = text.lower()
    if name[-1] not in _ENDS_OF_ADDRESSES:
        return name
    try:
        if name[0] == "[":
            return f"[{IPv6Address(name[1:-1]).compressed}]"
        if _NUMBER.fullmatch(name.rpartition(".")[2]):
            return name if str(IPv4Address(name)) == name else None
    except ValueError:
        return None
    return name

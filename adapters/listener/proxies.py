"""The client behind a proxy, from the header fields of trusted proxies only.

Pure functions. Of the two conventions they read only X-Forwarded-For and X-Forwarded-Proto. A proxy writes
one of them and passes the other through as its client sent it: a server that also trusted `Forwarded` (RFC
7239), behind a proxy that does not write it, would trust the client.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from attrs import frozen

Address = IPv4Address | IPv6Address

MAX_HOPS = 32
"""Proxies in a chain; no real request passes a longer chain of trusted addresses."""

_FORWARDED_FOR = re.compile(rb"\r\nx-forwarded-for:([^\r]*)", re.IGNORECASE)
_FORWARDED_PROTO = re.compile(rb"\r\nx-forwarded-proto:([^\r]*)", re.IGNORECASE)
_WITH_PORT = re.compile(r"\[(?P<six>[^\]]*)\](?::[0-9]{1,5})?|(?P<four>[0-9.]+):[0-9]{1,5}")
_SECURE = {"http": False, "https": True}


@frozen
class TrustedProxies:
    """Addresses and networks of proxies whose X-Forwarded header fields are trusted."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.networks)

    def __contains__(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self.networks)


NO_PROXIES = TrustedProxies()


class RequestSource(NamedTuple):
    """The origin of a request, as far as it is known."""

    client: str
    secure: bool
    """Whether the client uses TLS, to the first proxy."""


def parse_proxies(text: str) -> TrustedProxies:
    """Parse addresses and networks, such as `127.0.0.1 10.0.0.0/8 ::1`, separated by spaces or commas.

    Raises `ValueError` for anything else, also for a network with bits beyond its mask, likely a mistake.
    """
    return TrustedProxies(tuple(ip_network(one) for one in text.replace(",", " ").split()))


def parse_address(text: str) -> Address | None:
    """Parse an address as the system writes it, without its zone, IPv4-mapped IPv6 as IPv4; None if
    invalid.
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def request_source(head: bytes, peer: str, trusted: TrustedProxies) -> RequestSource:
    """The origin of a request that `peer`, one of `trusted`, has forwarded.

    Each proxy appends, on the right, the address of its own client. So the client is the right-most address
    that is not trusted; anything to the left of it may be forged. If all addresses are trusted, it is the
    left-most one. If there is none, or an invalid one before the client, it is `peer`.

    `head` has passed `take_head`.
    """
    forwarded_for = b",".join(_FORWARDED_FOR.findall(head)).decode("latin-1")
    schemes = [scheme.strip(b" \t").lower().decode("latin-1") for scheme in _FORWARDED_PROTO.findall(head)]
    secure = len(schemes) == 1 and _SECURE.get(schemes[0], False)
    return RequestSource(_client(forwarded_for, trusted) or peer, secure)


def _client(forwarded_for: str, trusted: TrustedProxies) -> str | None:
    hops = forwarded_for.rsplit(",", MAX_HOPS)
    address: Address | None = None
    for hop in reversed(hops[-MAX_HOPS:]):
        address = _parse_hop(hop.strip(" \t"))
        if address is None or address not in trusted:
            break
    else:
        if len(hops) > MAX_HOPS:
            return None
    return None if address is None else str(address)


def _parse_hop(text: str) -> Address | None:
    """Parse an address of the header: some proxies add the port, and then brackets around an IPv6 address."""
    if with_port := _WITH_PORT.fullmatch(text):
        text = with_port["six"] or with_port["four"] or ""
    return None if "%" in text else parse_address(text)

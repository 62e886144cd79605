"""Who asks when a proxy forwards: the header fields of those proxies that are trusted, and of nobody else.

Pure functions. Of the two conventions only X-Forwarded-For and X-Forwarded-Proto are read. A proxy writes one
and passes the other through as its client sent it: who believed `Forwarded` (RFC 7239) too, behind a proxy
that does not write it, would believe the client.
"""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from attrs import frozen

Address = IPv4Address | IPv6Address

MAX_HOPS = 32
"""Proxies one behind another; a longer row of trusted addresses is no way that a request took."""

_FORWARDED_FOR = re.compile(rb"\r\nx-forwarded-for:([^\r]*)", re.IGNORECASE)
_FORWARDED_PROTO = re.compile(rb"\r\nx-forwarded-proto:([^\r]*)", re.IGNORECASE)
_WITH_PORT = re.compile(r"\[(?P<six>[^\]]*)\](?::[0-9]{1,5})?|(?P<four>[0-9.]+):[0-9]{1,5}")
_SECURE = {"http": False, "https": True}


@frozen
class TrustedProxies:
    """Addresses and networks whose word on where a request came from is taken."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.networks)

    def __contains__(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self.networks)


NO_PROXIES = TrustedProxies()


class RequestSource(NamedTuple):
    """Where a request came from, as far as it is known."""

    client: str
    secure: bool
    """Whether the client speaks TLS, to the first proxy."""


def parse_proxies(text: str) -> TrustedProxies:
    """Addresses and networks, such as `127.0.0.1 10.0.0.0/8 ::1`, separated by spaces or commas.

    Raises `ValueError` for anything else, such as a network with bits beyond its mask, which is a slip.
    """
    return TrustedProxies(tuple(ip_network(one) for one in text.replace(",", " ").split()))


def parse_address(text: str) -> Address | None:
    """An address as the system spells it, a zone left out, one of IPv4 in IPv6 as IPv4; None for none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def request_source(head: bytes, peer: str, trusted: TrustedProxies) -> RequestSource:
    """Who asks, of a request that came from `peer`, which is one of `trusted`.

    Each proxy adds, on the right, the address that it was asked from; what stands left of the right-most
    address that is not trusted may be anybody's invention. If all are trusted, it is the left-most. Where the
    way back meets what is no address, it is `peer`, and likewise where there is none.

    `head` has passed `take_head`.
    """
    told = b",".join(_FORWARDED_FOR.findall(head)).decode("latin-1")
    schemes = [scheme.strip(b" \t").lower().decode("latin-1") for scheme in _FORWARDED_PROTO.findall(head)]
    secure = len(schemes) == 1 and _SECURE.get(schemes[0], False)
    return RequestSource(_client(told, trusted) or peer, secure)


def _client(told: str, trusted: TrustedProxies) -> str | None:
    hops = told.rsplit(",", MAX_HOPS)
    address: Address | None = None
    for hop in reversed(hops[-MAX_HOPS:]):
        address = _hop(hop.strip(" \t"))
        if address is None or address not in trusted:
            break
    else:
        if len(hops) > MAX_HOPS:
            return None
    return None if address is None else str(address)


def _hop(text: str) -> Address | None:
    """An address of the header: some proxies add the port, and then brackets around one of IPv6."""
    if with_port := _WITH_PORT.fullmatch(text):
        text = with_port["six"] or with_port["four"] or ""
    return None if "%" in text else parse_address(text)

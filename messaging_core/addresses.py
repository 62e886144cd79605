"""The network by which limits count an address."""

from ipaddress import AddressValueError, IPv4Address, IPv6Address

_NAT64 = int(IPv6Address("64:ff9b::")) >> 32
"""RFC 6052 2.1: the prefix under which a translator shows IPv4 addresses to a server that has IPv6 alone."""


def network_of(address: str) -> str:
    """The key of every limit for each address: an IPv4 address, or the /64 of an IPv6 address.

    One customer has all 2^64 addresses of a /64, and may use a new one for each connection (RFC 6177, RFC
    8981). An IPv4 address in IPv6 notation counts as IPv4. The IPv6 loopback address, and text that is no
    address, are their own keys.
    """
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except AddressValueError:
        return address
    if parsed.is_loopback:
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    if int(parsed) >> 32 == _NAT64:
        return str(IPv4Address(int(parsed) & 0xFFFF_FFFF))
    return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"


def site_of(network: str) -> str:
    """The /48 of an IPv6 network as `network_of` writes it; any other network is its own site.

    One customer may have a whole /48, and so 65,536 networks (RFC 6177).
    """
    prefix, _, length = network.partition("/")
    return f"{IPv6Address(int(IPv6Address(prefix)) >> 80 << 80)}/48" if length else network

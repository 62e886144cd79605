"""The network that an address counts for: an IPv4 address, or the /64 of an IPv6 address."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.addresses import network_of, site_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8::7", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1%lo", "::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("64:ff9b::192.0.2.7", "192.0.2.7"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("::2", "::/64"),
        ("", ""),
        ("unix:", "unix:"),
        ("2001:db8::7::", "2001:db8::7::"),
    ],
)
def test_networks(address: str, network: str) -> None:
    """Every spelling of an address counts for the same network; any other text counts for itself."""
    assert network_of(address) == network


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_a_64_is_one_network(address: IPv6Address, other: int) -> None:
    """Two addresses of a /64 count as one, and no other address counts with them."""
    network = network_of(str(address))
    neighbour = IPv6Address(int(address) >> 64 << 64 | other)
    if network.endswith("/64"):
        assert address in IPv6Network(network)
        if network_of(str(neighbour)).endswith("/64"):  # and is not, say, 64:ff9b::192.0.2.7
            assert network_of(str(neighbour)) == network
    further = IPv6Address(int(address) ^ 1 << 64)
    assert network_of(str(further)) != network


@given(st.ip_addresses(v=6), st.integers(0, 2**80 - 1))
def test_a_48_is_one_site(address: IPv6Address, other: int) -> None:
    """All networks of a /48 are one site, and no other network; an IPv4 address is a site."""
    network = network_of(str(address))
    site = site_of(network)
    if not network.endswith("/64"):
        assert site == network
        return
    assert address in IPv6Network(site)
    neighbour = network_of(str(IPv6Address(int(address) >> 80 << 80 | other)))
    if neighbour.endswith("/64"):
        assert site_of(neighbour) == site
    assert site_of(network_of(str(IPv6Address(int(address) ^ 1 << 80)))) != site


@given(st.ip_addresses(v=4))
def test_ipv4_in_ipv6_is_the_ipv4_address(address: IPv4Address) -> None:
    """An IPv4 address in IPv6 form counts as the IPv4 address."""
    assert network_of(f"::ffff:{address}") == network_of(str(address)) == str(address)

"""The bus over NATS: for many processes on many hosts, each of which receives only what its sockets need."""

from adapters.bus_nats.bus import NatsBus

__all__ = ["NatsBus"]

"""The listener: TCP to ASGI 3 on trio. The worst that a peer can cause is the end of its own connection.

Its protocols are machines without a network, over h11 and wsproto; `docs/listener.md` says what of Hypercorn
it uses, and what it replaces because it does not withstand hostile peers.
"""

from adapters.listener.config import ListenerConfig
from adapters.listener.counts import ListenerCounts
from adapters.listener.lifespan import LifespanEnded
from adapters.listener.proxies import TrustedProxies, parse_proxies
from adapters.listener.serving import ASGIApp, serve

__all__ = [
    "ASGIApp",
    "LifespanEnded",
    "ListenerConfig",
    "ListenerCounts",
    "TrustedProxies",
    "parse_proxies",
    "serve",
]

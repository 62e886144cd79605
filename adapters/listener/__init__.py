"""The listener: TCP to ASGI 3 on trio. The worst that a peer can cause is the end of its own connection.

It runs Hypercorn's trio worker and subclasses those of its classes that do not withstand hostile peers:
`docs/listener.md` lists them and the reasons.
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

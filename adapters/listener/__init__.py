"""The listener: TCP to ASGI 3 on trio; whatever a peer sends, the worst outcome is the end of its connection.

Hypercorn's trio worker, driven programmatically, with its classes subclassed where they do not hold:
`docs/listener.md` says which and why.
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

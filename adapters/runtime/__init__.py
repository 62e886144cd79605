"""Carries out the core's decisions: runs operations, performs effects, holds the open sockets."""

from adapters.runtime.hub import Hub, Subscription, TooManySockets
from adapters.runtime.messaging import Messaging, Registered, SignedIn, TokenPair

__all__ = [
    "Hub",
    "Messaging",
    "Registered",
    "SignedIn",
    "Subscription",
    "TokenPair",
    "TooManySockets",
]

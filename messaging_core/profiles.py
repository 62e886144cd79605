"""What a socket speaks: a profile is a column of `EVENTS`, and what it makes of its client's messages.

To add a profile: give `EventKind` a column, and `PROFILES` a row that reads it.
"""

from collections.abc import Callable, Sequence
from math import inf
from types import MappingProxyType
from typing import Any, Final

from attrs import frozen

from messaging_core.events import Event, LogEntry, kind_of


@frozen
class Close:
    """The code and reason of a close frame (RFC 6455, 7.4); no frame follows it."""

    code: int
    reason: str


@frozen
class Reply:
    """The payload of a frame for the client that has sent the message, never shed."""

    payload: bytes


@frozen
class Carry:
    """A command of the client; the caller of the socket's protocol carries it out."""

    command: object


SocketEffect = Reply | Carry | Close


def ignore(message: str | bytes) -> tuple[()]:
    """A client of profile 1 only listens: whatever it sends asks for nothing."""
    del message
    return ()


@frozen(eq=False)
class Profile:
    """What a socket speaks; a profile equals only itself."""

    show: Callable[[Event, LogEntry | None], Any]
    """The frame of an event, to be encoded as JSON; None where the profile does not show it.

    An ephemeral event has no entry.
    """
    receive: Callable[[str | bytes], Sequence[SocketEffect]] = ignore
    """What a client's message asks for, in order."""
    counts: bool = False
    """Whether its sockets count the events of each chat, so that each receives all of them in order.

    See `SocketProtocol.positions`.
    """
    silence: float = inf
    """Seconds without a frame after which `keepalive` is sent."""
    keepalive: bytes = b""
    """The payload of the frame that ends a silence."""


PLAIN: Final = Profile(lambda event, _: kind_of(event).plain(event))
"""Profile 1, the checklist's."""

PROFILES: Final = MappingProxyType({"1": PLAIN})
"""The profiles by the value of `profile` in the handshake's query."""

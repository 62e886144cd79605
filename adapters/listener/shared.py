"""What all connections of one listener share."""

from typing import Protocol

import trio
from attrs import frozen
from hypercorn.config import Config
from hypercorn.typing import AppWrapper, LifespanState

from adapters.listener.config import ListenerConfig
from adapters.listener.counts import ListenerCounts
from adapters.listener.ledger import MemoryLedger
from adapters.listener.logs import log
from adapters.listener.turns import Turns
from adapters.listener.unsent import UnsentResponses
from adapters.listener.watch import Watch
from adapters.listener.whole_requests import WholeRequests


class Sheddable(Protocol):
    """What holds memory for a peer, and can free it."""

    def __hash__(self) -> int: ...

    def shed(self) -> bool:
        """Free the memory; false if that is impossible now."""


@frozen(kw_only=True)
class SharedParts:
    """The application, the limits, and the parts that serve or bound all connections together."""

    app: AppWrapper
    whole_requests: WholeRequests | None
    """The requests that the application responds to without ASGI."""
    state: LifespanState
    """What the application's lifespan has left for its requests; each gets a copy."""
    config: ListenerConfig
    hypercorn: Config
    counts: ListenerCounts
    nursery: trio.Nursery
    """The tasks of all connections: a nursery of its own would take 2 KiB of an idle one."""
    watch: Watch
    turns: Turns
    unread: MemoryLedger[Sheddable]
    unsent: UnsentResponses[Sheddable]

    def report(self, path: str, error: Exception) -> None:
        """Count and log an exception that the application did not catch."""
        self.counts.application_errors += 1
        log.error("application_failed", path=path, exc_info=error)

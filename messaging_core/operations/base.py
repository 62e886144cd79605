"""The types of operations and queries, and the context in which they run."""

from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any, Generic, TypeVar

from attrs import frozen

from messaging_core.effects import CloseSockets, Decision, Deliver, DeliverEphemeral, DeliveryEffect
from messaging_core.limits import Limits
from messaging_core.models import Actor
from messaging_core.ports import Reader, Transaction
from messaging_core.presence import Typists
from messaging_core.privacy import Privacy

T = TypeVar("T")

DELIVERIES = (Deliver, DeliverEphemeral, CloseSockets)
"""The classes of `DeliveryEffect`: a tuple, because the union would be built at each `isinstance`."""

Operation = Callable[[Transaction], Decision[T]]
"""Loads and decides. It only uses its transaction, so it may run in another thread, and more than once."""

Query = Callable[[Reader], T]
"""Reads one consistent view; it may run in another thread, and more than once."""


@frozen
class Part(Generic[T]):
    """A part of a result that is read in several queries."""

    value: T


Reading = Generator[Query[Any] | Part[T], Any, None]
"""A result in parts: yields queries, receives the result of each by `send`, and yields each complete part.

Other operations run between two queries, so the parts are from different views.
"""


@frozen
class Context:
    """The caller, the time, the limits, and what the caller may see of other people."""

    actor: Actor
    now: datetime
    limits: Limits
    privacy: Privacy
    typists: Typists | None = None
    """Who types, as far as this process knows."""


def apply_decision(tx: Transaction, decision: Decision[Any]) -> list[DeliveryEffect]:
    """Apply the storage effects, in order; returns the others, to perform in order after the commit."""
    deliveries: list[DeliveryEffect] = []
    for effect in decision.effects:
        if isinstance(effect, DELIVERIES):
            deliveries.append(effect)
        else:
            tx.apply(effect)
    return deliveries

"""What an operation and a query are, and for whom they run."""

from collections.abc import Callable, Generator
from datetime import datetime
from typing import Any, Generic, TypeVar

from attrs import frozen

from messaging_core.effects import Decision
from messaging_core.limits import Limits
from messaging_core.models import Actor
from messaging_core.ports import Reader, Transaction
from messaging_core.privacy import Privacy

T = TypeVar("T")

Operation = Callable[[Transaction], Decision[T]]
"""Loads and decides; it does nothing but use its transaction, so it may run in another thread, and again."""

Query = Callable[[Reader], T]
"""Reads on one consistent view; it may run in another thread, and again."""


@frozen
class Part(Generic[T]):
    """A part of a result that is read in several queries."""

    value: T


Reading = Generator[Query[Any] | Part[T], Any, None]
"""A result in parts: yields queries, each of which is sent its result, and the parts as they are complete.

Others run between two queries, so the parts are of different views.
"""


@frozen
class Context:
    """Who asks, when, within which limits, and what of other people is shown to them."""

    actor: Actor
    now: datetime
    limits: Limits
    privacy: Privacy

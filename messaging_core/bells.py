"""What processes tell each other of: a bell says that something was committed, and, where it fits, what.

The bus is a doorbell, the log is the truth: a bell may be lost, doubled or late, and nothing is lost with it.
"""

from attrs import frozen

from messaging_core.effects import CloseSockets, Deliver
from messaging_core.ids import ChatId, UserId


@frozen
class Reference:
    """An event that is not told here, because it is large or its audience is: read it from the log."""

    chat_id: ChatId
    sequence: int
    audience: tuple[UserId, ...] | None
    """Whom it is for; None where that is too many to name."""


Bell = Deliver | Reference | CloseSockets


@frozen
class Envelope:
    """Bells that travel together; without any it is a heartbeat, that says how far its publisher has come."""

    publisher: str
    """The process, by a name that no other has and that it does not have again after a restart."""
    number: int | None
    """Counts what the publisher has sent to everybody, from 1, and counts what it could not send too, so that
    its loss is noticed. None for what is sent to some only.
    """
    sent_at: float
    """When, in seconds, by the publisher's own clock, which means nothing to others."""
    bells: tuple[Bell, ...]
    is_last: bool = False
    """Whether its publisher ends now, and has told everything."""

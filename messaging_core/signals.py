"""What processes send each other: a signal says that something was committed and, where it fits, what.

The log is the truth: a signal may be lost, doubled or late, and no durable event is lost with it. An
ephemeral event is in its signal alone.
"""

from attrs import frozen

from messaging_core.effects import CloseSockets, Deliver, DeliverEphemeral
from messaging_core.ids import ChatId, UserId


@frozen
class Reference:
    """Names an event that is not in the signal, because it or its audience is large: read it from the log."""

    chat_id: ChatId
    sequence: int
    audience: tuple[UserId, ...] | None
    """Whom it is for; None where they are too many to name."""


Signal = Deliver | DeliverEphemeral | Reference | CloseSockets


@frozen
class Envelope:
    """Signals that travel together; without any, a heartbeat that says how far its publisher has come."""

    publisher: str
    """The process, by a name that no other has, and that it does not have again after a restart."""
    number: int | None
    """Counts the publisher's envelopes to everybody, from 1, those included that it could not send, so that
    their loss is noticed. None for an envelope to some processes only.
    """
    sent_at: float
    """Seconds of the publisher's own clock; comparable with its other envelopes only."""
    signals: tuple[Signal, ...]
    is_last: bool = False
    """Whether the publisher ends now, and has sent everything."""

"""What processes send each other: a signal says that something was committed and, where it fits, what.

The log is the truth: a signal may be lost, doubled or late, and no durable event is lost with it. An
ephemeral event is in its signal alone.
"""

from attrs import frozen

from messaging_core.effects import CloseSockets, Deliver, DeliverEphemeral
from messaging_core.events import MemberSubject
from messaging_core.ids import ChatId, UserId


@frozen
class Reference:
    """Names an event that is not in the signal, because it or its audience is large: read it from the log."""

    chat_id: ChatId
    sequence: int
    audience: tuple[UserId, ...] | None
    """Whom it is for; None where they are too many to name."""
    person: UserId | None = None
    """Whose membership began, changed or ended with this number; named however large the audience is."""


def person_of(delivery: Deliver) -> UserId | None:
    """The person whose membership an event is about, if it is about one."""
    subject = delivery.entry.subject
    return subject.user_id if isinstance(subject, MemberSubject) else None


def refer_to(delivery: Deliver, *, names_audience: bool) -> Reference:
    """The reference that takes the place of an event."""
    people = delivery.audience if names_audience else None
    return Reference(delivery.entry.chat_id, delivery.entry.sequence, people, person_of(delivery))


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

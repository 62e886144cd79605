"""What the shell must do about a decision, in the order in which it must happen.

Storage effects are applied inside the decision's transaction; delivery effects are performed after
its commit, or never.
"""

from typing import Generic, TypeVar

from attrs import frozen

from messaging_core.events import Event, LogEntry
from messaging_core.ids import SessionId, UserId
from messaging_core.models import Chat, Message, Session, StoredResponse, User

T_co = TypeVar("T_co", covariant=True)


@frozen
class StoreUser:
    """Keep a new user, the hash of their password, and the key by which their e-mail is found."""

    user: User
    password_hash: str
    email_key: str


@frozen
class StoreSession:
    """Keep a session, new or changed."""

    session: Session


@frozen
class StoreChat:
    """Keep a new chat with its members; a direct one is found by its pair from now on."""

    chat: Chat


@frozen
class AdvanceChat:
    """Keep a chat's new `sequence`, `active_at` and `last_message_id`, and nothing else of it."""

    chat: Chat


@frozen
class StoreMessage:
    """Keep a new message; under `sequence`, its chat's log says from now on that it was created.

    In a chat, a message of a greater id has a greater number: both are given under the chat's lock.
    """

    message: Message
    sequence: int


@frozen
class ChangeMessage:
    """Keep a message as it is after a change; it must be there."""

    message: Message


@frozen
class AppendEvent:
    """Write a durable event into its chat's log, other than a message's creation."""

    entry: LogEntry


@frozen
class StoreResponse:
    """Store the response to a request with an Idempotency-Key, in place of an older one of its key."""

    response: StoredResponse


@frozen
class Deliver:
    """Tell every online socket of the audience about an event, in the order of `sequence` per chat."""

    event: Event
    audience: tuple[UserId, ...]
    entry: LogEntry


@frozen
class CloseSockets:
    """Close every socket of a session with code 1008 and `reason`."""

    session_id: SessionId
    reason: str


StorageEffect = (
    StoreUser
    | StoreSession
    | StoreChat
    | AdvanceChat
    | StoreMessage
    | ChangeMessage
    | AppendEvent
    | StoreResponse
)
DeliveryEffect = Deliver | CloseSockets
Effect = StorageEffect | DeliveryEffect


@frozen
class Decision(Generic[T_co]):
    """What was decided: the result for the caller, and the effects that make it so."""

    result: T_co
    effects: tuple[Effect, ...] = ()

    def people_reached(self) -> int:
        """How many people its events are delivered to."""
        return sum([len(effect.audience) for effect in self.effects if type(effect) is Deliver])

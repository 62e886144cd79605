"""Effects: what the shell must do to carry out a decision, in this order.

Storage effects are applied inside the decision's transaction; delivery effects are performed after
its commit, or never.
"""

from datetime import datetime
from typing import Generic, TypeVar

from attrs import frozen

from messaging_core.events import DurableEvent, EphemeralEvent, LogEntry
from messaging_core.ids import ChatId, SessionId, UserId
from messaging_core.marks import Mark
from messaging_core.models import (
    Chat,
    Member,
    Message,
    Role,
    Session,
    Sighting,
    StoredResponse,
    Tombstone,
    User,
)

T_co = TypeVar("T_co", covariant=True)


@frozen
class StoreUser:
    """Store a new user, the hash of their password, and the key by which their e-mail is found."""

    user: User
    password_hash: str
    email_key: str


@frozen
class StoreSession:
    """Store a session, new or changed."""

    session: Session


@frozen
class StoreChat:
    """Store a new chat with its members; from now on a direct chat is found by its two people."""

    chat: Chat


@frozen
class AdvanceChat:
    """Store a chat's new `sequence`, `active_at`, `last_message_id` and `message_count`, and no other field.

    The `marks` of a direct chat are merged with the stored ones, as by `AdvanceMark`.
    """

    chat: Chat


@frozen
class AdvanceMark:
    """Move a member's read mark in a chat forward.

    It changes nothing where the stored mark is as far, or where the person is no member.
    """

    chat: Chat
    user_id: UserId
    mark: Mark


@frozen
class ChangeChat:
    """Store a chat's new `title`, `avatar_url` and `history`, and no other field."""

    chat: Chat


@frozen
class StoreMember:
    """Store a new membership; its person becomes the last in the order of the chat's members."""

    chat_id: ChatId
    member: Member


@frozen
class StoreRole:
    """Store a member's new role; their place in the order of the chat's members stays."""

    chat_id: ChatId
    user_id: UserId
    role: Role


@frozen
class EndMembership:
    """End a person's membership at the number `last` of the chat's log; its range stays."""

    chat_id: ChatId
    user_id: UserId
    last: int


@frozen
class DeleteChat:
    """End all memberships of a group at the tombstone's number, and leave the tombstone in its place.

    From now on no look-up finds the chat. Its log and its messages stay.
    """

    tombstone: Tombstone
    member_ids: tuple[UserId, ...]
    """Its last members, all of them."""


@frozen
class StoreMessage:
    """Store a new message, and log its creation with its `sequence`.

    Within a chat, a message with a greater id has a greater number: both are assigned under the chat's lock.
    """

    message: Message
    ordinal: int
    """Its number among the messages of its chat: the chat's `message_count`, with this one."""


@frozen
class ChangeMessage:
    """Store an existing message's new state."""

    message: Message


@frozen
class AppendEvent:
    """Append a durable event to its chat's log, other than a message's creation."""

    entry: LogEntry


@frozen
class StoreResponse:
    """Store the response to a request with an Idempotency-Key; it replaces an older one under the same
    key.
    """

    response: StoredResponse


@frozen
class StoreLease:
    """Store the lease of a process under a new name: until it expires, whom it holds is there."""

    holder: str
    until: datetime


@frozen
class HoldPresence:
    """Hold a user by a lease; repeating it changes nothing."""

    holder: str
    user_id: UserId


@frozen
class EndPresence:
    """Hold a user no longer by a lease."""

    holder: str
    user_id: UserId


@frozen
class StoreSighting:
    """Store that a user was there; of the stored times and these, the later ones stay."""

    user_id: UserId
    sighting: Sighting


@frozen
class Deliver:
    """Send a logged event to every open socket of the audience, in the order of `sequence` within a chat.

    A socket whose outbox has no room for it is closed: its client reconnects and catches up.
    """

    event: DurableEvent
    audience: tuple[UserId, ...]
    entry: LogEntry


@frozen
class DeliverEphemeral:
    """Send an event that is not logged to every open socket of the audience that has room for it.

    It is the first to be shed, and is lost with a lost signal.
    """

    event: EphemeralEvent
    audience: tuple[UserId, ...]


@frozen
class CloseSockets:
    """Close every socket of a session with code 1008 and `reason`."""

    session_id: SessionId
    reason: str


PresenceEffect = StoreLease | HoldPresence | EndPresence | StoreSighting
MembershipEffect = StoreChat | StoreMember | StoreRole | EndMembership | DeleteChat
StorageEffect = (
    StoreUser
    | StoreSession
    | MembershipEffect
    | ChangeChat
    | AdvanceChat
    | AdvanceMark
    | StoreMessage
    | ChangeMessage
    | AppendEvent
    | StoreResponse
    | PresenceEffect
)
DeliveryEffect = Deliver | DeliverEphemeral | CloseSockets
"""The three kinds of delivery: durable, ephemeral, closing."""
Effect = StorageEffect | DeliveryEffect


@frozen
class Decision(Generic[T_co]):
    """The result for the caller, and the effects that carry it out."""

    result: T_co
    effects: tuple[Effect, ...] = ()

    def people_reached(self) -> int:
        """The number of deliveries: the sum of its events' audiences."""
        people = 0
        for effect in self.effects:
            if type(effect) is Deliver or type(effect) is DeliverEphemeral:
                people += len(effect.audience)
        return people

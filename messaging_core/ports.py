"""What the domain asks of the world: storage, the bus between processes, signatures, passwords.

These protocols fix order, atomicity and repetition; `messaging_core.testing` ships the suites that
every storage and every bus must pass.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from messaging_core.effects import DeliveryEffect, StorageEffect
from messaging_core.events import LogEntry
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.models import (
    AccessClaims,
    Chat,
    EmailForms,
    Excerpt,
    IdempotencyKey,
    Message,
    RefreshClaims,
    Session,
    StoredResponse,
    User,
)
from messaging_core.signals import Envelope

T = TypeVar("T")

FORGOTTEN_AT_ONCE = 250
"""Rows of a kind that one transaction drops; 5 ms or so, in which others wait."""


class Reader(Protocol):
    """One consistent view of what is committed; in a transaction also of what it has applied itself.

    Look-ups answer None, or leave out, what does not exist.
    """

    def user(self, user_id: UserId) -> User | None: ...

    def users(self, user_ids: Collection[UserId]) -> Mapping[UserId, User]: ...

    def user_by_email(self, email_key: str) -> User | None:
        """By the key that their e-mail was stored under, which is nobody else's."""

    def user_by_tag(self, tag: str) -> User | None:
        """By the normalised tag."""

    def password_hash(self, user_id: UserId) -> str | None: ...

    def session(self, session_id: SessionId) -> Session | None: ...

    def chat(self, chat_id: ChatId) -> Chat | None: ...

    def direct_chat(self, one: UserId, other: UserId) -> Chat | None:
        """The direct chat of the two, in whichever order they are named."""

    def chats_of(self, user_id: UserId, after_id: ChatId | None, count: int) -> Sequence[Chat | Excerpt]:
        """The first `count` chats beyond `after_id` that the user takes part in, in the order of ids.

        Each is whole where all of it is at hand, or else without its members: `chats.head`.
        """

    def excerpts(self, sizes: Mapping[ChatId, int], viewer: UserId) -> Mapping[ChatId, Chat | Excerpt]:
        """The chats of these that `viewer` takes part in, each with so many members: `chats.excerpt`.

        Costs what is shown, and not what the chats hold.
        """

    def shares_chat(self, one: UserId, other: UserId) -> bool:
        """Whether two different users take part in one chat, direct or group."""

    def positions(self, user_ids: Collection[UserId]) -> Mapping[ChatId, int]:
        """The last sequence number of every chat that any of these users takes part in."""

    def message(self, message_id: MessageId) -> Message | None: ...

    def messages_before(self, chat_id: ChatId, before_id: MessageId | None, count: int) -> Sequence[Message]:
        """The last `count` messages with smaller ids (None: the last of all), newest first."""

    def messages_after(self, chat_id: ChatId, after_id: MessageId, count: int) -> Sequence[Message]:
        """The first `count` messages with greater ids, oldest first."""

    def stored_response(self, key: IdempotencyKey) -> StoredResponse | None: ...

    def log(self, chat_id: ChatId, after_sequence: int, count: int) -> Sequence[LogEntry]:
        """The first `count` entries of a chat's log beyond a sequence number, in order."""


class Transaction(Reader, Protocol):
    """A view that may be changed; whatever it applies is committed together or not at all.

    What a method names as locked cannot change under this transaction until it ends: others that ask
    for the same lock wait. What is not locked may be changed by others between two looks at it.
    """

    def lock_chat(self, chat_id: ChatId) -> Chat | None:
        """The chat, locked: the next number of its log is this transaction's."""

    def lock_direct_chat(self, one: UserId, other: UserId) -> Chat | None:
        """The direct chat of the two, locked even while there is none."""

    def lock_chats_made_by(self, user_id: UserId) -> int:
        """How many of their chats the user has made, as the first member; locked: it does not grow."""

    def lock_session(self, session_id: SessionId) -> Session | None: ...

    def lock_stored_response(self, key: IdempotencyKey) -> StoredResponse | None:
        """The stored response, its key locked even while there is none: the second of two callers waits."""

    def next_user_id(self) -> UserId:
        """An identifier that is never given again, greater than every one that was given before.

        Whoever draws later may commit earlier. Only identifiers that are drawn under one lock are committed
        in their order.
        """

    def next_session_id(self) -> SessionId: ...

    def next_chat_id(self) -> ChatId: ...

    def next_message_id(self) -> MessageId:
        """To be drawn while the chat is locked: clients page through a chat in the order of these."""

    def apply(self, effect: StorageEffect) -> None:
        """Make it so in this transaction.

        What no decision says of what is kept is an error: `LookupError` for a change of a message that is not
        there; any exception but a `Refused` for a second user of an e-mail or tag, or a second direct chat of
        a pair.
        """

    def forget_before(self, *, responses: datetime, sessions: datetime) -> int:
        """Drop responses that were stored, and sessions that ended or expired, before these times; how many.

        Drops at most `FORGOTTEN_AT_ONCE` of each: call it again, in another transaction, until it is 0.
        """


class Storage(Protocol):
    """Where everything durable lives."""

    async def transact(
        self,
        operation: Callable[[Transaction], T],
        *,
        committed: Callable[[T], None] | None = None,
    ) -> T:
        """Run `operation` in a transaction, commit it durably, and give its result.

        `operation` must do nothing but use its transaction: it may run in another thread, together with
        others in one commit, and again after a conflict. An exception from it rolls its transaction back,
        and only its own, and is raised here. Where two transactions meet on an e-mail, a tag or a pair of
        people that neither had locked, the later one is run again and finds what the earlier one made.

        `committed(result)` is called once after the commit and before this returns, on the event loop, in
        the order of the commits, and also when the caller was cancelled meanwhile. Where a storage can carry
        out several commits at a time, that is the order of all that have locked, or made, the same thing.
        A caller cancelled before its operation has begun has changed nothing.

        Raises `StorageUnavailable` when the outcome is that nothing was committed for reasons of the storage.
        While the storage does not know whether something was, this waits.
        """

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run `query` on a consistent view; never waits for a transaction."""

    @property
    def trouble(self) -> str | None:
        """Why every commit is refused, where the storage knows it without trying; it may still be read."""


class StorageUnavailable(Exception):
    """The storage cannot commit now (a full disk, a lost connection); nothing was changed."""


class OutcomeUnknown(StorageUnavailable):
    """All or nothing was committed, and nobody was told: look at what is kept, or ask again under a key."""


class Bus(Protocol):
    """Carries signals between processes: what was committed here to the others, and from them to this one.

    A signal may be lost, doubled or overtaken, but not unnoticed: an implementation numbers its envelopes,
    skips a number for each loss, sends a heartbeat every `liveness.BEAT_SECONDS`, and reports a lost
    connection.
    """

    @property
    def publisher(self) -> str:
        """This process's name on the bus."""

    def publish(self, effect: DeliveryEffect) -> None:
        """Send a signal of what is committed; never waits, never fails, in the order of the calls.

        Signals that cannot be sent at once wait, within a bound, and are dropped when the connection is lost.
        """

    async def follow(self, user_id: UserId) -> None:
        """Receive signals for this user from now on, or else report a later connection as `missed`.

        Returns within a second. Repeating it changes nothing.
        """

    def unfollow(self, user_id: UserId) -> None:
        """Signals for this user alone need no longer be received."""

    async def run(self, heard: Callable[[Envelope], None], missed: Callable[[str], None]) -> None:
        """Connect, and connect again, for ever; when cancelled, first send the signals that wait.

        `heard` is called, on the event loop, with each envelope, this process's own ones included, which hold
        no signals; `missed` with the reason whenever signals may have been missed: after each connecting.
        """

    def rebuild(self) -> None:
        """Make another connection, and skip a number: what was sent by this one may not have arrived."""


class TokenSigner(Protocol):
    """Makes and verifies signatures, knowing nothing of time; the same claims make the same token."""

    def sign_access(self, claims: AccessClaims) -> str: ...

    def sign_refresh(self, claims: RefreshClaims) -> str: ...

    def read_access(self, token: str) -> AccessClaims:
        """The claims of a token that we signed, in time or not; raises `TokenInvalid`."""

    def read_refresh(self, token: str) -> RefreshClaims:
        """The claims of a token that we signed, in time or not; raises `RefreshTokenInvalid`."""


class EmailParser(Protocol):
    """Says whether a text is an e-mail address, and which other texts are the same one."""

    def __call__(self, email: str, /) -> EmailForms:
        """Its forms; raises `EmailMalformed`. It asks no network, and takes time that `email` bounds."""


class EmailMalformed(Exception):
    """It is no e-mail address; the message is one sentence for the person who wrote it."""


class PasswordHasher(Protocol):
    """Slow on purpose, off the event loop, bounded in number and memory, and fair between networks.

    `network` is the one that the request came from (`addresses.network_of`). However many passwords one
    network sends, the first password of another waits for one of them at most. Raises `PasswordHasherBusy`.
    """

    async def hash(self, password: str, *, network: str) -> str: ...

    async def matches(self, password_hash: str | None, password: str, *, network: str) -> bool:
        """Whether the password has this hash; does the same work, and answers False, for None."""


class PasswordHasherBusy(Exception):
    """Too many passwords of this network, or in all, wait to be hashed; nothing was done."""

"""The domain's interfaces: storage, the bus between processes, signatures, e-mail addresses, passwords.

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
"""Rows of a kind that one transaction deletes; it takes some 5 ms, for which others wait."""


class Reader(Protocol):
    """One consistent view of the committed state, and within a transaction also of its own changes.

    Look-ups return None for, or leave out, an object that does not exist.
    """

    def user(self, user_id: UserId) -> User | None: ...

    def users(self, user_ids: Collection[UserId]) -> Mapping[UserId, User]: ...

    def user_by_email(self, email_key: str) -> User | None:
        """The user who was stored with this e-mail key, which is unique."""

    def user_by_tag(self, tag: str) -> User | None:
        """The user with this normalised tag."""

    def password_hash(self, user_id: UserId) -> str | None: ...

    def session(self, session_id: SessionId) -> Session | None: ...

    def chat(self, chat_id: ChatId) -> Chat | None: ...

    def direct_chat(self, one: UserId, other: UserId) -> Chat | None:
        """The direct chat of the two users, in either order."""

    def chats_of(self, user_id: UserId, after_id: ChatId | None, count: int) -> Sequence[Chat | Excerpt]:
        """The first `count` chats of the user with ids greater than `after_id`, in the order of ids.

        Each is complete if the storage has all of it at hand, or else without its members: `chats.head`.
        """

    def excerpts(self, sizes: Mapping[ChatId, int], viewer: UserId) -> Mapping[ChatId, Chat | Excerpt]:
        """Those of the chats of which `viewer` is a member, each with at most so many members.

        See `chats.excerpt`. The cost depends on the members shown, not on the size of the chats.
        """

    def shares_chat(self, one: UserId, other: UserId) -> bool:
        """Whether two different users are members of a common chat, direct or group."""

    def positions(self, user_ids: Collection[UserId]) -> Mapping[ChatId, int]:
        """The last sequence number of every chat of any of these users."""

    def message(self, message_id: MessageId) -> Message | None: ...

    def messages_before(self, chat_id: ChatId, before_id: MessageId | None, count: int) -> Sequence[Message]:
        """The last `count` messages with smaller ids, newest first; None means no upper bound."""

    def messages_after(self, chat_id: ChatId, after_id: MessageId, count: int) -> Sequence[Message]:
        """The first `count` messages with greater ids, oldest first."""

    def stored_response(self, key: IdempotencyKey) -> StoredResponse | None: ...

    def log(self, chat_id: ChatId, after_sequence: int, count: int) -> Sequence[LogEntry]:
        """The first `count` entries of a chat's log after a sequence number, in order."""


class Transaction(Reader, Protocol):
    """A view with changes, which are all committed together or not at all.

    Other transactions cannot change an object that a method has locked until this one ends: they wait for the
    lock. They may change an object without a lock between two reads of it.
    """

    def lock_chat(self, chat_id: ChatId) -> Chat | None:
        """The chat, locked, so that this transaction appends the next entry of its log."""

    def lock_direct_chat(self, one: UserId, other: UserId) -> Chat | None:
        """The direct chat of the two users; locks the pair even if there is none."""

    def lock_chats_made_by(self, user_id: UserId) -> int:
        """How many chats have the user as their first member; locked, so that the number cannot grow."""

    def lock_session(self, session_id: SessionId) -> Session | None: ...

    def lock_stored_response(self, key: IdempotencyKey) -> StoredResponse | None:
        """The stored response; locks the key even if there is none, so that a second caller waits."""

    def next_user_id(self) -> UserId:
        """Draw an identifier that is greater than all that were drawn before, and is never drawn again.

        A transaction that draws later may commit earlier. Only identifiers that are drawn under one lock are
        committed in their order.
        """

    def next_session_id(self) -> SessionId: ...

    def next_chat_id(self) -> ChatId: ...

    def next_message_id(self) -> MessageId:
        """Draw it while the chat is locked: clients page through a chat in the order of identifiers."""

    def apply(self, effect: StorageEffect) -> None:
        """Make the change in this transaction.

        An effect that contradicts the stored state is an error: `LookupError` for a change of a missing
        message; any exception except a `Refused` for a second user with an e-mail key or tag, or a second
        direct chat of a pair.
        """

    def forget_before(self, *, responses: datetime, sessions: datetime) -> int:
        """Delete responses that were stored, and sessions that ended or expired, before these times.

        Returns how many it deleted, at most `FORGOTTEN_AT_ONCE` of each kind: repeat it, each time in another
        transaction, until it returns 0.
        """


class Storage(Protocol):
    """Stores all durable state."""

    async def transact(
        self,
        operation: Callable[[Transaction], T],
        *,
        committed: Callable[[T], None] | None = None,
    ) -> T:
        """Run `operation` in a transaction, commit it durably, and return its result.

        `operation` must only use its transaction: it may run in another thread, together with others in one
        commit, and again after a conflict. If it raises, its own transaction is rolled back, no other one is,
        and the exception is raised here. If two transactions store the same e-mail key, tag or pair of users
        without a lock, the later one runs again and finds what the earlier one stored.

        `committed(result)` is called once after the commit and before this returns, on the event loop, in
        the order of the commits, and also if the caller was cancelled meanwhile. A storage with concurrent
        commits calls it in order for all transactions that have locked or stored the same object. A caller
        that is cancelled before its operation begins has changed nothing.

        Raises `StorageUnavailable` if the storage could not commit, so that nothing was changed. While the
        storage does not know whether it has committed, this waits.
        """

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run `query` on a consistent view; does not wait for a transaction."""

    @property
    def trouble(self) -> str | None:
        """Why every commit is refused, if the storage knows it without trying; reads may still succeed."""


class StorageUnavailable(Exception):
    """The storage cannot commit or read now (a full disk, a lost connection); nothing was changed."""


class OutcomeUnknown(StorageUnavailable):
    """All or nothing was committed, and the storage does not know which.

    Read the state, or repeat the request under its Idempotency-Key.
    """


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
        """Connect, and reconnect for ever; when cancelled, first send the signals that wait.

        Calls `heard` on the event loop with each envelope, also with this process's own ones, which contain
        no signals. Calls `missed` with the reason whenever signals may have been missed: after each
        connection.
        """

    def rebuild(self) -> None:
        """Open another connection and skip a number, because signals on this one may not have arrived."""


class TokenSigner(Protocol):
    """Signs and verifies tokens, without regard to time; the same claims give the same token."""

    def sign_access(self, claims: AccessClaims) -> str: ...

    def sign_refresh(self, claims: RefreshClaims) -> str: ...

    def read_access(self, token: str) -> AccessClaims:
        """The claims of a token with a valid signature, expired or not; raises `TokenInvalid`."""

    def read_refresh(self, token: str) -> RefreshClaims:
        """The claims of a token with a valid signature, expired or not; raises `RefreshTokenInvalid`."""


class EmailParser(Protocol):
    """Decides whether a text is an e-mail address, and which other texts are equal to it."""

    def __call__(self, email: str, /) -> EmailForms:
        """The address's forms; raises `EmailMalformed`.

        Does not use the network; the length of `email` bounds the time.
        """


class EmailMalformed(Exception):
    """The text is not an e-mail address; the message is one sentence for the person who wrote it."""


class PasswordHasher(Protocol):
    """Slow on purpose, off the event loop, bounded in number and memory, and fair between networks.

    `network` is the network of the request (`addresses.network_of`). However many passwords one network
    sends, the first password of another waits for at most one of them. Raises `PasswordHasherBusy`.
    """

    async def hash(self, password: str, *, network: str) -> str: ...

    async def matches(self, password_hash: str | None, password: str, *, network: str) -> bool:
        """Whether the password has this hash; for None it does the same work and returns False."""


class PasswordHasherBusy(Exception):
    """Too many passwords of this network, or in total, wait to be hashed; nothing was done."""

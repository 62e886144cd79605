"""The storage: its transactions, its reads, and how it fails."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar

from messaging_core.effects import StorageEffect
from messaging_core.ports.accounts import AccountReader, AccountTransaction
from messaging_core.ports.chats import ChatReader, ChatTransaction
from messaging_core.ports.log import LogReader
from messaging_core.ports.messages import MessageReader, MessageTransaction
from messaging_core.ports.presence import PresenceReader, PresenceTransaction
from messaging_core.ports.responses import ResponseReader, ResponseTransaction

T = TypeVar("T")

FORGOTTEN_AT_ONCE = 250
"""Rows of a kind that one transaction deletes; it takes some 5 ms, for which others wait."""


class Reader(AccountReader, ChatReader, MessageReader, LogReader, ResponseReader, PresenceReader, Protocol):
    """One consistent view of the committed state, and within a transaction also of its own changes.

    Look-ups return None for, or leave out, an object that does not exist.
    """


class Transaction(
    AccountTransaction,
    ChatTransaction,
    MessageTransaction,
    ResponseTransaction,
    PresenceTransaction,
    Reader,
    Protocol,
):
    """A view with changes, which are all committed together or not at all.

    Other transactions cannot change an object that a method has locked until this one ends: they wait for the
    lock. They may change an object without a lock between two reads of it.
    """

    def apply(self, effect: StorageEffect) -> None:
        """Make the change in this transaction.

        An effect that contradicts the stored state is an error: `LookupError` for a change of a missing
        message, and for the end of a membership that does not last; any exception except a `Refused` for a
        second user with an e-mail key or tag, a second direct chat of a pair, or a second membership of a
        member.
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
    def incarnation(self) -> str:
        """A short text that names this life of the chats' logs, from the opening on.

        It stays while the stored state only goes on. A state that may be an earlier one, such as a restored
        backup, gets another one, and then repeats no identifier that was drawn before.
        """

    async def replaced(self) -> str:
        """Wait until the stored state is of another incarnation; returns what happened, for people.

        From then on every call raises `StorageUnavailable`: what this process knows need not hold any more.
        Another process must open the storage.
        """

    @property
    def trouble(self) -> str | None:
        """Why every commit is refused, if the storage knows it without trying; reads may still succeed."""


class StorageUnavailable(Exception):
    """The storage cannot commit or read now (a full disk, a lost connection); nothing was changed."""


class OutcomeUnknown(StorageUnavailable):
    """All or nothing was committed, and the storage does not know which.

    Read the state, or repeat the request under its Idempotency-Key.
    """

"""What a storage knows of users and their sessions."""

from collections.abc import Collection, Mapping
from typing import Protocol

from messaging_core.ids import SessionId, UserId
from messaging_core.models import Session, User


class AccountReader(Protocol):
    """The reads of users and sessions; see `Reader`."""

    def user(self, user_id: UserId) -> User | None: ...

    def users(self, user_ids: Collection[UserId]) -> Mapping[UserId, User]: ...

    def user_by_email(self, email_key: str) -> User | None:
        """The user who was stored with this e-mail key, which is unique."""

    def user_by_tag(self, tag: str) -> User | None:
        """The user with this normalised tag."""

    def password_hash(self, user_id: UserId) -> str | None: ...

    def session(self, session_id: SessionId) -> Session | None: ...


class AccountTransaction(AccountReader, Protocol):
    """The locks and identifiers of users and sessions; see `Transaction`."""

    def lock_session(self, session_id: SessionId) -> Session | None: ...

    def next_user_id(self) -> UserId:
        """Draw an identifier that is greater than all that were drawn before, and is never drawn again.

        A transaction that draws later may commit earlier. Only identifiers that are drawn under one lock are
        committed in their order.
        """

    def next_session_id(self) -> SessionId: ...

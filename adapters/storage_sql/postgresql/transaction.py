"""Transactions beside other writers: their locks, and the source of their identifiers."""

from collections.abc import Hashable, Mapping
from hashlib import blake2b
from typing import Any, assert_never

from attrs import frozen
from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Insert,
    Select,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import ClauseElement

from adapters.storage_sql.core_statements import (
    CHAT_COLUMNS,
    MEMBER_COLUMNS,
    compile_statements,
    text_of,
)
from adapters.storage_sql.driver import Cursor, DriverConnection, Row
from adapters.storage_sql.postgresql.members import StagedMembers, VersionedMemberReader
from adapters.storage_sql.rows import KINDS, Kind, session_of
from adapters.storage_sql.statements import Statements
from adapters.storage_sql.tables import chats, direct_chats, identifiers, members, sessions
from adapters.storage_sql.transaction import SqlReader, SqlTransaction
from messaging_core.effects import (
    AdvanceChat,
    AdvanceMark,
    AppendEvent,
    ChangeChat,
    ChangeMessage,
    DeleteChat,
    EndMembership,
    EndPresence,
    HoldPresence,
    StorageEffect,
    StoreChat,
    StoreLease,
    StoreMember,
    StoreMessage,
    StoreResponse,
    StoreRole,
    StoreSession,
    StoreSighting,
    StoreUser,
)
from messaging_core.ids import ChatId, SessionId, UserId
from messaging_core.models import Chat, IdempotencyKey, Session, StoredResponse


@frozen
class LockStatements:
    """The statements that only an engine with several writers needs.

    The rows of statements that lock end with the transaction's number (xid), by which COMMIT's outcome is
    looked up if the connection is lost. The rows of `chat` end with an identifier for a message, drawn under
    the lock.
    """

    chat: str
    direct_chat: str
    session: str
    key: str
    members: str
    transaction_number: str
    next: Mapping[Kind, str]


def postgresql_statements() -> tuple[Statements, LockStatements]:
    dialect = postgresql.dialect(paramstyle="format")  # type: ignore[no-untyped-call]
    shared = compile_statements(
        dialect, among=_among, upsert=_upsert, replace=_replace, greater=func.greatest
    )
    xid = cast(func.pg_current_xact_id(), Text)
    next_message = _next_of("message")

    def locked(rows: Select[Any], *more: ColumnElement[Any]) -> Select[Any]:
        # An outer query computes the columns after the inner one has locked the row, not before the wait.
        # NO KEY: foreign keys of others do not wait for it, and no row that they refer to is ever deleted.
        return select(
            rows.with_for_update(key_share=True, of=rows.selected_columns[0].table).subquery(), *more
        )

    return shared, LockStatements(
        chat=text_of(
            locked(
                select(*CHAT_COLUMNS).where(chats.c.id == bindparam("id"), chats.c.deleted_at.is_(None)),
                xid,
                next_message,
            ),
            dialect,
            "id",
        ),
        direct_chat=text_of(
            locked(
                select(*CHAT_COLUMNS)
                .join(direct_chats, direct_chats.c.chat_id == chats.c.id)
                .where(
                    direct_chats.c.low_user_id == bindparam("low"),
                    direct_chats.c.high_user_id == bindparam("high"),
                ),
                xid,
                next_message,
            ),
            dialect,
            *("low", "high"),
        ),
        session=text_of(locked(select(sessions).where(sessions.c.id == bindparam("id")), xid), dialect, "id"),
        key=text_of(select(func.pg_advisory_xact_lock(bindparam("key")), xid), dialect, "key"),
        # With their version, because this statement may see later commits than the one that read the chat.
        members=text_of(
            select(chats.c.members_version, *MEMBER_COLUMNS)
            .select_from(chats.outerjoin(members, members.c.chat_id == chats.c.id))
            .where(chats.c.id == bindparam("chat_id"))
            .order_by(members.c.position),
            dialect,
            "chat_id",
        ),
        transaction_number=text_of(select(xid), dialect),
        next={kind: text_of(select(_next_of(kind)), dialect) for kind in KINDS},
    )


def _next_of(kind: Kind) -> ColumnElement[int]:
    return func.nextval(literal_column(f"'{identifiers[kind].name}'"))


def _among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    return column == func.any(cast(bindparam(name), ARRAY(BigInteger)))


def _upsert(table: Table) -> ClauseElement:
    statement = postgresql.insert(table)
    rest = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=rest)


def _replace(table: Table) -> Insert:
    # Replaces the primary key too, so that a new row comes after all older ones.
    statement = postgresql.insert(table)
    (unique,) = (each for each in table.constraints if isinstance(each, UniqueConstraint))
    rest = {column.name: statement.excluded[column.name] for column in table.c}
    return statement.on_conflict_do_update(constraint=unique, set_=rest).inline()


class PostgresqlReader(SqlReader):
    """A `messaging_core.ports.Reader` of one snapshot."""

    def __init__(
        self,
        connection: DriverConnection,
        statements: Statements,
        locks: LockStatements,
        *,
        members: StagedMembers,
    ) -> None:
        reader = VersionedMemberReader(connection, statements, locks.members, members)
        super().__init__(connection, statements, members=reader, many=list)


class PostgresqlTransaction(SqlTransaction):
    """A `messaging_core.ports.Transaction` at READ COMMITTED: rows without a lock may change meanwhile.

    `lock_keys` has a key for each object that it has locked or stored.
    """

    def __init__(
        self,
        connection: DriverConnection,
        statements: Statements,
        locks: LockStatements,
        *,
        members: StagedMembers,
    ) -> None:
        reader = VersionedMemberReader(connection, statements, locks.members, members)
        super().__init__(connection, statements, members=reader, many=list, ids=self)
        self._locks = locks
        self._message_id: int | None = None
        self.lock_keys: set[Hashable] = set()
        self.xid: str | None = None
        """PostgreSQL's number of this transaction, once a statement has returned it."""
        self.has_applied = False

    def lock_chat(self, chat_id: ChatId) -> Chat | None:
        return self._locked_chat(self._execute(self._locks.chat, (chat_id,)).fetchone())

    def lock_direct_chat(self, one: UserId, other: UserId) -> Chat | None:
        pair = (min(one, other), max(one, other))
        found = self._execute(self._locks.direct_chat, pair).fetchone()
        if found is None:
            # A missing row cannot be locked, so lock its name; another transaction may have stored it since.
            self._lock_key("direct chat", *pair)
            found = self._execute(self._locks.direct_chat, pair).fetchone()
        return self._locked_chat(found)

    def lock_session(self, session_id: SessionId) -> Session | None:
        row = self._execute(self._locks.session, (session_id,)).fetchone()
        if row is None:
            return None
        self.xid = row[-1]
        self.lock_keys.add(("session", session_id))
        return session_of(row[:-1])

    def lock_chats_made_by(self, user_id: UserId) -> int:
        self._lock_key("chats made by", user_id)
        # A separate statement, so that it counts commits during the wait for the lock.
        return super().lock_chats_made_by(user_id)

    def lock_stored_response(self, key: IdempotencyKey) -> StoredResponse | None:
        self._lock_key("stored response", key.user_id, key.method, key.path, key.key)
        # A separate statement, so that it sees commits during the wait for the lock.
        return self.stored_response(key)

    def apply(self, effect: StorageEffect) -> None:
        self.has_applied = True
        match effect:
            case StoreChat(chat):
                self.lock_keys.add(("chat", chat.id))
            case StoreSession(session):
                self.lock_keys.add(("session", session.id))
            case StoreMessage() | ChangeMessage() | ChangeChat() | AdvanceChat() | AppendEvent():
                pass  # their chat is locked, which recorded its key
            case AdvanceMark():
                pass  # merged in the row, so that their order does not matter
            case StoreMember() | StoreRole() | EndMembership() | DeleteChat():
                pass  # their chat is locked, too
            case StoreLease() | HoldPresence() | EndPresence() | StoreSighting():
                pass  # no event depends on their order
            case StoreUser() | StoreResponse():
                pass  # a second one violates a unique constraint, or waits for the key's lock
            case _:
                assert_never(effect)
        super().apply(effect)

    def next(self, kind: Kind) -> int:
        if kind == "message" and self._message_id is not None:
            message_id, self._message_id = self._message_id, None
            return message_id
        return int(self._execute(self._locks.next[kind], ()).fetchone()[0])

    def find_xid(self) -> str | None:
        """The number by which COMMIT's outcome can be looked up; None if the transaction changed nothing."""
        if self.xid is None and self.has_applied:
            (self.xid,) = self._execute(self._locks.transaction_number, ()).fetchone()
        return self.xid if self.has_applied else None

    def _changed(self, statement: Cursor) -> int:
        # The statement may not have been sent yet; this one's result comes after it.
        self._execute(self._locks.transaction_number, ()).fetchone()
        return statement.rowcount

    def _advance(self, chat: Chat) -> None:
        if ("chat", chat.id) in self.lock_keys:
            # The chat is locked, so it exists: the result need not be read now.
            self._send_advance(chat)
        else:
            self.lock_keys.add(("chat", chat.id))
            super()._advance(chat)

    def _locked_chat(self, row: Row | None) -> Chat | None:
        if row is None:
            return None
        *columns, self.xid, self._message_id = row
        self.lock_keys.add(("chat", row[0]))
        return self._chat_of(tuple(columns))

    def _lock_key(self, *parts: object) -> None:
        digest = blake2b(repr(parts).encode(), digest_size=8).digest()
        key = int.from_bytes(digest, signed=True)
        _, self.xid = self._execute(self._locks.key, (key,)).fetchone()
        self.lock_keys.add(key)

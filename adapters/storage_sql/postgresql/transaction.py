"""Transactions that others write beside: what they lock, and where their identifiers come from."""

from collections.abc import Hashable, Mapping
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
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

from adapters.storage_sql.core_statements import compile_statements, text_of
from adapters.storage_sql.rows import (
    KINDS,
    MEMBERS_VERSION,
    Kind,
    Row,
    chat_of,
    excerpt_of,
    member_of,
    session_of,
)
from adapters.storage_sql.statements import Statements
from adapters.storage_sql.tables import chats, direct_chats, identifiers, members, sessions
from adapters.storage_sql.transaction import (
    Connection,
    Cursor,
    Many,
    Members,
    SqlReader,
    SqlTransaction,
)
from messaging_core.chats import excerpt, ranked, shown_members
from messaging_core.effects import (
    AdvanceChat,
    AppendEvent,
    ChangeMessage,
    StorageEffect,
    StoreChat,
    StoreMessage,
    StoreResponse,
    StoreSession,
    StoreUser,
)
from messaging_core.ids import ChatId, SessionId, UserId
from messaging_core.models import Chat, Excerpt, IdempotencyKey, Member, Session, StoredResponse


@frozen
class LockStatements:
    """What only an engine with several writers needs.

    Those that lock a row end with the transaction's number, in which COMMIT's outcome is looked up when the
    connection is lost meanwhile, and `chat` with an identifier for a message, drawn under the lock.
    """

    chat: str
    direct_chat: str
    session: str
    key: str
    members: str
    excerpts: str
    transaction_number: str
    next: Mapping[Kind, str]


EXCERPTS = """
SELECT wanted.id, chats.members_version, found.ranking, found.user_id, found.role, found.joined_at
FROM unnest(%s::bigint[], %s::bigint[]) AS wanted (id, size)
JOIN chats ON chats.id = wanted.id
CROSS JOIN LATERAL (
    (SELECT 1 AS ranking, user_id, role, joined_at, position FROM members
     WHERE chat_id = wanted.id AND role <> 'member' ORDER BY role DESC, position LIMIT wanted.size)
    UNION ALL
    (SELECT 2 AS ranking, user_id, role, joined_at, position FROM members
     WHERE chat_id = wanted.id ORDER BY position LIMIT wanted.size)
) AS found
ORDER BY wanted.id, found.ranking, found.position
"""
"""Those who are more than members, and the first who joined, of many chats by one look at the server."""


def postgresql_statements() -> tuple[Statements, LockStatements]:
    dialect = postgresql.dialect(paramstyle="format")  # type: ignore[no-untyped-call]
    shared = compile_statements(dialect, among=_among, upsert=_upsert, replace=_replace)
    number = cast(func.pg_current_xact_id(), Text)
    next_message = _next_of("message")

    def locked(rows: Select[Any], *more: ColumnElement[Any]) -> Select[Any]:
        # In a query around the one that locks: computed once the row is locked, and not before the wait.
        # NO KEY: nobody's foreign key waits for it, and no row that is referred to is ever deleted.
        return select(
            rows.with_for_update(key_share=True, of=rows.selected_columns[0].table).subquery(), *more
        )

    return shared, LockStatements(
        chat=text_of(
            locked(select(chats).where(chats.c.id == bindparam("id")), number, next_message), dialect, "id"
        ),
        direct_chat=text_of(
            locked(
                select(chats)
                .join(direct_chats, direct_chats.c.chat_id == chats.c.id)
                .where(
                    direct_chats.c.low_user_id == bindparam("low"),
                    direct_chats.c.high_user_id == bindparam("high"),
                ),
                number,
                next_message,
            ),
            dialect,
            *("low", "high"),
        ),
        session=text_of(
            locked(select(sessions).where(sessions.c.id == bindparam("id")), number), dialect, "id"
        ),
        key=text_of(select(func.pg_advisory_xact_lock(bindparam("key")), number), dialect, "key"),
        # With the version that they are of: a look-up of its own may see later commits than the chat's.
        members=text_of(
            select(chats.c.members_version, members.c.user_id, members.c.role, members.c.joined_at)
            .select_from(chats.outerjoin(members, members.c.chat_id == chats.c.id))
            .where(chats.c.id == bindparam("chat_id"))
            .order_by(members.c.position),
            dialect,
            "chat_id",
        ),
        excerpts=EXCERPTS,
        transaction_number=text_of(select(number), dialect),
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
    # The key as well: what is new comes behind all that is older.
    statement = postgresql.insert(table)
    (unique,) = (each for each in table.constraints if isinstance(each, UniqueConstraint))
    rest = {column.name: statement.excluded[column.name] for column in table.c}
    return statement.on_conflict_do_update(constraint=unique, set_=rest).inline()


class MembersMoved(Exception):
    """A chat's members changed between two looks of a transaction that had not locked it: begin anew."""


class _Members:
    """Finds a chat's members of the version that its row named."""

    _execute: Any
    _sql: Statements
    _locks: LockStatements
    _members: Members
    _many: Many

    def _members_of(self, chat: Row) -> tuple[Member, ...]:
        chat_id, version = chat[0], chat[MEMBERS_VERSION]
        kept = self._members.get(chat_id, version)
        if kept is not None:
            return kept
        rows = self._execute(self._locks.members, (chat_id,)).fetchall()
        if not rows or rows[0][0] != version:
            raise MembersMoved
        found = tuple([member_of(row[1:]) for row in rows if row[1] is not None])
        self._members.put(chat_id, version, found)
        return found

    def excerpts(self, sizes: Mapping[ChatId, int], viewer: UserId) -> Mapping[ChatId, Chat | Excerpt]:
        rows = self._execute(self._sql.chats_shared, (viewer, self._many([*sizes]))).fetchall()
        found: dict[ChatId, Chat | Excerpt] = {}
        missing: dict[ChatId, Row] = {}
        for row in rows:
            members = self._members.get(row[0], row[MEMBERS_VERSION])
            if members is None:
                missing[row[0]] = row
            else:
                found[row[0]] = excerpt(chat_of(row, members), viewer, sizes[row[0]])
        if missing:
            asked = (list(missing), [sizes[chat_id] for chat_id in missing])
            looked_up = self._execute(self._locks.excerpts, asked).fetchall()
            for chat_id, parts in groupby(looked_up, key=itemgetter(0)):
                found[chat_id] = self._excerpt_of(missing[chat_id], [*parts], viewer, sizes[chat_id])
        return found

    def _excerpt_of(self, chat: Row, parts: list[Row], viewer: UserId, size: int) -> Chat | Excerpt:
        """From what `EXCERPTS` gives of a chat."""
        chat_id, version, member_count = chat[0], chat[MEMBERS_VERSION], chat[-1]
        if parts[0][1] != version:
            raise MembersMoved
        ranks = [member_of(part[3:]) for part in parts if part[2] == 1]
        first = tuple([member_of(part[3:]) for part in parts if part[2] != 1])
        if member_count <= size:
            self._members.put(chat_id, version, first)
            return chat_of(chat, first)
        rankings = ([member.user_id for member in group] for group in (ranked(ranks), first))
        return excerpt_of(chat, shown_members((viewer,), *rankings, count=size))


class PostgresqlReader(_Members, SqlReader):
    """A `messaging_core.ports.Reader` of one snapshot."""

    def __init__(
        self, connection: Connection, statements: Statements, locks: LockStatements, *, members: Members
    ) -> None:
        super().__init__(connection, statements, members=members, many=list)
        self._locks = locks


class PostgresqlTransaction(_Members, SqlTransaction):
    """A `messaging_core.ports.Transaction` at READ COMMITTED: what is not locked may change meanwhile.

    `met` holds a key for everything that it has locked, or made for others to lock.
    """

    def __init__(
        self, connection: Connection, statements: Statements, locks: LockStatements, *, members: Members
    ) -> None:
        super().__init__(connection, statements, members=members, many=list, numbers=self)
        self._locks = locks
        self._message_id: int | None = None
        self.met: set[Hashable] = set()
        self.number: str | None = None
        """How PostgreSQL calls this transaction, once that has been asked for."""
        self.has_applied = False

    def lock_chat(self, chat_id: ChatId) -> Chat | None:
        return self._locked_chat(self._execute(self._locks.chat, (chat_id,)).fetchone())

    def lock_direct_chat(self, one: UserId, other: UserId) -> Chat | None:
        pair = (min(one, other), max(one, other))
        found = self._execute(self._locks.direct_chat, pair).fetchone()
        if found is None:
            # What does not exist cannot be locked, so its name is; then another may have made it.
            self._lock_key("direct chat", *pair)
            found = self._execute(self._locks.direct_chat, pair).fetchone()
        return self._locked_chat(found)

    def lock_session(self, session_id: SessionId) -> Session | None:
        row = self._execute(self._locks.session, (session_id,)).fetchone()
        if row is None:
            return None
        self.number = row[-1]
        self.met.add(("session", session_id))
        return session_of(row[:-1])

    def lock_chats_made_by(self, user_id: UserId) -> int:
        self._lock_key("chats made by", user_id)
        # A statement of its own: it counts what was committed while the lock was waited for.
        return super().lock_chats_made_by(user_id)

    def lock_stored_response(self, key: IdempotencyKey) -> StoredResponse | None:
        self._lock_key("stored response", key.user_id, key.method, key.path, key.key)
        # A statement of its own: it sees what was committed while the lock was waited for.
        return self.stored_response(key)

    def apply(self, effect: StorageEffect) -> None:
        self.has_applied = True
        match effect:
            case StoreChat(chat):
                self.met.add(("chat", chat.id))
            case StoreSession(session):
                self.met.add(("session", session.id))
            case StoreMessage() | ChangeMessage() | AdvanceChat() | AppendEvent():
                pass  # their chat is locked, and noted with its lock
            case StoreUser() | StoreResponse():
                pass  # a second one meets the unique constraint, or the key's lock
            case _:
                assert_never(effect)
        super().apply(effect)

    def next(self, kind: Kind) -> int:
        if kind == "message" and self._message_id is not None:
            number, self._message_id = self._message_id, None
            return number
        return int(self._execute(self._locks.next[kind], ()).fetchone()[0])

    def find_number(self) -> str | None:
        """The number under which COMMIT's outcome can be found out; None for what changes nothing."""
        if self.number is None and self.has_applied:
            (self.number,) = self._execute(self._locks.transaction_number, ()).fetchone()
        return self.number if self.has_applied else None

    def _changed(self, statement: Cursor) -> int:
        # It may not have been sent yet; this one's result comes behind its.
        self._execute(self._locks.transaction_number, ()).fetchone()
        return statement.rowcount

    def _advance(self, chat: Chat) -> None:
        if ("chat", chat.id) in self.met:
            # Locked, it exists: the result can wait.
            self._execute(self._sql.advance_chat, self._advanced(chat))
        else:
            self.met.add(("chat", chat.id))
            super()._advance(chat)

    def _locked_chat(self, row: Row | None) -> Chat | None:
        if row is None:
            return None
        *columns, self.number, self._message_id = row
        self.met.add(("chat", row[0]))
        return self._chat_of(tuple(columns))

    def _lock_key(self, *parts: object) -> None:
        digest = blake2b(repr(parts).encode(), digest_size=8).digest()
        key = int.from_bytes(digest, signed=True)
        _, self.number = self._execute(self._locks.key, (key,)).fetchone()
        self.met.add(key)

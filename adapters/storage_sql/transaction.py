"""Runs the compiled statements on a raw driver connection, for reads and changes."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol, assert_never

from adapters.storage_sql.driver import Cursor, DriverConnection, ManyParameter, Row
from adapters.storage_sql.members import MemberReader, MemberWriter
from adapters.storage_sql.rows import (
    Kind,
    changed_message_row,
    chat_of,
    entry_of,
    entry_row,
    excerpt_of,
    key_row,
    message_of,
    message_row,
    moment,
    seconds,
    session_of,
    session_row,
    stored_response_of,
    stored_response_row,
    tombstone_of,
    user_of,
    user_row,
)
from adapters.storage_sql.statements import Statements
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
    MembershipEffect,
    PresenceEffect,
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
from messaging_core.events import LogEntry
from messaging_core.ids import MAX_ID, ChatId, MessageId, SessionId, UserId
from messaging_core.marks import NOTHING_READ, Mark
from messaging_core.models import (
    Chat,
    Excerpt,
    IdempotencyKey,
    Member,
    Message,
    Session,
    Sighting,
    StoredResponse,
    Tombstone,
    User,
)
from messaging_core.ports import FORGOTTEN_AT_ONCE
from messaging_core.positions import Reach, furthest

BEYOND = MAX_ID + 1
"""Greater than every identifier and sequence number."""


class IdSource(Protocol):
    """Draws new identifiers."""

    def next(self, kind: Kind) -> int: ...


class SqlReader:
    """A `messaging_core.ports.Reader` of its connection's current transaction."""

    def __init__(
        self,
        connection: DriverConnection,
        statements: Statements,
        *,
        members: MemberReader,
        many: ManyParameter,
    ) -> None:
        self._execute = connection.execute
        self._sql = statements
        self._members = members
        self._many = many

    def user(self, user_id: UserId) -> User | None:
        row = self._execute(self._sql.user, (user_id,)).fetchone()
        return None if row is None else user_of(row)

    def users(self, user_ids: Collection[UserId]) -> Mapping[UserId, User]:
        rows = self._execute(self._sql.users, (self._many(user_ids),)).fetchall()
        return {row[0]: user_of(row) for row in rows}

    def user_by_email(self, email_key: str) -> User | None:
        row = self._execute(self._sql.user_by_email, (email_key,)).fetchone()
        return None if row is None else user_of(row)

    def user_by_tag(self, tag: str) -> User | None:
        row = self._execute(self._sql.user_by_tag, (tag,)).fetchone()
        return None if row is None else user_of(row)

    def password_hash(self, user_id: UserId) -> str | None:
        row = self._execute(self._sql.password_hash, (user_id,)).fetchone()
        return None if row is None else row[0]

    def session(self, session_id: SessionId) -> Session | None:
        row = self._execute(self._sql.session, (session_id,)).fetchone()
        return None if row is None else session_of(row)

    def chat(self, chat_id: ChatId) -> Chat | None:
        return self._chat_of(self._execute(self._sql.chat, (chat_id,)).fetchone())

    def tombstone(self, chat_id: ChatId) -> Tombstone | None:
        row = self._execute(self._sql.tombstone, (chat_id,)).fetchone()
        return None if row is None else tombstone_of(row)

    def ended_members(self, chat_id: ChatId, since: int) -> Sequence[Member]:
        return self._members.former_members(chat_id, since)

    def direct_chat(self, one: UserId, other: UserId) -> Chat | None:
        pair = (min(one, other), max(one, other))
        return self._chat_of(self._execute(self._sql.direct_chat, pair).fetchone())

    def chats_of(self, user_id: UserId, after_id: ChatId | None, count: int) -> Sequence[Chat | Excerpt]:
        rows = self._execute(self._sql.chats_of, (user_id, after_id or 0, count)).fetchall()
        return [excerpt_of(row) for row in rows]

    def excerpts(self, sizes: Mapping[ChatId, int], viewer: UserId) -> Mapping[ChatId, Chat | Excerpt]:
        rows = self._execute(self._sql.chats_shared, (viewer, self._many([*sizes]))).fetchall()
        found = self._members.excerpts(rows, sizes, viewer)
        large = [chat for chat in found.values() if isinstance(chat, Excerpt) and chat.viewer is None]
        if large:
            own = self._members.own_memberships(viewer, self._many([chat.id for chat in large]))
            found.update({chat.id: chat._replace(viewer=own[chat.id]) for chat in large})
        return found

    def mark_at(self, chat_id: ChatId, message_id: MessageId) -> Mark:
        before = self._first_from(chat_id, MessageId(message_id + 1))
        row = self._execute(self._sql.mark_before, (chat_id, before)).fetchone()
        return NOTHING_READ if row is None else Mark(*row)

    def marks(self, chat_id: ChatId) -> Mapping[UserId, Mark]:
        return self._members.marks(chat_id)

    def own_marks(self, user_id: UserId, chat_ids: Collection[ChatId]) -> Mapping[ChatId, Mark]:
        return self._members.own_marks(user_id, self._many(chat_ids))

    def furthest_marks(self, user_id: UserId, chat_ids: Collection[ChatId]) -> Mapping[ChatId, Mark]:
        return self._members.furthest_marks(user_id, self._many(chat_ids))

    def shares_chat(self, one: UserId, other: UserId) -> bool:
        return self._execute(self._sql.shares_chat, (one, other)).fetchone() is not None

    def positions(self, user_ids: Collection[UserId]) -> Mapping[ChatId, Reach]:
        users = self._many(user_ids)
        found: dict[ChatId, Reach] = {}
        for chat_id, number, is_open in self._execute(self._sql.positions, (users, users)).fetchall():
            found[chat_id] = furthest(Reach(number, is_open == 1), found.get(chat_id))
        return found

    def message(self, message_id: MessageId) -> Message | None:
        row = self._execute(self._sql.message, (message_id,)).fetchone()
        return None if row is None else message_of(row)

    def last_messages(self, message_ids: Mapping[ChatId, MessageId]) -> Mapping[ChatId, Message]:
        rows = self._execute(self._sql.last_messages, (self._many(message_ids.values()),)).fetchall()
        return {message.chat_id: message for message in self._messages_of(rows)}

    def messages_before(
        self, chat_id: ChatId, before_id: MessageId | None, count: int, since: int = 1
    ) -> Sequence[Message]:
        before = BEYOND if before_id is None else self._first_from(chat_id, before_id)
        rows = self._execute(self._sql.messages_before, (chat_id, before, since, count)).fetchall()
        return self._messages_of(rows)

    def messages_after(
        self, chat_id: ChatId, after_id: MessageId, count: int, since: int = 1
    ) -> Sequence[Message]:
        first = max(self._first_from(chat_id, MessageId(after_id + 1)), since)
        rows = self._execute(self._sql.messages_after, (chat_id, first - 1, count)).fetchall()
        return self._messages_of(rows)

    def message_ids_of_others(
        self,
        chat_id: ChatId,
        user_id: UserId,
        after_id: MessageId,
        through_id: MessageId,
        *,
        count: int,
        since: int,
    ) -> Sequence[MessageId]:
        before = self._first_from(chat_id, MessageId(through_id + 1))
        first = max(self._first_from(chat_id, MessageId(after_id + 1)), since)
        rows = self._execute(
            self._sql.message_ids_of_others, (chat_id, before, first, user_id, count)
        ).fetchall()
        return [id_ for (id_,) in rows]

    def _messages_of(self, rows: Sequence[Row]) -> Sequence[Message]:
        return [message_of(row) for row in rows]

    def _first_from(self, chat_id: ChatId, message_id: MessageId) -> int:
        """The bound between the sequences of the chat's earlier messages and of those from this id on."""
        numbers = self._execute(self._sql.message_numbers, (message_id, message_id - 1)).fetchall()
        of_chat: dict[int, int] = {id_: number for in_chat, id_, number in numbers if in_chat == chat_id}
        if message_id in of_chat:
            return of_chat[message_id]
        if of_chat:
            return of_chat[message_id - 1] + 1
        # Neither id is a message of this chat: search by halves.
        last = self._execute(self._sql.last_message_number, (chat_id,)).fetchone()
        if last is None or last[0] < message_id:
            return BEYOND
        low, high = 1, int(last[1])
        while low < high:
            middle = (low + high) // 2
            id_, number = self._execute(self._sql.next_message_number, (chat_id, middle)).fetchone()
            if id_ < message_id:
                low = number + 1
            else:
                high = middle
        return high

    def stored_response(self, key: IdempotencyKey) -> StoredResponse | None:
        row = self._execute(self._sql.stored_response, key_row(key)).fetchone()
        return None if row is None else stored_response_of(key, row)

    def sighting(self, user_id: UserId) -> Sighting | None:
        return self.sightings((user_id,)).get(user_id)

    def sightings(self, user_ids: Collection[UserId]) -> Mapping[UserId, Sighting]:
        users = self._many(user_ids)
        found: dict[UserId, tuple[int, int]] = {}
        for user_id, at, until in self._execute(self._sql.sightings, (users, users)).fetchall():
            known_at, known_until = found.get(user_id, (at, until))
            found[user_id] = (max(at, known_at), max(until, known_until))
        return {user_id: Sighting(moment(at), moment(until)) for user_id, (at, until) in found.items()}

    def log(self, chat_id: ChatId, after_sequence: int, count: int) -> Sequence[LogEntry]:
        part = (chat_id, after_sequence, count)
        rows = self._execute(self._sql.log, (*part, *part, count)).fetchall()
        return [entry_of(row) for row in rows]

    def _chat_of(self, row: Row | None) -> Chat | None:
        return None if row is None else self._chat(row)

    def _chat(self, row: Row) -> Chat:
        return chat_of(row, self._members.members(row))


class SqlTransaction(SqlReader):
    """A `messaging_core.ports.Transaction` on the only connection that writes: everything is locked."""

    def __init__(
        self,
        connection: DriverConnection,
        statements: Statements,
        *,
        members: MemberReader,
        many: ManyParameter,
        ids: IdSource,
    ) -> None:
        super().__init__(connection, statements, members=members, many=many)
        self._member_writer = MemberWriter(connection, statements, self._changed)
        self._ids = ids

    lock_chat = SqlReader.chat
    lock_direct_chat = SqlReader.direct_chat
    lock_session = SqlReader.session
    lock_stored_response = SqlReader.stored_response

    def lock_chats_made_by(self, user_id: UserId) -> int:
        return int(self._execute(self._sql.chats_made_by, (user_id,)).fetchone()[0])

    def next_user_id(self) -> UserId:
        return UserId(self._ids.next("user"))

    def next_session_id(self) -> SessionId:
        return SessionId(self._ids.next("session"))

    def next_chat_id(self) -> ChatId:
        return ChatId(self._ids.next("chat"))

    def next_message_id(self) -> MessageId:
        return MessageId(self._ids.next("message"))

    def apply(self, effect: StorageEffect) -> None:
        match effect:  # the effects of a message come first, because each failed match takes time
            case StoreMessage(message, ordinal):
                self._execute(self._sql.insert_message, (*message_row(message), ordinal))
            case AdvanceChat(chat):
                self._advance(chat)
            case StoreResponse(response):
                self._execute(self._sql.store_response, stored_response_row(response))
            case ChangeMessage(message):
                self._change("message", message.id, self._sql.change_message, changed_message_row(message))
            case AppendEvent(entry):
                self._execute(self._sql.append_event, entry_row(entry))
            case StoreSession(session):
                self._execute(self._sql.store_session, session_row(session))
            case StoreUser(user, password_hash, email_key):
                self._execute(self._sql.insert_user, user_row(user))
                self._execute(self._sql.insert_email_key, (email_key, user.id))
                self._execute(self._sql.insert_password_hash, (user.id, password_hash))
            case ChangeChat() | AdvanceMark():
                self._change_chat(effect)
            case StoreChat() | StoreMember() | StoreRole() | EndMembership() | DeleteChat():
                self._change_members(effect)
            case _:  # the type checker proves that only those of presence are left
                self._change_presence(effect)

    def forget_before(self, *, responses: datetime, sessions: datetime) -> int:
        over = seconds(sessions)
        old_responses = self._execute(self._sql.forget_responses, (FORGOTTEN_AT_ONCE, seconds(responses)))
        old_sessions = self._execute(self._sql.forget_sessions, (over, over, FORGOTTEN_AT_ONCE))
        return self._changed(old_responses) + self._changed(old_sessions)

    def _change(self, kind: Kind, id_: int, statement: str, parameters: Row) -> None:
        if self._changed(self._execute(statement, parameters)) == 0:
            raise LookupError(f"there is no {kind} {id_} to change")

    def renew_lease(self, holder: str, *, until: datetime, now: datetime) -> bool:
        renewal = (seconds(until), holder, seconds(now))
        return self._changed(self._execute(self._sql.renew_lease, renewal)) == 1

    def drop_leases(self, before: datetime) -> int:
        old = self._execute(self._sql.old_presences, (seconds(before), FORGOTTEN_AT_ONCE)).fetchall()
        for user_id, holder, until in old:
            self._change_presence(StoreSighting(user_id, Sighting(moment(until), moment(until))))
            self._change_presence(EndPresence(holder, user_id))
        if len(old) < FORGOTTEN_AT_ONCE:
            self._execute(self._sql.drop_leases, (seconds(before),))
        return len(old)

    def _change_presence(self, effect: PresenceEffect) -> None:
        match effect:
            case StoreLease(holder, until):
                self._execute(self._sql.add_lease, (holder, seconds(until)))
            case HoldPresence(holder, user_id):
                self._execute(self._sql.hold_presence, (user_id, holder, user_id, holder))
            case EndPresence(holder, user_id):
                self._execute(self._sql.end_presence, (user_id, holder))
            case StoreSighting(user_id, sighting):
                at, until_ = seconds(sighting.at), seconds(sighting.until)
                self._execute(self._sql.renew_sighting, (at, at, until_, until_, user_id))
                self._execute(self._sql.add_sighting, (user_id, at, until_, user_id))
            case _:  # pragma: no cover - the type checker proves it unreachable
                assert_never(effect)

    def _changed(self, statement: Cursor) -> int:
        """How many rows a statement changed."""
        return statement.rowcount

    def _change_members(self, effect: MembershipEffect) -> None:
        self._member_writer.apply(effect)

    def _change_chat(self, effect: ChangeChat | AdvanceMark) -> None:
        match effect:
            case ChangeChat(chat):
                changed = (chat.title, chat.avatar_url, chat.history._value_, chat.id)
                self._change("chat", chat.id, self._sql.change_chat, changed)
            case AdvanceMark(chat, user_id, mark):
                self._member_writer.advance_mark(chat, user_id, mark)
            case _:  # pragma: no cover - the type checker proves it unreachable
                assert_never(effect)

    def _advance(self, chat: Chat) -> None:
        if self._changed(self._send_advance(chat)) == 0:
            raise LookupError(f"there is no chat {chat.id} to advance")

    def _send_advance(self, chat: Chat) -> Cursor:
        advanced = (chat.sequence, seconds(chat.active_at), chat.last_message_id, chat.message_count)
        if not chat.marks:
            return self._execute(self._sql.advance_chat, (*advanced, chat.id))
        first, second = chat.marks
        return self._execute(self._sql.advance_direct_chat, (*advanced, *first, *second, chat.id))

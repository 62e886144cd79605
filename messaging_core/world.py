"""The reference storage: what the storage port means, in memory, synchronous, in as few lines as possible.

Operations run one after another, each to its end. So the running operation holds every lock, and a view is
consistent.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from itertools import count as count_from
from typing import Any, TypeVar, assert_never

from attrs import Factory, evolve, frozen

from messaging_core.chats import excerpt
from messaging_core.effects import (
    AdvanceChat,
    AdvanceMark,
    AppendEvent,
    ChangeChat,
    ChangeMessage,
    DeleteChat,
    DeliveryEffect,
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
from messaging_core.events import LogEntry, creation
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.marks import NOTHING_READ, Mark, marks_by, merged
from messaging_core.models import (
    Chat,
    Excerpt,
    IdempotencyKey,
    Member,
    Message,
    Role,
    Session,
    Sighting,
    StoredResponse,
    Tombstone,
    User,
)
from messaging_core.operations import Operation, apply_decision
from messaging_core.ports import FORGOTTEN_AT_ONCE, Reader, Transaction
from messaging_core.positions import Reach, ended, furthest

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@frozen
class _Tables:
    users: dict[UserId, User] = Factory(dict)
    email_keys: dict[str, UserId] = Factory(dict)
    tags: dict[str, UserId] = Factory(dict)
    password_hashes: dict[UserId, str] = Factory(dict)
    sessions: dict[SessionId, Session] = Factory(dict)
    chats: dict[ChatId, Chat] = Factory(dict)
    direct_chats: dict[frozenset[UserId], ChatId] = Factory(dict)
    tombstones: dict[ChatId, Tombstone] = Factory(dict)
    chats_of: dict[UserId, dict[ChatId, None]] = Factory(dict)
    group_marks: dict[ChatId, dict[UserId, Mark]] = Factory(dict)
    ordinals: dict[MessageId, int] = Factory(dict)
    creators: dict[ChatId, UserId] = Factory(dict)
    """Who created each chat, until they leave it."""
    ended: dict[ChatId, list[Member]] = Factory(dict)
    """Each chat's memberships that have ended, in the order of their ends."""
    ends: dict[UserId, dict[ChatId, int]] = Factory(dict)
    """The last end of each user's memberships, by chat."""
    messages: dict[MessageId, Message] = Factory(dict)
    history: dict[ChatId, list[MessageId]] = Factory(dict)
    """The ids of each chat's messages, in order."""
    logs: dict[ChatId, list[LogEntry]] = Factory(dict)
    """Each chat's log; the entry of sequence n is the nth."""
    responses: dict[IdempotencyKey, StoredResponse] = Factory(dict)
    sightings: dict[UserId, Sighting] = Factory(dict)
    leases: dict[str, datetime] = Factory(dict)
    """The end of each process's lease."""
    presences: dict[UserId, dict[str, None]] = Factory(dict)
    """The leases that hold each user."""


class _WorldReader:
    def __init__(self, tables: _Tables) -> None:
        self._tables = tables

    def user(self, user_id: UserId) -> User | None:
        return self._tables.users.get(user_id)

    def users(self, user_ids: Collection[UserId]) -> Mapping[UserId, User]:
        users = self._tables.users
        return {user_id: users[user_id] for user_id in user_ids if user_id in users}

    def user_by_email(self, email_key: str) -> User | None:
        user_id = self._tables.email_keys.get(email_key)
        return None if user_id is None else self._tables.users[user_id]

    def user_by_tag(self, tag: str) -> User | None:
        user_id = self._tables.tags.get(tag)
        return None if user_id is None else self._tables.users[user_id]

    def password_hash(self, user_id: UserId) -> str | None:
        return self._tables.password_hashes.get(user_id)

    def session(self, session_id: SessionId) -> Session | None:
        return self._tables.sessions.get(session_id)

    def chat(self, chat_id: ChatId) -> Chat | None:
        return self._tables.chats.get(chat_id)

    def tombstone(self, chat_id: ChatId) -> Tombstone | None:
        return self._tables.tombstones.get(chat_id)

    def ended_members(self, chat_id: ChatId, since: int) -> Sequence[Member]:
        found = self._tables.ended.get(chat_id, [])
        return [member for member in found if member.range.last is None or member.range.last >= since]

    def direct_chat(self, one: UserId, other: UserId) -> Chat | None:
        chat_id = self._tables.direct_chats.get(frozenset({one, other}))
        return None if chat_id is None else self._tables.chats[chat_id]

    def chats_of(self, user_id: UserId, after_id: ChatId | None, count: int) -> Sequence[Chat]:
        after = 0 if after_id is None else after_id
        ids = sorted(id_ for id_ in self._tables.chats_of.get(user_id, ()) if id_ > after)
        return [self._tables.chats[chat_id] for chat_id in ids[:count]]

    def excerpts(self, sizes: Mapping[ChatId, int], viewer: UserId) -> Mapping[ChatId, Chat | Excerpt]:
        own = self._tables.chats_of.get(viewer, {})
        return {
            id_: excerpt(self._tables.chats[id_], viewer, size) for id_, size in sizes.items() if id_ in own
        }

    def mark_at(self, chat_id: ChatId, message_id: MessageId) -> Mark:
        history = self._tables.history.get(chat_id, [])
        found = history[: bisect_right(history, message_id)][-1:]
        return Mark(found[0], self._tables.ordinals[found[0]]) if found else NOTHING_READ

    def marks(self, chat_id: ChatId) -> Mapping[UserId, Mark]:
        chat = self._tables.chats.get(chat_id)
        if chat is None:
            return {}
        if not chat.is_group:
            return dict(zip(chat.member_ids, chat.marks or (NOTHING_READ, NOTHING_READ), strict=True))
        marks = self._tables.group_marks.get(chat_id, {})
        return {user_id: marks.get(user_id, NOTHING_READ) for user_id in chat.member_ids}

    def own_marks(self, user_id: UserId, chat_ids: Collection[ChatId]) -> Mapping[ChatId, Mark]:
        found = {chat_id: self.marks(chat_id) for chat_id in chat_ids}
        return {chat_id: marks[user_id] for chat_id, marks in found.items() if user_id in marks}

    def furthest_marks(self, user_id: UserId, chat_ids: Collection[ChatId]) -> Mapping[ChatId, Mark]:
        found: dict[ChatId, Mark] = {}
        for chat_id in chat_ids:
            others = [mark for each, mark in self.marks(chat_id).items() if each != user_id]
            if others:
                found[chat_id] = max(others)
        return found

    def shares_chat(self, one: UserId, other: UserId) -> bool:
        chats_of = self._tables.chats_of
        return not chats_of.get(one, {}).keys().isdisjoint(chats_of.get(other, {}))

    def positions(self, user_ids: Collection[UserId]) -> Mapping[ChatId, Reach]:
        tables = self._tables
        found: dict[ChatId, Reach] = {}
        for user_id in user_ids:
            for chat_id, last in tables.ends.get(user_id, {}).items():
                found[chat_id] = furthest(Reach(last, is_open=False), found.get(chat_id))
        for user_id in user_ids:
            for chat_id in tables.chats_of.get(user_id, ()):
                found[chat_id] = Reach(tables.chats[chat_id].sequence, is_open=True)
        return found

    def message(self, message_id: MessageId) -> Message | None:
        return self._tables.messages.get(message_id)

    def last_messages(self, message_ids: Mapping[ChatId, MessageId]) -> Mapping[ChatId, Message]:
        return {chat_id: self._tables.messages[message_id] for chat_id, message_id in message_ids.items()}

    def messages_before(
        self, chat_id: ChatId, before_id: MessageId | None, count: int, since: int = 1
    ) -> Sequence[Message]:
        history = self._history(chat_id, since)
        end = len(history) if before_id is None else bisect_left(history, before_id)
        newest_first = reversed(history[max(0, end - count) : end])
        return [self._tables.messages[message_id] for message_id in newest_first]

    def messages_after(
        self, chat_id: ChatId, after_id: MessageId, count: int, since: int = 1
    ) -> Sequence[Message]:
        history = self._history(chat_id, since)
        start = bisect_right(history, after_id)
        return [self._tables.messages[message_id] for message_id in history[start : start + count]]

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
        history, messages = self._history(chat_id, since), self._tables.messages
        between = history[bisect_right(history, after_id) : bisect_right(history, through_id)]
        return [id_ for id_ in reversed(between) if messages[id_].author_id != user_id][:count]

    def _history(self, chat_id: ChatId, since: int) -> Sequence[MessageId]:
        """The ids of a chat's messages from a number on."""
        history, messages = self._tables.history.get(chat_id, []), self._tables.messages
        first = bisect_left(history, since, key=lambda message_id: messages[message_id].sequence)
        return history[first:] if first else history

    def sighting(self, user_id: UserId) -> Sighting | None:
        tables = self._tables
        holders = tables.presences.get(user_id, ())
        ends = [tables.leases[holder] for holder in holders if holder in tables.leases]
        found = [Sighting(end, end) for end in ends]
        if user_id in tables.sightings:
            found.append(tables.sightings[user_id])
        if not found:
            return None
        return Sighting(max(each.at for each in found), max(each.until for each in found))

    def sightings(self, user_ids: Collection[UserId]) -> Mapping[UserId, Sighting]:
        each = ((user_id, self.sighting(user_id)) for user_id in user_ids)
        return {user_id: found for user_id, found in each if found is not None}

    def stored_response(self, key: IdempotencyKey) -> StoredResponse | None:
        return self._tables.responses.get(key)

    def log(self, chat_id: ChatId, after_sequence: int, count: int) -> Sequence[LogEntry]:
        return self._tables.logs.get(chat_id, [])[after_sequence : after_sequence + count]


class _WorldTransaction(_WorldReader):
    """Changes the tables at once, and records how to undo each change."""

    def __init__(self, tables: _Tables, numbers: Mapping[str, "count_from[int]"]) -> None:
        super().__init__(tables)
        self._numbers = numbers
        self._undo: list[Callable[[], object]] = []

    lock_chat = _WorldReader.chat
    lock_direct_chat = _WorldReader.direct_chat
    lock_session = _WorldReader.session
    lock_stored_response = _WorldReader.stored_response

    def lock_chats_made_by(self, user_id: UserId) -> int:
        creators = self._tables.creators
        return sum(creators.get(chat_id) == user_id for chat_id in self._tables.chats_of.get(user_id, ()))

    # A rollback does not return identifiers, as in the other storages.
    def next_user_id(self) -> UserId:
        return UserId(next(self._numbers["user"]))

    def next_session_id(self) -> SessionId:
        return SessionId(next(self._numbers["session"]))

    def next_chat_id(self) -> ChatId:
        return ChatId(next(self._numbers["chat"]))

    def next_message_id(self) -> MessageId:
        return MessageId(next(self._numbers["message"]))

    def apply(self, effect: StorageEffect) -> None:
        tables = self._tables
        match effect:
            case StoreUser(user, password_hash, email_key):
                self._add(tables.users, user.id, user)
                self._add(tables.email_keys, email_key, user.id)
                self._add(tables.tags, user.tag, user.id)
                self._add(tables.password_hashes, user.id, password_hash)
            case StoreSession(session):
                self._put(tables.sessions, session.id, session)
            case AdvanceChat() | ChangeChat() | AdvanceMark():
                self._change_chat(effect)
            case StoreChat() | StoreMember() | StoreRole() | EndMembership() | DeleteChat():
                self._change_members(effect)
            case StoreMessage(message, ordinal):
                self._store_message(message, ordinal)
                self._append(creation(message))
            case ChangeMessage(message):
                if message.id not in tables.messages:
                    raise LookupError(f"there is no message {message.id} to change")
                self._put(tables.messages, message.id, message)
            case AppendEvent(entry):
                self._append(entry)
            case StoreResponse(response):
                self._put(tables.responses, response.key, response)
            case _:  # the type checker proves that only those of presence are left
                self._change_presence(effect)

    def forget_before(self, *, responses: datetime, sessions: datetime) -> int:
        old_responses = [key for key, each in self._tables.responses.items() if each.created_at < responses]
        old_sessions = [
            session.id
            for session in self._tables.sessions.values()
            if session.expires_at < sessions or (session.ended_at is not None and session.ended_at < sessions)
        ]
        del old_responses[FORGOTTEN_AT_ONCE:]
        del old_sessions[FORGOTTEN_AT_ONCE:]
        for key in old_responses:
            self._remove(self._tables.responses, key)
        for session_id in old_sessions:
            self._remove(self._tables.sessions, session_id)
        return len(old_responses) + len(old_sessions)

    def renew_lease(self, holder: str, *, until: datetime, now: datetime) -> bool:
        leases = self._tables.leases
        lasts = holder in leases and leases[holder] >= now
        if lasts:
            self._put(leases, holder, until)
        return lasts

    def drop_leases(self, before: datetime) -> int:
        tables = self._tables
        old = {holder: until for holder, until in tables.leases.items() if until < before}
        presences = sorted(
            (holder, user_id)
            for user_id, holders in tables.presences.items()
            for holder in holders
            if holder in old
        )[:FORGOTTEN_AT_ONCE]
        for holder, user_id in presences:
            self._change_presence(StoreSighting(user_id, Sighting(old[holder], old[holder])))
            self._change_presence(EndPresence(holder, user_id))
        if len(presences) < FORGOTTEN_AT_ONCE:
            for holder in old:
                self._remove(tables.leases, holder)
        return len(presences)

    def roll_back(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _change_chat(self, effect: AdvanceChat | ChangeChat | AdvanceMark) -> None:
        chat = effect.chat
        match effect:
            case AdvanceChat():
                changes: dict[str, Any] = {
                    "sequence": chat.sequence,
                    "active_at": chat.active_at,
                    "last_message_id": chat.last_message_id,
                    "message_count": chat.message_count,
                    "marks": merged(self._tables.chats[chat.id].marks, chat.marks),
                }
            case AdvanceMark(_, user_id, mark):
                self._advance_mark(chat.id, user_id, mark)
                return
            case ChangeChat():
                changes = {"title": chat.title, "avatar_url": chat.avatar_url, "history": chat.history}
            case _:
                assert_never(effect)
        self._put(self._tables.chats, chat.id, evolve(self._tables.chats[chat.id], **changes))

    def _change_members(self, effect: MembershipEffect) -> None:
        tables = self._tables
        match effect:
            case StoreChat(chat):
                self._store_chat(chat)
            case StoreMember(chat_id, member):
                self._store_member(chat_id, member)
            case StoreRole(chat_id, user_id, role):
                self._store_role(chat_id, user_id, role)
            case EndMembership(chat_id, user_id, last):
                self._end_membership(chat_id, user_id, last)
            case DeleteChat(tombstone, member_ids):
                for user_id in sorted(member_ids):
                    self._end_membership(tombstone.chat_id, user_id, tombstone.sequence)
                self._remove(tables.chats, tombstone.chat_id)
                self._add(tables.tombstones, tombstone.chat_id, tombstone)
            case _:
                assert_never(effect)

    def _change_presence(self, effect: PresenceEffect) -> None:
        tables = self._tables
        match effect:
            case StoreLease(holder, until):
                self._add(tables.leases, holder, until)
            case HoldPresence(holder, user_id):
                self._put(tables.presences.setdefault(user_id, {}), holder, None)
            case EndPresence(holder, user_id):
                if holder in tables.presences.get(user_id, ()):
                    self._remove(tables.presences[user_id], holder)
            case StoreSighting(user_id, new):
                old = tables.sightings.get(user_id, new)
                later = Sighting(max(old.at, new.at), max(old.until, new.until))
                self._put(tables.sightings, user_id, later)
            case _:
                assert_never(effect)

    def _store_chat(self, chat: Chat) -> None:
        self._add(self._tables.chats, chat.id, chat)
        for user_id in chat.member_ids:
            self._add(self._tables.chats_of.setdefault(user_id, {}), chat.id, None)
        self._add(self._tables.creators, chat.id, chat.member_ids[0])
        if not chat.is_group:
            self._add(self._tables.direct_chats, frozenset(chat.member_ids), chat.id)

    def _store_member(self, chat_id: ChatId, member: Member) -> None:
        chat = self._tables.chats[chat_id]
        self._add(self._tables.chats_of.setdefault(member.user_id, {}), chat_id, None)
        self._put(self._tables.chats, chat_id, evolve(chat, members=(*chat.members, member)))

    def _store_role(self, chat_id: ChatId, user_id: UserId, role: Role) -> None:
        chat = self._tables.chats[chat_id]
        if chat.member(user_id) is None:
            raise LookupError(f"{user_id} is no member of chat {chat_id}")
        members = tuple([evolve(m, role=role) if m.user_id == user_id else m for m in chat.members])
        self._put(self._tables.chats, chat_id, evolve(chat, members=members))

    def _end_membership(self, chat_id: ChatId, user_id: UserId, last: int) -> None:
        tables = self._tables
        chat = tables.chats[chat_id]
        member = chat.member(user_id)
        if member is None:
            raise LookupError(f"{user_id} is no member of chat {chat_id}")
        others = tuple([each for each in chat.members if each is not member])
        self._put(tables.chats, chat_id, evolve(chat, members=others))
        self._remove(tables.chats_of[user_id], chat_id)
        marks = tables.group_marks.get(chat_id, {})
        if user_id in marks:
            self._remove(marks, user_id)
        if tables.creators.get(chat_id) == user_id:
            self._remove(tables.creators, chat_id)
        former = tables.ended.setdefault(chat_id, [])
        former.append(evolve(member, range=ended(member.range, last)))
        self._undo.append(former.pop)
        self._put(tables.ends.setdefault(user_id, {}), chat_id, last)

    def _advance_mark(self, chat_id: ChatId, user_id: UserId, mark: Mark) -> None:
        chat = self._tables.chats[chat_id]
        marks = self.marks(chat_id)
        if user_id not in marks:
            return
        if chat.is_group:
            group_marks = self._tables.group_marks.setdefault(chat_id, {})
            self._put(group_marks, user_id, max(mark, marks[user_id]))
        else:
            moved = merged(chat.marks, marks_by(user_id, mark, chat.member_ids))
            self._put(self._tables.chats, chat_id, evolve(chat, marks=moved))

    def _store_message(self, message: Message, ordinal: int) -> None:
        self._add(self._tables.messages, message.id, message)
        self._add(self._tables.ordinals, message.id, ordinal)
        history = self._tables.history.setdefault(message.chat_id, [])
        history.append(message.id)
        self._undo.append(history.pop)

    def _append(self, entry: LogEntry) -> None:
        log = self._tables.logs.setdefault(entry.chat_id, [])
        if entry.sequence != len(log) + 1:
            raise ValueError(f"{entry} does not follow on the {len(log)} entries of its chat")
        log.append(entry)
        self._undo.append(log.pop)

    def _add(self, table: dict[K, V], key: K, value: V) -> None:
        """Put a value under a new key; the decision must have checked that the key is new."""
        if key in table:
            raise ValueError(f"{key!r} exists already")
        self._put(table, key, value)

    def _put(self, table: dict[K, V], key: K, value: V) -> None:
        if key in table:
            before = table[key]
            self._undo.append(lambda: table.__setitem__(key, before))
        else:
            self._undo.append(lambda: table.pop(key))
        table[key] = value

    def _remove(self, table: dict[K, V], key: K) -> None:
        before = table.pop(key)
        self._undo.append(lambda: table.__setitem__(key, before))


class World:
    """Everything that is durable, in one object: the model of every storage, and one for programs and tests.

    `do` is what a server does with an operation, up to the delivery.
    """

    def __init__(self) -> None:
        self._tables = _Tables()
        self._numbers = {kind: count_from(1) for kind in ("user", "session", "chat", "message")}

    def do(self, operation: Operation[T]) -> tuple[T, tuple[DeliveryEffect, ...]]:
        """The operation's result, and what is to be delivered, in this order; raises its `Refused`."""

        def transaction(tx: Transaction) -> tuple[T, tuple[DeliveryEffect, ...]]:
            decision = operation(tx)
            return decision.result, tuple(apply_decision(tx, decision))

        return self.transact(transaction)

    def transact(self, operation: Callable[[Transaction], T]) -> T:
        """Run `operation` in a transaction; undoes its changes if it raises."""
        transaction = _WorldTransaction(self._tables, self._numbers)
        try:
            return operation(transaction)
        except BaseException:
            transaction.roll_back()
            raise

    def read(self, query: Callable[[Reader], T]) -> T:
        """Run `query` on the present state."""
        return query(_WorldReader(self._tables))

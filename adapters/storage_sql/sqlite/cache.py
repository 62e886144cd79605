"""Caches users, chats, memberships and each chat's last messages of an SQLite file as objects.

A cached object equals what every view that begins now shows. That holds because one process owns the file
and every commit goes through `StagedChanges`: it drops the objects that the commit changes before the commit,
keeps them out of the cache during it, when a view may show either state, and caches their new state after it.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import le
from typing import Any, NamedTuple, assert_never

from attrs import define, evolve, field

from adapters.storage_sql.driver import DriverConnection, ManyParameter, Row
from adapters.storage_sql.members import MAX_CACHED_MEMBERS, MemberReader, change_by, weight_of
from adapters.storage_sql.rows import MEMBER_COUNT, PAYLOAD
from adapters.storage_sql.sqlite.loop_limit import LoopLimit
from adapters.storage_sql.statements import Statements
from adapters.storage_sql.transaction import IdSource, SqlReader, SqlTransaction
from adapters.storage_sql.weighted_cache import WeightedCache
from messaging_core.chats import excerpt
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
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.marks import marks_by, merged
from messaging_core.models import Chat, Excerpt, Member, Message, User

MAX_CACHED_USERS = 50_000
"""About 600 bytes each."""
MAX_CACHED_CHAT_IDS = 500_000
"""Chat ids in all cached lists of a user's chats, some 40 bytes each; a list itself counts as four."""
MAX_CACHED_CHARACTERS = 32_000_000
"""Characters of all cached messages; what a message takes besides its text counts as 600."""
TAIL_LENGTH = 64
"""Cached messages of a chat: a page of the usual size and one more message fit."""


class Tail(NamedTuple):
    """The last messages of a chat, newest first."""

    messages: tuple[Message, ...]
    is_complete: bool
    """Whether these are all messages of the chat."""
    characters: int

    def with_message(self, message: Message) -> "Tail | None":
        """The tail after a message was created or changed; None where it must be read again."""
        messages, is_complete, characters = self
        if not messages or message.id > messages[0].id:
            if len(messages) == TAIL_LENGTH:
                is_complete, characters = False, characters - _characters(messages[-1])
            newest = (message, *messages[: TAIL_LENGTH - 1])
            return Tail(newest, is_complete, characters + _characters(message))
        if message.id < messages[-1].id and not is_complete:
            return self
        changed = tuple([message if cached.id == message.id else cached for cached in messages])
        return None if message not in changed else tail_of(changed)


def tail_of(messages: Sequence[Message]) -> Tail:
    """The tail of a chat whose last `TAIL_LENGTH` messages, or all of fewer, are `messages`."""
    return Tail(tuple(messages), len(messages) < TAIL_LENGTH, sum(map(_characters, messages)))


def _characters(message: Message) -> int:
    payload = 0 if message.payload is None else len(str(message.payload))
    return 600 + len(message.content or "") + payload


class CommittedCache:
    """The committed state, for every view of the file."""

    def __init__(self, *, max_members: int = MAX_CACHED_MEMBERS) -> None:
        self.users: WeightedCache[UserId, User] = WeightedCache(MAX_CACHED_USERS, lambda _: 1)
        self.chats: WeightedCache[ChatId, Chat] = WeightedCache(
            max_members, lambda chat: weight_of(chat.members)
        )
        self.chat_ids: WeightedCache[UserId, tuple[ChatId, ...]] = WeightedCache(
            MAX_CACHED_CHAT_IDS, lambda ids: 4 + len(ids)
        )
        """The ids of all chats of a user, in order."""
        self.tails: WeightedCache[ChatId, Tail] = WeightedCache(
            MAX_CACHED_CHARACTERS, lambda tail: tail.characters
        )
        self.changing_users: Collection[UserId] = ()
        """Users whom the current commit changes: none of them is cached before it ends."""
        self.changing_chats: Collection[ChatId] = ()
        self.changing_members: Collection[UserId] = ()
        """Users to whose chats the current commit adds one, or from whose chats it removes one."""
        self._loads: set[Load] = set()
        """Those whose views may be older than the last commit."""

    def put_user(self, user: User) -> None:
        if user.id not in self.changing_users:
            self.users.put(user.id, user)

    def put_chat(self, chat: Chat) -> None:
        if chat.id not in self.changing_chats:
            self.chats.put(chat.id, chat)

    def put_chat_ids(self, user_id: UserId, chat_ids: tuple[ChatId, ...]) -> None:
        if user_id not in self.changing_members:
            self.chat_ids.put(user_id, chat_ids)

    def put_tail(self, chat_id: ChatId, tail: Tail) -> None:
        if chat_id not in self.changing_chats:
            self.tails.put(chat_id, tail)

    def begin_load(self) -> "Load":
        """Begin to load into a cache of its own, before the view begins that is read; call `end_load`."""
        load = Load(set(self.changing_users), set(self.changing_chats), set(self.changing_members))
        self._loads.add(load)
        return load

    def end_load(self, load: "Load") -> None:
        self._loads.discard(load)

    def keep(self, load: "Load") -> None:
        """Cache what was loaded and is still as it was loaded."""
        for user_id, user in load.loaded.users.items():
            if user_id not in load.changed_users:
                self.put_user(user)
        for chat_id, chat in load.loaded.chats.items():
            if chat_id not in load.changed_chats:
                self.put_chat(chat)
        for user_id, chat_ids in load.loaded.chat_ids.items():
            if user_id not in load.changed_members:
                self.put_chat_ids(user_id, chat_ids)
        for chat_id, tail in load.loaded.tails.items():
            if chat_id not in load.changed_chats:
                self.put_tail(chat_id, tail)

    def note_changes(self) -> None:
        """Record for the loads under way what the current commit changes."""
        for load in self._loads:
            load.changed_users.update(self.changing_users)
            load.changed_chats.update(self.changing_chats)
            load.changed_members.update(self.changing_members)


@define(eq=False)
class Load:
    """What is loaded from a view that may be older than the last commit, and what was changed since."""

    changed_users: set[UserId]
    changed_chats: set[ChatId]
    changed_members: set[UserId]
    loaded: CommittedCache = field(factory=CommittedCache)


class StagedChanges:
    """Changes since the last commit, which are cached after the next one."""

    def __init__(self, committed: CommittedCache) -> None:
        self.committed = committed
        self._begin()

    def _begin(self) -> None:
        self._users: dict[UserId, User] = {}
        self._chats: dict[ChatId, Chat] = {}
        self._messages: dict[MessageId, Message] = {}
        self._changed_chats: set[ChatId] = set()
        """Chats whose own row was changed; those whose former state was unknown are not in `_chats`."""
        self._changed_members: set[UserId] = set()
        """Users who joined or left a chat, the members of new and deleted chats included."""
        self._tails: dict[ChatId, Tail] = {}
        """The former tails of the chats whose messages were changed."""
        # Cached after the transaction, because the thread may load them while the loop uses the cache.
        self._loaded_users: dict[UserId, User] = {}
        self._loaded_chats: dict[ChatId, Chat] = {}

    def user(self, user_id: UserId) -> User | None:
        """The user in the transaction's state, if it is cached."""
        return (
            self._users.get(user_id) or self.committed.users.get(user_id) or self._loaded_users.get(user_id)
        )

    def chat(self, chat_id: ChatId) -> Chat | None:
        """The chat in the transaction's state, if it is cached."""
        if chat_id in self._changed_chats:
            return self._chats.get(chat_id)
        return self.committed.chats.get(chat_id) or self._loaded_chats.get(chat_id)

    def cache_loaded_user(self, user: User) -> None:
        """Cache a user who was read from the file and not stored since the last commit."""
        self._loaded_users[user.id] = user

    def cache_loaded_chat(self, chat: Chat) -> None:
        """Cache a chat that was read from the file."""
        if chat.id in self._changed_chats:
            self._chats[chat.id] = chat
        else:
            self._loaded_chats[chat.id] = chat

    def apply(self, effect: StorageEffect) -> None:
        """Record the changes of an effect."""
        match effect:
            case StoreMessage(message) | ChangeMessage(message):
                self._messages[message.id] = message
            case AdvanceChat(chat):
                before = self.chat(chat.id)
                if before is not None:
                    self._chats[chat.id] = _advanced(before, chat)
                self._changed_chats.add(chat.id)
            case ChangeChat() | AdvanceMark():
                self._change_chat(effect)
            case StoreChat() | StoreMember() | StoreRole() | EndMembership() | DeleteChat():
                self._change_members(effect)
            case StoreUser(user):
                self._users[user.id] = user
            case AppendEvent() | StoreSession() | StoreResponse():
                pass  # none of these is cached
            case StoreLease() | HoldPresence() | EndPresence() | StoreSighting():
                pass  # neither is presence
            case _:
                assert_never(effect)

    def _change_chat(self, effect: ChangeChat | AdvanceMark) -> None:
        chat = effect.chat
        match effect:
            case ChangeChat():
                changes: dict[str, Any] = {
                    "title": chat.title,
                    "avatar_url": chat.avatar_url,
                    "history": chat.history,
                }
            case AdvanceMark(_, user_id, mark):
                if chat.is_group:
                    return  # no mark of a group is cached
                changes = {"marks": marks_by(user_id, mark, chat.member_ids)}
            case _:
                assert_never(effect)
        before = self.chat(chat.id)
        if before is not None:
            if "marks" in changes:
                changes["marks"] = merged(before.marks, changes["marks"])
            self._chats[chat.id] = evolve(before, **changes)
        self._changed_chats.add(chat.id)

    def _change_members(self, effect: MembershipEffect) -> None:
        chat_id, chat, user_ids = change_by(effect, self.chat)
        if chat is None:
            self._chats.pop(chat_id, None)
        else:
            self._chats[chat_id] = chat
        self._changed_chats.add(chat_id)
        self._changed_members.update(user_ids)

    def begin_commit(self) -> None:
        """Drop what the commit changes."""
        committed = self.committed
        committed.changing_users = self._users.keys()
        committed.changing_chats = self._changed_chats | {m.chat_id for m in self._messages.values()}
        committed.changing_members = self._changed_members
        committed.note_changes()
        for user_id in self._users:
            committed.users.drop(user_id)
        for user_id in self._changed_members:
            committed.chat_ids.drop(user_id)
        for chat_id in committed.changing_chats:
            committed.chats.drop(chat_id)
            tail = committed.tails.get(chat_id)
            if tail is not None:
                self._tails[chat_id] = tail
                committed.tails.drop(chat_id)

    def end_commit(self) -> None:
        """Cache the new state of what was changed."""
        committed = self.committed
        for user in self._users.values():
            committed.users.put(user.id, user)
        for chat in self._chats.values():
            committed.chats.put(chat.id, chat)
        for message in self._messages.values():
            tail = self._tails.pop(message.chat_id, None)
            if tail is not None and (changed := tail.with_message(message)) is not None:
                self._tails[message.chat_id] = changed
        for chat_id, tail in self._tails.items():
            committed.tails.put(chat_id, tail)
        self.roll_back()

    def roll_back(self) -> None:
        """Discard the changes; what was dropped is read again when it is needed."""
        committed = self.committed
        committed.changing_users = committed.changing_chats = committed.changing_members = ()
        for user in self._loaded_users.values():
            committed.put_user(user)
        for chat_id, chat in self._loaded_chats.items():
            if chat_id not in self._changed_chats:
                committed.put_chat(chat)
        self._begin()


def _advanced(chat: Chat, to: Chat) -> Chat:
    """The chat with the columns that `AdvanceChat` stores, and no others."""
    if (
        chat.members is to.members
        and chat.history is to.history
        and len(chat.marks) <= len(to.marks)
        and all(map(le, chat.marks, to.marks))
        and (chat.title, chat.is_group, chat.created_at, chat.avatar_url)
        == (to.title, to.is_group, to.created_at, to.avatar_url)
    ):
        return to
    return evolve(
        chat,
        sequence=to.sequence,
        active_at=to.active_at,
        last_message_id=to.last_message_id,
        message_count=to.message_count,
        marks=merged(chat.marks, to.marks),
    )


class CachedReader(SqlReader):
    """Reads the committed state, from the cache where possible.

    Calls `will_decode` with the characters of payloads that it is about to decode.
    """

    def __init__(
        self,
        connection: DriverConnection,
        statements: Statements,
        *,
        committed: CommittedCache,
        many: ManyParameter,
        will_decode: Callable[[int], None] = lambda _: None,
    ) -> None:
        members = MemberReader(connection, statements)
        super().__init__(connection, statements, members=members, many=many)
        self._committed = committed
        self._will_decode = will_decode

    def user(self, user_id: UserId) -> User | None:
        user = self._committed.users.get(user_id)
        if user is None:
            user = super().user(user_id)
            if user is not None:
                self._committed.put_user(user)
        return user

    def users(self, user_ids: Collection[UserId]) -> Mapping[UserId, User]:
        get = self._committed.users.get
        found = {user_id: user for user_id in user_ids if (user := get(user_id)) is not None}
        if len(found) < len(user_ids):
            missing = [user_id for user_id in user_ids if user_id not in found]
            for user_id, user in super().users(missing).items():
                self._committed.put_user(user)
                found[user_id] = user
        return found

    def chat(self, chat_id: ChatId) -> Chat | None:
        return self._committed.chats.get(chat_id) or super().chat(chat_id)

    def _chat(self, row: Row) -> Chat:
        chat = super()._chat(row)
        self._committed.put_chat(chat)
        return chat

    def chats_of(self, user_id: UserId, after_id: ChatId | None, count: int) -> Sequence[Chat | Excerpt]:
        get = self._committed.chats.get
        ids = self._chat_ids_of(user_id, after_id or 0, count)
        found = [chat for chat_id in ids if (chat := get(chat_id)) is not None]
        if len(found) == len(ids):
            return found
        return [get(chat.id) or chat for chat in super().chats_of(user_id, after_id, count)]

    def _chat_ids_of(self, user_id: UserId, after_id: int, count: int) -> Sequence[ChatId]:
        ids = self._committed.chat_ids.get(user_id)
        if ids is None:
            rows = self._execute(self._sql.chat_ids_of, (user_id, after_id, count)).fetchall()
            ids = tuple([chat_id for (chat_id,) in rows])
            if not after_id and len(ids) < count:
                self._committed.put_chat_ids(user_id, ids)
            return ids
        start = bisect_right(ids, after_id) if after_id else 0
        return ids[start : start + count]

    def excerpts(self, sizes: Mapping[ChatId, int], viewer: UserId) -> Mapping[ChatId, Chat | Excerpt]:
        get = self._committed.chats.get
        found: dict[ChatId, Chat | Excerpt] = {}
        missing: dict[ChatId, int] = {}
        for chat_id, size in sizes.items():
            chat = get(chat_id)
            if chat is None:
                missing[chat_id] = size
            elif chat.member(viewer) is not None:
                found[chat_id] = excerpt(chat, viewer, size) if len(chat.members) > size else chat
        if missing:
            for chat_id, shown in super().excerpts(missing, viewer).items():
                if isinstance(shown, Chat):
                    self._committed.put_chat(shown)
                found[chat_id] = shown
        return found

    def last_messages(self, message_ids: Mapping[ChatId, MessageId]) -> Mapping[ChatId, Message]:
        get = self._committed.tails.get
        found: dict[ChatId, Message] = {}
        missing: dict[ChatId, MessageId] = {}
        for chat_id, message_id in message_ids.items():
            tail = get(chat_id)
            if tail is not None and tail.messages and tail.messages[0].id == message_id:
                found[chat_id] = tail.messages[0]
            else:
                missing[chat_id] = message_id
        return {**found, **super().last_messages(missing)} if missing else found

    def messages_before(
        self, chat_id: ChatId, before_id: MessageId | None, count: int, since: int = 1
    ) -> Sequence[Message]:
        if before_id is not None or count > TAIL_LENGTH:
            return super().messages_before(chat_id, before_id, count, since)
        tail = self._committed.tails.get(chat_id)
        if tail is None or (len(tail.messages) < count and not tail.is_complete):
            tail = tail_of(super().messages_before(chat_id, None, TAIL_LENGTH))
            self._committed.put_tail(chat_id, tail)
        found = tail.messages[:count]
        return found if since == 1 else [message for message in found if message.sequence >= since]

    def _messages_of(self, rows: Sequence[Row]) -> Sequence[Message]:
        self._will_decode(sum([len(row[PAYLOAD]) for row in rows if row[PAYLOAD] is not None]))
        return super()._messages_of(rows)


class _LimitedMemberReader(MemberReader):
    """Loads the members of a chat if the limit allows it."""

    def __init__(self, connection: DriverConnection, statements: Statements, limit: LoopLimit) -> None:
        super().__init__(connection, statements)
        self._limit = limit

    def members(self, chat: Row) -> tuple[Member, ...]:
        self._limit.check(chat[MEMBER_COUNT])
        return super().members(chat)


class CachedTransaction(SqlTransaction):
    """Changes the committed state; reads from the cache what is cached and unchanged.

    Raises `TooLargeForLoop`.
    """

    def __init__(
        self,
        connection: DriverConnection,
        statements: Statements,
        *,
        staged: StagedChanges,
        limit: LoopLimit,
        many: ManyParameter,
        ids: IdSource,
    ) -> None:
        members = _LimitedMemberReader(connection, statements, limit)
        super().__init__(connection, statements, members=members, many=many, ids=ids)
        self._staged = staged
        self._limit = limit

    def user(self, user_id: UserId) -> User | None:
        return self._staged.user(user_id) or super().user(user_id)

    def users(self, user_ids: Collection[UserId]) -> Mapping[UserId, User]:
        get = self._staged.user
        found = {user_id: user for user_id in user_ids if (user := get(user_id)) is not None}
        if len(found) < len(user_ids):
            missing = [user_id for user_id in user_ids if user_id not in found]
            self._limit.check(len(missing))
            for user_id, user in super().users(missing).items():
                self._staged.cache_loaded_user(user)
                found[user_id] = user
        return found

    def chat(self, chat_id: ChatId) -> Chat | None:
        chat = self._staged.chat(chat_id)
        if chat is None:
            chat = super().chat(chat_id)
            if chat is not None:
                self._staged.cache_loaded_chat(chat)
        return chat

    lock_chat = chat

    def apply(self, effect: StorageEffect) -> None:
        super().apply(effect)
        self._staged.apply(effect)

    def _change_members(self, effect: MembershipEffect) -> None:
        self._limit.check(len(change_by(effect, self._staged.chat).user_ids))
        super()._change_members(effect)

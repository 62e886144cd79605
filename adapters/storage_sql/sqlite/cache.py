"""What the owner of an SQLite file keeps of it as objects: people, chats, who is in which, and last messages.

Whatever is kept equals what every view shows that may begin now. That holds because one process owns the file
and every commit goes through `Staged`: what it is about to change is dropped before it, is not kept while it
is under way, when a view may show either state, and is kept as it became once it is done.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Generic, NamedTuple, TypeVar, assert_never

from attrs import evolve

from adapters.storage_sql.rows import Row
from adapters.storage_sql.statements import Statements
from adapters.storage_sql.transaction import Connection, Many, Numbers, SqlReader, SqlTransaction
from messaging_core.chats import excerpt
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
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, Excerpt, Member, Message, User

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

USERS_KEPT = 50_000
"""About 600 bytes each."""
MEMBERS_KEPT = 200_000
"""Members in all the chats that are kept, about 120 bytes each; a chat itself counts as four."""
CHAT_IDS_KEPT = 500_000
"""Chats of all the people whose chats are kept, by id alone, some 40 bytes each; a person counts as four."""
CHARACTERS_KEPT = 32_000_000
"""In all the messages that are kept; what a message takes beside its text counts as 600."""
TAIL = 64
"""How many of a chat's last messages are kept: a page of the usual size, and one more, fits."""


class Kept(Generic[K, V]):
    """Values by key, within a bound on their weight: whatever was put longest ago makes room."""

    def __init__(self, capacity: int, weigh: Callable[[V], int]) -> None:
        self._capacity = capacity
        self._weigh = weigh
        self._values: dict[K, V] = {}
        self._weights: dict[K, int] = {}
        self.weight = 0
        self.get = self._values.get

    def put(self, key: K, value: V) -> None:
        self.drop(key)
        weight = self._weigh(value)
        while self._values and self.weight + weight > self._capacity:
            self.drop(next(iter(self._values)))
        self._values[key] = value
        self._weights[key] = weight
        self.weight += weight

    def drop(self, key: K) -> None:
        if self._values.pop(key, None) is not None:
            self.weight -= self._weights.pop(key)

    def __len__(self) -> int:
        return len(self._values)


class Tail(NamedTuple):
    """The last messages of a chat, newest first."""

    messages: tuple[Message, ...]
    whole: bool
    """Whether the chat has no others."""
    characters: int

    def with_message(self, message: Message) -> "Tail | None":
        """The tail once a message was stored, new or changed; None if it cannot be told from here."""
        messages, whole, characters = self
        if not messages or message.id > messages[0].id:
            if len(messages) == TAIL:
                whole, characters = False, characters - _characters(messages[-1])
            return Tail((message, *messages[: TAIL - 1]), whole, characters + _characters(message))
        if message.id < messages[-1].id and not whole:
            return self
        changed = tuple([message if kept.id == message.id else kept for kept in messages])
        return None if message not in changed else tail_of(changed)


def tail_of(messages: Sequence[Message]) -> Tail:
    """What the first `TAIL` messages of a chat, or all of fewer, make."""
    return Tail(tuple(messages), len(messages) < TAIL, sum(map(_characters, messages)))


def _characters(message: Message) -> int:
    payload = 0 if message.payload is None else len(str(message.payload))
    return 600 + len(message.content or "") + payload


class Committed:
    """What is committed, for every view of the file."""

    def __init__(self, *, members_kept: int = MEMBERS_KEPT) -> None:
        self.users: Kept[UserId, User] = Kept(USERS_KEPT, lambda _: 1)
        self.chats: Kept[ChatId, Chat] = Kept(members_kept, lambda chat: 4 + len(chat.members))
        self.chat_ids: Kept[UserId, tuple[ChatId, ...]] = Kept(CHAT_IDS_KEPT, lambda ids: 4 + len(ids))
        """All chats of a person, in order."""
        self.tails: Kept[ChatId, Tail] = Kept(CHARACTERS_KEPT, lambda tail: tail.characters)
        self.changing_users: Collection[UserId] = ()
        """Whom a commit that is under way changes: of them nothing is kept until it is done."""
        self.changing_chats: Collection[ChatId] = ()
        self.changing_members: Collection[UserId] = ()
        """Whose chats it adds to."""

    def keep_user(self, user: User) -> None:
        if user.id not in self.changing_users:
            self.users.put(user.id, user)

    def keep_chat(self, chat: Chat) -> None:
        if chat.id not in self.changing_chats:
            self.chats.put(chat.id, chat)

    def keep_chat_ids(self, user_id: UserId, chat_ids: tuple[ChatId, ...]) -> None:
        if user_id not in self.changing_members:
            self.chat_ids.put(user_id, chat_ids)

    def keep_tail(self, chat_id: ChatId, tail: Tail) -> None:
        if chat_id not in self.changing_chats:
            self.tails.put(chat_id, tail)


class Staged:
    """What transactions have changed since the last commit, and may be kept after the next."""

    def __init__(self, committed: Committed) -> None:
        self.committed = committed
        self._begin()

    def _begin(self) -> None:
        self._users: dict[UserId, User] = {}
        self._chats: dict[ChatId, Chat] = {}
        self._messages: dict[MessageId, Message] = {}
        self._changed_chats: set[ChatId] = set()
        """In themselves; of those that were not known there is nothing in `_chats`."""
        self._joined: set[UserId] = set()
        """Whoever is in a chat that was added."""
        self._tails: dict[ChatId, Tail] = {}
        """Of the chats whose messages were changed, as they were before."""

    def user(self, user_id: UserId) -> User | None:
        """As it is in the transaction, if that is known."""
        return self._users.get(user_id) or self.committed.users.get(user_id)

    def chat(self, chat_id: ChatId) -> Chat | None:
        """As it is in the transaction, if that is known."""
        if chat_id in self._changed_chats:
            return self._chats.get(chat_id)
        return self.committed.chats.get(chat_id)

    def found_user(self, user: User) -> None:
        """A user was read who was not known, and whom no transaction has stored since the last commit."""
        self.committed.keep_user(user)

    def found(self, chat: Chat) -> None:
        """A chat was read that was not known."""
        if chat.id in self._changed_chats:
            self._chats[chat.id] = chat
        else:
            self.committed.keep_chat(chat)

    def apply(self, effect: StorageEffect) -> None:
        """Note what an effect has changed."""
        match effect:
            case StoreMessage(message) | ChangeMessage(message):
                self._messages[message.id] = message
            case AdvanceChat(chat):
                before = self.chat(chat.id)
                if before is not None:
                    self._chats[chat.id] = _advanced(before, chat)
                self._changed_chats.add(chat.id)
            case StoreChat(chat):
                self._chats[chat.id] = chat
                self._changed_chats.add(chat.id)
                self._joined.update(chat.member_ids)
            case StoreUser(user):
                self._users[user.id] = user
            case AppendEvent() | StoreSession() | StoreResponse():
                pass  # none of these is in memory
            case _:
                assert_never(effect)

    def begin_commit(self) -> None:
        """What is about to change is no longer kept."""
        committed = self.committed
        committed.changing_users = self._users.keys()
        committed.changing_chats = self._changed_chats | {m.chat_id for m in self._messages.values()}
        committed.changing_members = self._joined
        for user_id in self._users:
            committed.users.drop(user_id)
        for user_id in self._joined:
            committed.chat_ids.drop(user_id)
        for chat_id in committed.changing_chats:
            committed.chats.drop(chat_id)
            tail = committed.tails.get(chat_id)
            if tail is not None:
                self._tails[chat_id] = tail
                committed.tails.drop(chat_id)

    def end_commit(self) -> None:
        """What was changed is kept as it is now."""
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
        """Nothing more was changed; what was dropped is read again when it is needed."""
        committed = self.committed
        committed.changing_users = committed.changing_chats = committed.changing_members = ()
        self._begin()


def _advanced(chat: Chat, to: Chat) -> Chat:
    """What `AdvanceChat` keeps: the place in the order of events, and nothing else."""
    if chat.members is to.members and (chat.title, chat.is_group, chat.created_at) == (
        to.title,
        to.is_group,
        to.created_at,
    ):
        return to
    return evolve(chat, sequence=to.sequence, active_at=to.active_at, last_message_id=to.last_message_id)


class _WithTheirChats:
    """Members are kept with their chats, and nowhere else."""

    def get(self, _chat_id: ChatId, _version: int) -> None:
        return None

    def put(self, chat_id: ChatId, version: int, members: tuple[Member, ...]) -> None:
        pass


class KeptReader(SqlReader):
    """Reads what is committed, from memory where it is kept."""

    def __init__(
        self, connection: Connection, statements: Statements, *, committed: Committed, many: Many
    ) -> None:
        super().__init__(connection, statements, members=_WithTheirChats(), many=many)
        self._committed = committed

    def user(self, user_id: UserId) -> User | None:
        user = self._committed.users.get(user_id)
        if user is None:
            user = super().user(user_id)
            if user is not None:
                self._committed.keep_user(user)
        return user

    def users(self, user_ids: Collection[UserId]) -> Mapping[UserId, User]:
        get = self._committed.users.get
        found = {user_id: user for user_id in user_ids if (user := get(user_id)) is not None}
        if len(found) < len(user_ids):
            missing = [user_id for user_id in user_ids if user_id not in found]
            for user_id, user in super().users(missing).items():
                self._committed.keep_user(user)
                found[user_id] = user
        return found

    def chat(self, chat_id: ChatId) -> Chat | None:
        return self._committed.chats.get(chat_id) or super().chat(chat_id)

    def _chat(self, row: Row) -> Chat:
        chat = super()._chat(row)
        self._committed.keep_chat(chat)
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
                self._committed.keep_chat_ids(user_id, ids)
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
        return {**found, **super().excerpts(missing, viewer)} if missing else found

    def messages_before(self, chat_id: ChatId, before_id: MessageId | None, count: int) -> Sequence[Message]:
        if before_id is not None or count > TAIL:
            return super().messages_before(chat_id, before_id, count)
        tail = self._committed.tails.get(chat_id)
        if tail is None or (len(tail.messages) < count and not tail.whole):
            tail = tail_of(super().messages_before(chat_id, None, TAIL))
            self._committed.keep_tail(chat_id, tail)
        return tail.messages[:count]


class KeptTransaction(SqlTransaction):
    """Changes what is committed, and reads it from memory where it is kept and not changed yet."""

    def __init__(
        self,
        connection: Connection,
        statements: Statements,
        *,
        staged: Staged,
        many: Many,
        numbers: Numbers,
    ) -> None:
        super().__init__(connection, statements, members=_WithTheirChats(), many=many, numbers=numbers)
        self._staged = staged

    def user(self, user_id: UserId) -> User | None:
        return self._staged.user(user_id) or super().user(user_id)

    def users(self, user_ids: Collection[UserId]) -> Mapping[UserId, User]:
        get = self._staged.user
        found = {user_id: user for user_id in user_ids if (user := get(user_id)) is not None}
        if len(found) < len(user_ids):
            for user_id, user in super().users([each for each in user_ids if each not in found]).items():
                self._staged.found_user(user)
                found[user_id] = user
        return found

    def chat(self, chat_id: ChatId) -> Chat | None:
        chat = self._staged.chat(chat_id)
        if chat is None:
            chat = super().chat(chat_id)
            if chat is not None:
                self._staged.found(chat)
        return chat

    lock_chat = chat

    def apply(self, effect: StorageEffect) -> None:
        super().apply(effect)
        self._staged.apply(effect)

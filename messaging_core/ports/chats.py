"""What a storage knows of chats and their members."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.marks import Mark
from messaging_core.models import Chat, Excerpt, Member, Tombstone


class ChatReader(Protocol):
    """The reads of chats and their members; see `Reader`.

    A deleted chat is found by `tombstone` alone, and a membership that has ended by `ended_members`.
    """

    def chat(self, chat_id: ChatId) -> Chat | None: ...

    def tombstone(self, chat_id: ChatId) -> Tombstone | None:
        """What stays of a deleted chat; None for a chat that exists."""

    def ended_members(self, chat_id: ChatId, since: int) -> Sequence[Member]:
        """The memberships, of a deleted chat too, that ended with the number `since` or a later one.

        They are in the order of their ends, and for equal ends of their users.
        """

    def direct_chat(self, one: UserId, other: UserId) -> Chat | None:
        """The direct chat of the two users, in either order."""

    def chats_of(self, user_id: UserId, after_id: ChatId | None, count: int) -> Sequence[Chat | Excerpt]:
        """The first `count` chats of the user with ids greater than `after_id`, in the order of ids.

        Each is complete if the storage has all of it at hand, or else without its members: `chats.head`.
        """

    def excerpts(self, sizes: Mapping[ChatId, int], viewer: UserId) -> Mapping[ChatId, Chat | Excerpt]:
        """Those of the chats of which `viewer` is a member, each with at most the given number of members.

        See `chats.excerpt`. The cost depends on the members shown, not on the size of the chats.
        """

    def mark_at(self, chat_id: ChatId, message_id: MessageId) -> Mark:
        """The mark of who has read a chat up to `message_id`: at its last message that is not after it."""

    def marks(self, chat_id: ChatId) -> Mapping[UserId, Mark]:
        """How far each member of a chat has read it; the cost grows with its members."""

    def own_marks(self, user_id: UserId, chat_ids: Collection[ChatId]) -> Mapping[ChatId, Mark]:
        """How far a user has read those of the chats of which they are a member."""

    def furthest_marks(self, user_id: UserId, chat_ids: Collection[ChatId]) -> Mapping[ChatId, Mark]:
        """How far anybody but the user has read each of the chats with other members."""

    def shares_chat(self, one: UserId, other: UserId) -> bool:
        """Whether two different users are members of a common chat, direct or group."""


class ChatTransaction(ChatReader, Protocol):
    """The locks and identifiers of chats; see `Transaction`."""

    def lock_chat(self, chat_id: ChatId) -> Chat | None:
        """The chat, locked, so that this transaction appends the next entry of its log."""

    def lock_direct_chat(self, one: UserId, other: UserId) -> Chat | None:
        """The direct chat of the two users; locks the pair even if there is none."""

    def lock_chats_made_by(self, user_id: UserId) -> int:
        """How many chats the user created and never left; locked, so that the number cannot grow."""

    def next_chat_id(self) -> ChatId: ...

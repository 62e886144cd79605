"""What a storage knows of messages."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Message


class MessageReader(Protocol):
    """The reads of messages; see `Reader`."""

    def message(self, message_id: MessageId) -> Message | None: ...

    def last_messages(self, message_ids: Mapping[ChatId, MessageId]) -> Mapping[ChatId, Message]:
        """Messages by their chat: those of `message_ids`, which are `last_message_id` of these chats."""

    def messages_before(
        self, chat_id: ChatId, before_id: MessageId | None, count: int, since: int = 1
    ) -> Sequence[Message]:
        """The last `count` messages with smaller ids, newest first; None means no upper bound.

        Only messages whose `sequence` is `since` or greater are counted: pass the reader's `reads_from`.
        """

    def messages_after(
        self, chat_id: ChatId, after_id: MessageId, count: int, since: int = 1
    ) -> Sequence[Message]:
        """The first `count` messages with greater ids, oldest first; see `messages_before`."""

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
        """The last `count` messages that the user did not send, with ids above `after_id`, newest first.

        None of them is above `through_id`; for `since` see `messages_before`.
        """


class MessageTransaction(MessageReader, Protocol):
    """The identifiers of messages; see `Transaction`."""

    def next_message_id(self) -> MessageId:
        """Draw it while the chat is locked: clients page through a chat in the order of identifiers."""

"""Messages and their history."""

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

from attrs import evolve

from messaging_core import chats, messages, system_messages
from messaging_core.commands import DeleteMessage, EditMessage, ListMessages, SendMessage
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, Message, Page
from messaging_core.operations.base import Context, Operation, Part, Query, Reading
from messaging_core.ports import Reader, Transaction

MESSAGES_AT_ONCE = 51
"""Messages that one query reads: a page of the usual size, and one more. It takes some 5 ms for messages of
32 KB, and 30 ms where their payloads hold only numbers."""


def send_message(command: SendMessage, context: Context) -> Operation[Message]:
    return lambda tx: messages.send_message(
        tx.lock_chat(command.chat_id),
        command,
        author=context.actor.user_id,
        replied_to=None if command.reply_to_id is None else tx.message(command.reply_to_id),
        message_id=tx.next_message_id(),
        now=context.now,
        limits=context.limits,
    )


def edit_message(command: EditMessage, context: Context) -> Operation[Message]:
    return lambda tx: messages.edit_message(
        *_locked(tx, command.message_id),
        command,
        editor=context.actor.user_id,
        now=context.now,
        limits=context.limits,
    )


def delete_message(command: DeleteMessage, context: Context) -> Operation[None]:
    return lambda tx: messages.delete_message(
        *_locked(tx, command.message_id), deleter=context.actor.user_id, now=context.now
    )


def _locked(tx: Transaction, message_id: MessageId) -> tuple[Chat | None, Message | None]:
    """A message and its chat, read under the chat's lock, which prevents changes to both."""
    unlocked = tx.message(message_id)
    if unlocked is None:
        return None, None
    return tx.lock_chat(unlocked.chat_id), tx.message(message_id)


def page_of_messages(command: ListMessages, context: Context, size: int) -> Query[Page]:
    """A page by one query; `size` comes from `messages.check_page`."""

    def query(reader: Reader) -> Page:
        page = read(reader)
        messages_shown = system_messages.shown(page.messages, reader.users)
        return page if messages_shown is page.messages else evolve(page, messages=tuple(messages_shown))

    def read(reader: Reader) -> Page:
        chat, since = _bounds(reader, command.chat_id, context.actor.user_id)
        if command.after_id is not None:
            newer = reader.messages_after(chat, MessageId(command.after_id), size + 1, since)
            older = reader.messages_before(chat, MessageId(command.after_id + 1), 1, since)
            return messages.page(older, newer, size=size, forward=True)
        if command.around_id is not None:
            newer = reader.messages_after(chat, command.around_id, size, since)
            older = reader.messages_before(chat, MessageId(command.around_id + 1), size + 1, since)
            return messages.page(older, newer, size=size)
        older = reader.messages_before(chat, command.before_id, size + 1, since)
        return messages.page(older, (), size=size)

    return query


def page_in_parts(command: ListMessages, context: Context, size: int) -> Reading[Page]:
    """The same page as `page_of_messages`, by queries of at most `MESSAGES_AT_ONCE` messages each."""
    gather = partial(_gather, command.chat_id, context.actor.user_id)
    if command.after_id is not None:
        newer = yield from gather(MessageId(command.after_id), size + 1, older=False)
        older = yield from gather(MessageId(command.after_id + 1), 1, older=True)
        yield Part(messages.page(older, newer, size=size, forward=True))
    elif command.around_id is not None:
        newer = yield from gather(command.around_id, size, older=False)
        older = yield from gather(MessageId(command.around_id + 1), size + 1, older=True)
        yield Part(messages.page(older, newer, size=size))
    else:
        older = yield from gather(command.before_id, size + 1, older=True)
        yield Part(messages.page(older, (), size=size))


def _gather(
    chat_id: ChatId, actor: UserId, anchor: MessageId | None, count: int, *, older: bool
) -> Generator[Query[Any], Any, Sequence[Message]]:
    """The first `count` messages on one side of the anchor, in the order away from it."""
    found: list[Message] = []
    while len(found) < count:
        wanted = min(count - len(found), MESSAGES_AT_ONCE)
        some: Sequence[Message] = yield partial(
            _some, chat_id=chat_id, actor=actor, anchor=anchor, count=wanted, older=older
        )
        found += some
        if len(some) < wanted:
            break
        anchor = found[-1].id
    return found


def _some(
    reader: Reader, *, chat_id: ChatId, actor: UserId, anchor: MessageId | None, count: int, older: bool
) -> Sequence[Message]:
    chat, since = _bounds(reader, chat_id, actor)
    if anchor is None or older:
        found = reader.messages_before(chat, anchor, count, since)
    else:
        found = reader.messages_after(chat, anchor, count, since)
    return system_messages.shown(found, reader.users)


def _bounds(reader: Reader, chat_id: ChatId, actor: UserId) -> tuple[ChatId, int]:
    """The chat, and the number of the first message that the actor may read of it."""
    chat, member = chats.reading(reader.chat(chat_id), actor)
    return chat.id, member.range.reads_from

"""Reading: how far people have read their chats."""

from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

from messaging_core import chats, read_marks
from messaging_core.commands import ListReads, MarkRead
from messaging_core.effects import Decision
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.marks import NOTHING_READ, Mark
from messaging_core.models import Chat, Excerpt, NewlyRead
from messaging_core.operations.base import Context, Operation, Query
from messaging_core.ports import Reader, Transaction

CHATS_AT_ONCE = 200
"""Chats whose marks one query reads, for a resumption."""
MARKS_AT_ONCE = 5000
"""Marks of other people that one query reads: some milliseconds."""


def mark_read(command: MarkRead, context: Context) -> Operation[NewlyRead]:
    """Raises `ChatNotFound`, then `NotAParticipant`.

    It needs no lock of the chat: marks are merged where they are stored.
    """

    def operation(tx: Transaction) -> Decision[NewlyRead]:
        actor = context.actor.user_id
        chat, member = chats.reading(tx.chat(command.chat_id), actor)
        known = tx.own_marks(actor, (chat.id,)).get(chat.id, NOTHING_READ)
        mark = read_marks.last_mark(chat)
        if command.message_id is not None and command.message_id < mark.message_id:
            mark = tx.mark_at(chat.id, command.message_id)
        newly_read: Sequence[MessageId] = ()
        if mark > known:
            newly_read = tx.message_ids_of_others(
                chat.id,
                actor,
                known.message_id,
                mark.message_id,
                count=read_marks.NEWLY_READ,
                since=member.range.reads_from,
            )
        return read_marks.mark_read(
            chat, actor=actor, known=known, mark=mark, newly_read=newly_read, limits=context.limits
        )

    return operation


def list_reads(command: ListReads, context: Context) -> Query[Mapping[UserId, MessageId | None]]:
    """How far each member of a chat has read it.

    Raises `ChatNotFound`, then `NotAParticipant`, then `ChatTooLarge`.
    """

    def query(reader: Reader) -> Mapping[UserId, MessageId | None]:
        chat = chats.readable(reader.chat(command.chat_id), context.actor.user_id)
        read_marks.check_shows_marks(chat, context.limits)
        return {user_id: mark.message_id or None for user_id, mark in reader.marks(chat.id).items()}

    return query


@frozen
class ChatMarks:
    """How far a chat's viewer has read it, and the others, up to a number of its log."""

    sequence: int
    unread_count: int
    read_up_to: MessageId | None
    others_read_up_to: MessageId | None


def marks_of(reader: Reader, found: Iterable[Chat | Excerpt], context: Context) -> Mapping[ChatId, ChatMarks]:
    """How far these chats of the actor are read; a direct chat that was read whole has its marks with it."""
    shown, viewer = list(found), context.actor.user_id
    own: dict[ChatId, Mark] = {}
    others: dict[ChatId, Mark] = {}
    unknown: list[Chat | Excerpt] = []
    for chat in shown:
        if isinstance(chat, Chat) and chat.marks:
            for member, mark in zip(chat.members, chat.marks, strict=True):
                (own if member.user_id == viewer else others)[chat.id] = mark
        elif chat.message_count:
            unknown.append(chat)
    if unknown:
        own.update(reader.own_marks(viewer, [chat.id for chat in unknown]))
    small = [chat.id for chat in unknown if read_marks.shows_marks(chat.member_count, context.limits)]
    if small:
        others.update(reader.furthest_marks(viewer, small))
    return {
        chat.id: ChatMarks(
            chat.sequence,
            read_marks.unread(chat.message_count, own.get(chat.id, NOTHING_READ)),
            own.get(chat.id, NOTHING_READ).message_id or None,
            others.get(chat.id, NOTHING_READ).message_id or None,
        )
        for chat in shown
    }


@frozen
class SomeMarks:
    """The marks of some of a user's chats."""

    marks: Mapping[ChatId, ChatMarks]
    after: ChatId | None
    """The chat after which to go on; None behind the last one."""


def own_chat_marks(after: ChatId | None, context: Context) -> Query[SomeMarks]:
    """The marks of the actor's next chats, in the order of their ids."""

    def query(reader: Reader) -> SomeMarks:
        found = reader.chats_of(context.actor.user_id, after, CHATS_AT_ONCE)
        room = MARKS_AT_ONCE
        some: list[Chat | Excerpt] = []
        for chat in found:
            if read_marks.shows_marks(chat.member_count, context.limits):
                room -= chat.member_count
            if room < 0 and some:
                break
            some.append(chat)
        is_last = len(found) < CHATS_AT_ONCE and len(some) == len(found)
        return SomeMarks(marks_of(reader, some, context), None if is_last else some[-1].id)

    return query

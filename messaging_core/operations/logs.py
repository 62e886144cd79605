"""A chat's log, replayed for the users of one process, or shown to one reader."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import cast

from attrs import frozen

from messaging_core import privacy
from messaging_core.effects import Deliver
from messaging_core.events import (
    CREATED,
    MESSAGE_EVENTS,
    DurableEvent,
    LogEntry,
    MessageSubject,
    Needs,
    kind_of,
)
from messaging_core.fanout import replay, revived
from messaging_core.frames import NOTHING_MORE, ForViewer
from messaging_core.ids import ChatId, MessageId, UserId
from messaging_core.models import Chat, ChatView, Message, UserView
from messaging_core.operations.base import Context, Query
from messaging_core.operations.chats import chat_views, with_avatar
from messaging_core.ports import Reader
from messaging_core.positions import Range, Reach, first_seen, may_see
from messaging_core.system_messages import shown


@frozen
class LogPart:
    """A part of a chat's log, replayed."""

    entries: tuple[tuple[int, tuple[Deliver, ...]], ...]
    """The numbers, in order, each with its delivery, or with none where its subject is gone."""
    is_last: bool
    """Whether the log ends with this part."""


def log_part(
    reader: Reader, chat_id: ChatId, after: int, *, users: Collection[UserId], count: int
) -> LogPart | None:
    """At most `count` entries beyond the number `after`, from the first one on that one of the users may see.

    None where they may see nothing beyond it. Each entry is delivered to everybody who may see it, whether
    they are among the users or not.
    """
    chat = reader.chat(chat_id)
    members = (*(() if chat is None else chat.members), *reader.ended_members(chat_id, after + 1))
    first = first_seen((member.range for member in members if member.user_id in users), after)
    if first is None:
        return None
    tombstone = reader.tombstone(chat_id) if chat is None else None
    entries = reader.log(chat_id, first - 1, count)
    replayed: list[tuple[int, tuple[Deliver, ...]]] = []
    for entry in entries:
        subject = entry.subject
        message = reader.message(subject.message_id) if isinstance(subject, MessageSubject) else None
        if message is not None:
            message = shown((message,), reader.users)[0]
        delivery = replay(entry, members, chat=chat, tombstone=tombstone, message=message)
        replayed.append((entry.sequence, () if delivery is None else (delivery,)))
    return LogPart(tuple(replayed), is_last=len(entries) < count)


# --- for one reader -----------------------------------------------------------------------------------------


def reaches(context: Context) -> Query[Mapping[ChatId, Reach]]:
    """How far the actor's memberships reach, those that have ended included."""
    return lambda reader: reader.positions([context.actor.user_id])


@frozen
class MissedEvent:
    """An event of the log with the current state of its subject, and what its frame shows beyond it."""

    entry: LogEntry
    event: DurableEvent
    more: ForViewer


@frozen
class MissedEvents:
    """A part of a chat's log, as one reader may see it."""

    events: tuple[MissedEvent, ...]
    through: int
    """The last number of the part; those that it does not show included."""
    is_last: bool
    """Whether the reader may see nothing beyond this part."""


def missed_events(chat_id: ChatId, after: int, context: Context, *, count: int) -> Query[MissedEvents]:
    """What the actor may see of the log's next `count` entries beyond the number `after`.

    A message is shown once, in its current state: where it was created, or else at its last change in this
    part. What cannot be shown any more is left out, as an event whose subject is gone.
    """

    def query(reader: Reader) -> MissedEvents:
        viewer = context.actor.user_id
        chat = reader.chat(chat_id)
        members = (*(() if chat is None else chat.members), *reader.ended_members(chat_id, after + 1))
        own = [member.range for member in members if member.user_id == viewer]
        first = first_seen(own, after)
        if first is None:
            return MissedEvents((), after, is_last=True)
        tombstone = reader.tombstone(chat_id) if chat is None else None
        entries = reader.log(chat_id, first - 1, count)
        messages = _messages(reader, chat_id, entries)
        if chat is not None:
            chat = cast("Chat", with_avatar(chat, context.privacy.avatar_hosts))
        found: list[tuple[LogEntry, DurableEvent, Needs]] = []
        for entry in _once_a_message([each for each in entries if _is_shown(each, messages, own)]):
            message = messages.get(_message_id(entry))
            event = revived(entry, members, chat=chat, tombstone=tombstone, message=message)
            if event is not None:
                needs = kind_of(event).needs
                found.append((entry, event, Needs() if needs is None else needs(event, viewer)))
        through = entries[-1].sequence if entries else first - 1
        return MissedEvents(
            _with_needs(reader, chat_id, found, context), through, is_last=len(entries) < count
        )

    return query


def _message_id(entry: LogEntry) -> MessageId | None:
    return entry.subject.message_id if isinstance(entry.subject, MessageSubject) else None


def _messages(
    reader: Reader, chat_id: ChatId, entries: Sequence[LogEntry]
) -> Mapping[MessageId | None, Message]:
    """The messages of the entries: those created here by one query, and each of the others by its own."""
    wanted = [message_id for entry in entries if (message_id := _message_id(entry)) is not None]
    created = [
        message_id for entry in entries if entry.name == CREATED and (message_id := _message_id(entry))
    ]
    found: dict[MessageId | None, Message] = {}
    if len(created) > 1:
        # Identifiers follow the numbers of the creations, and the log's part has all of its numbers.
        several = reader.messages_after(chat_id, MessageId(created[0] - 1), len(created))
        found = {message.id: message for message in several}
    for message_id in wanted:
        if message_id not in found and (message := reader.message(message_id)) is not None:
            found[message_id] = message
    return {message.id: message for message in shown(tuple(found.values()), reader.users)}


def _is_shown(entry: LogEntry, messages: Mapping[MessageId | None, Message], ranges: Sequence[Range]) -> bool:
    """Whether the reader may see the event, of a message also as it is now: its last change may be hidden."""
    message = messages.get(_message_id(entry))
    if message is None:
        return _is_seen(entry.sequence, entry.sequence, ranges)
    created = message.sequence
    return _is_seen(entry.sequence, created, ranges) and (
        _is_seen(message.revision, created, ranges)
        or any(each.last is None and each.reads_from <= created for each in ranges)
    )


def _is_seen(fact: int, created: int, ranges: Sequence[Range]) -> bool:
    return any(may_see(each, fact, created) for each in ranges)


def _once_a_message(entries: Sequence[LogEntry]) -> Iterable[LogEntry]:
    """The entries without those whose whole message another one shows: its creation, or a later change."""
    shown_at: dict[MessageId | None, int] = {}
    created: set[MessageId | None] = set()
    for entry in entries:
        message_id = _message_id(entry)
        if entry.name in MESSAGE_EVENTS and message_id not in created:
            shown_at[message_id] = entry.sequence
            if entry.name == CREATED:
                created.add(message_id)
    for entry in entries:
        if entry.name not in MESSAGE_EVENTS or shown_at[_message_id(entry)] == entry.sequence:
            yield entry


def _with_needs(
    reader: Reader,
    chat_id: ChatId,
    found: Sequence[tuple[LogEntry, DurableEvent, Needs]],
    context: Context,
) -> tuple[MissedEvent, ...]:
    """The events with what their frames need; those without a chat that they need are left out."""
    people: Mapping[UserId, UserView] = {}
    if user_ids := {needs.user_id for _, _, needs in found if needs.user_id is not None}:
        users = reader.users(user_ids)
        people = privacy.participants_shown(users, viewer=context.actor.user_id, privacy=context.privacy)
    chat: ChatView | None = None
    if any(needs.chat for _, _, needs in found):
        chat = next(iter(chat_views((chat_id,), context)(reader)), None)
    events: list[MissedEvent] = []
    for entry, event, needs in found:
        if needs.chat and chat is None:
            continue
        more = NOTHING_MORE
        if needs.user_id is not None or needs.chat:
            user = None if needs.user_id is None else people.get(needs.user_id)
            more = ForViewer(user, chat if needs.chat else None)
        events.append(MissedEvent(entry, event, more))
    return tuple(events)

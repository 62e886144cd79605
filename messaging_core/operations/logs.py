"""A chat's log, replayed for the users of one process."""

from collections.abc import Collection

from attrs import frozen

from messaging_core.effects import Deliver
from messaging_core.events import MessageSubject
from messaging_core.fanout import replay
from messaging_core.ids import ChatId, UserId
from messaging_core.ports import Reader
from messaging_core.positions import first_seen
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

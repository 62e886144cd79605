"""Read marks: how far a member has read a chat.

- Each message has an ordinal, its number among all messages of its chat, deleted ones included.
- A mark only moves forward. Marks that were set at the same time are merged by maximum, as pairs: a later
  message has both a greater id and a greater ordinal.
- Sending moves one's own mark, and a new member has read what was sent before.
- Unread is the chat's message count less the mark's ordinal, so nothing is counted down.
"""

from typing import NamedTuple

from messaging_core.ids import MessageId, UserId


class Mark(NamedTuple):
    """The last message that a member has read; a greater mark is a further one."""

    message_id: MessageId
    ordinal: int


NOTHING_READ = Mark(MessageId(0), 0)
"""The mark of a member who has read no message."""

Marks = tuple[Mark, ...]
"""The marks of a direct chat's people, in the order of its members; empty where they have read nothing."""


def marks_by(user_id: UserId, mark: Mark, member_ids: tuple[UserId, ...]) -> Marks:
    """The marks of a direct chat of which one person has read so far, and the other one nothing."""
    if user_id not in member_ids or mark == NOTHING_READ:
        return ()
    return tuple([mark if each == user_id else NOTHING_READ for each in member_ids])


def merged(some: Marks, others: Marks) -> Marks:
    """The further mark of each person."""
    return tuple(map(max, some, others)) or some or others

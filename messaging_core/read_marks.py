"""Reading a chat: a member's mark moves forward, and people are shown who has read how far.

In a chat of more than `read_marks_members` people nobody is shown the marks of others.
"""

from collections.abc import Sequence

from messaging_core.effects import AdvanceMark, Decision, DeliverEphemeral
from messaging_core.errors import ChatTooLarge
from messaging_core.events import MessageRead
from messaging_core.fanout import announce_ephemeral
from messaging_core.ids import MessageId, UserId
from messaging_core.limits import Limits
from messaging_core.marks import Mark
from messaging_core.models import Chat, NewlyRead

NEWLY_READ = 1000
"""The most messages that the response to a reading names, the newest ones."""
NEWLY_READ_ANNOUNCED = 100
"""The most messages that its event names."""


def last_mark(chat: Chat) -> Mark:
    """The mark of who has read all of a chat that has messages."""
    return Mark(chat.last_message_id or MessageId(0), chat.message_count)


def mark_read(
    chat: Chat, *, actor: UserId, known: Mark, mark: Mark, newly_read: Sequence[MessageId], limits: Limits
) -> Decision[NewlyRead]:
    """Move the actor's mark from `known` to `mark`; without effects if that is no further.

    `newly_read` are the messages between the two that the actor may see and has not sent, newest first. It is
    announced to the members of the chat, and in a large chat to the actor alone.
    """
    if mark <= known:
        return Decision(NewlyRead(chat.id, ()))
    event = MessageRead(
        chat.id,
        actor,
        mark.message_id,
        tuple(newly_read[:NEWLY_READ_ANNOUNCED]),
        unread(chat.message_count, mark),
        chat.sequence,
    )
    delivery = announce_ephemeral(chat, event)
    if not shows_marks(chat.member_count, limits):
        delivery = DeliverEphemeral(event, (actor,))
    return Decision(
        NewlyRead(chat.id, tuple(newly_read[:NEWLY_READ])), (AdvanceMark(chat, actor, mark), delivery)
    )


def unread(message_count: int, mark: Mark) -> int:
    """How many of a chat's messages are not read; the mark may have been read after the count."""
    return max(0, message_count - mark.ordinal)


def shows_marks(member_count: int, limits: Limits) -> bool:
    """Whether the members of a chat of so many people are shown each other's marks."""
    return member_count <= limits.read_marks_members


def check_shows_marks(chat: Chat, limits: Limits) -> None:
    """Raises `ChatTooLarge` unless the members of the chat are shown each other's marks."""
    if not shows_marks(chat.member_count, limits):
        raise ChatTooLarge(limits.read_marks_members)

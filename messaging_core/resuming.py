"""What a client that comes back has missed, by the numbers of its chats."""

from collections.abc import Mapping
from types import MappingProxyType

from attrs import frozen

from messaging_core.ids import ChatId
from messaging_core.limits import Limits
from messaging_core.positions import Reach


@frozen
class Resumption:
    """What a client is sent before live events; each chat is in one of the four, or needs nothing."""

    accepted: Mapping[ChatId, int]
    """The numbers from which the client's chats go on, those with nothing missed included."""
    missed: Mapping[ChatId, int] = MappingProxyType({})
    """The last number of each chat whose events after `accepted` are sent, shortest first."""
    too_long: tuple[ChatId, ...] = ()
    """Chats of the user with more missed events than a resumption sends."""
    new: tuple[ChatId, ...] = ()
    """Chats of the user that the client does not know."""


def resumption(
    known: Mapping[ChatId, int], reaches: Mapping[ChatId, Reach], *, limits: Limits
) -> Resumption | None:
    """Compare the client's positions with how far the user's memberships reach.

    None where a number is above the log's, so that the client has seen another log. The events of chats are
    counted by their numbers, of which some may be hidden from the user. Of a chat that they have left, and
    that has too many, the last event is sent: their removal, or the chat's deletion.
    """
    accepted: dict[ChatId, int] = {}
    missed: list[tuple[int, ChatId]] = []
    for chat_id, position in known.items():
        reach = reaches.get(chat_id)
        if reach is None or position > reach.number:
            return None
        if reach.is_open or position < reach.number:
            accepted[chat_id] = position
        if position < reach.number:
            missed.append((reach.number - position, chat_id))
    missed.sort()
    room = limits.resumed_events
    sent: dict[ChatId, int] = {}
    too_long: list[ChatId] = []
    for count, chat_id in missed:
        reach = reaches[chat_id]
        if count <= room:
            room -= count
        elif reach.is_open:
            too_long.append(chat_id)
            continue
        else:
            accepted[chat_id] = reach.number - 1
        sent[chat_id] = reach.number
    new = tuple([chat_id for chat_id, reach in reaches.items() if reach.is_open and chat_id not in known])
    return Resumption(accepted, sent, tuple(too_long), new)

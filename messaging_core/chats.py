"""Chats: direct ones, of which two people have exactly one, and groups."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from heapq import nlargest
from itertools import chain, islice
from typing import NamedTuple

from attrs import evolve

from messaging_core.commands import CreateGroup, ListChats, OpenDirectChat
from messaging_core.constraints import check
from messaging_core.effects import Decision
from messaging_core.errors import (
    ChatNotFound,
    DirectChatWithSelf,
    FieldError,
    Invalid,
    NotAParticipant,
    TooManyChats,
    UserNotFound,
)
from messaging_core.events import ChatCreated
from messaging_core.fanout import announce
from messaging_core.ids import ChatId, UserId
from messaging_core.limits import PARTICIPANTS_LISTED_LEAST, Limits
from messaging_core.models import Chat, ChatView, Excerpt, Member, Role, User, UserView

DIRECT_CHAT_TITLE = "Direct Message"

PARTICIPANTS_AT_ONCE = 1000
"""People in one part of a list, unless a single chat shows more; read and rendered in some 4 ms."""
CHATS_AT_ONCE = 100
"""Chats in one part of a list: of each, those who are shown are looked up in some 40 us."""


def open_direct_chat(
    command: OpenDirectChat,
    *,
    actor: UserId,
    other: User | None,
    existing: Chat | None,
    made: int,
    chat_id: ChatId,
    now: datetime,
    limits: Limits,
) -> Decision[Chat]:
    """The one chat of these two people: `existing`, or a new one under `chat_id`.

    `existing` must have been looked up in the transaction that applies the effects, and so must `made` where
    there is none: how many chats the actor has made. Raises `DirectChatWithSelf`, `UserNotFound` and
    `TooManyChats`.
    """
    if command.user_id == actor:
        raise DirectChatWithSelf
    if other is None:
        raise UserNotFound
    if existing is not None:
        return Decision(existing)
    if made >= limits.chats_per_user:
        raise TooManyChats(limits.chats_per_user)
    members = tuple(Member(user_id, Role.MEMBER, now) for user_id in (actor, other.id))
    return _created(Chat(chat_id, DIRECT_CHAT_TITLE, False, now, members, 0, now, None))


def create_group(
    command: CreateGroup,
    *,
    actor: UserId,
    known: Collection[UserId],
    made: int,
    chat_id: ChatId,
    now: datetime,
    limits: Limits,
) -> Decision[Chat]:
    """A group whose owner is the actor; people named twice, and the actor, are counted once.

    `known` holds those of `command.member_ids` who exist, `made` is how many chats the actor has made, looked
    up in the transaction that applies the effects. Raises `Invalid`, naming each of the others, and
    `TooManyChats`.
    """
    command = check(command, limits)
    unknown = tuple(
        FieldError(f"member_ids.{position}", UserNotFound.code, f"there is no user {user_id}")
        for position, user_id in enumerate(command.member_ids)
        if user_id not in known
    )
    if unknown:
        raise Invalid(*unknown)
    others = dict.fromkeys(user_id for user_id in command.member_ids if user_id != actor)
    members = (
        Member(actor, Role.OWNER, now),
        *(Member(user_id, Role.MEMBER, now) for user_id in others),
    )
    if len(members) > limits.group_members:
        too_many = f"makes a group of {len(members)}, at most {limits.group_members} are allowed"
        raise Invalid(FieldError("member_ids", "too_long", too_many))
    if made >= limits.chats_per_user:
        raise TooManyChats(limits.chats_per_user)
    return _created(Chat(chat_id, command.title, True, now, members, 0, now, None))


def readable(chat: Chat | None, reader: UserId) -> Chat:
    """The chat, for somebody who takes part in it; raises `ChatNotFound`, then `NotAParticipant`."""
    if chat is None:
        raise ChatNotFound
    if chat.member(reader) is None:
        raise NotAParticipant
    return chat


def view(chat: Chat | Excerpt, participants: tuple[UserView, ...]) -> ChatView:
    """The chat as it is shown, with the people of its `member_ids`."""
    return ChatView(chat.id, chat.title, chat.is_group, chat.created_at, participants, chat.member_count)


# --- who is shown of many -----------------------------------------------------------------------------------


def excerpt(chat: Chat, viewer: UserId, count: int) -> Chat | Excerpt:
    """The chat with `count` members at most, of whom the viewer is one: itself where it has no more."""
    if len(chat.members) <= count:
        return chat
    admins = (member.user_id for member in ranked(chat.members))
    return head(chat)._replace(member_ids=shown_members((viewer,), admins, chat.member_ids, count=count))


def head(chat: Chat | Excerpt) -> Excerpt:
    """The chat without its members."""
    if isinstance(chat, Excerpt):
        return chat._replace(member_ids=())
    return Excerpt(
        chat.id,
        chat.title,
        chat.is_group,
        chat.created_at,
        chat.active_at,
        chat.last_message_id,
        len(chat.members),
    )


def ranked(members: Iterable[Member]) -> list[Member]:
    """The owner and then the admins, each in the order in which they joined."""
    found = [member for member in members if member.role is not Role.MEMBER]
    return sorted(found, key=lambda member: member.role is not Role.OWNER)


def shown_members(*rankings: Iterable[UserId], count: int) -> tuple[UserId, ...]:
    """The first `count` people of these rankings, one behind another, each person once.

    Of a chat with more than `count` members the rankings are: the viewer; its owner and admins; all, in the
    order in which they joined, or the first `count` of them.
    """
    return tuple(islice(dict.fromkeys(chain.from_iterable(rankings)), count))


# --- lists --------------------------------------------------------------------------------------------------

Place = tuple[datetime, int, ChatId]
"""Where a chat stands in a list: the greatest comes first."""


def place(chat: Chat | Excerpt) -> Place:
    """A total order of chats: by their last activity, within a second by message, then by chat."""
    return (chat.active_at, chat.last_message_id or 0, chat.id)


class Listing(NamedTuple):
    """Which chats a list shows, in its order, and how many participants of each at most."""

    chats: Sequence[Chat | Excerpt]
    sizes: Mapping[ChatId, int]
    next_cursor: str | None


def check_listing(command: ListChats, limits: Limits) -> Place | None:
    """Where the page begins; raises `Invalid` for a limit or a cursor that is none."""
    check(command, limits)
    return None if command.cursor is None else _place(command.cursor)


def listing(
    chats: Collection[Chat | Excerpt], command: ListChats, below: Place | None, *, limits: Limits
) -> Listing:
    """What is shown of somebody's chats, which may come in any order; `below` is what `check_listing` gave.

    A page holds the chats that were last active before the last one of the page above, as they are by now:
    so no chat comes twice, and one that becomes active meanwhile moves to the front of the list and is on no
    page below. A list that is asked for whole holds `participants_listed_in_all` people: the chats that come
    first show `participants_listed` each, as long as enough is left for all the others.
    """
    found = latest(chats, command, below, limits=limits)
    chosen = found[: _length(command, limits)]
    if not is_paged(command):
        return Listing(chosen, _sizes(chosen, limits), None)
    next_cursor = cursor(place(chosen[-1])) if len(chosen) < len(found) else None
    return Listing(chosen, _full_sizes(chosen, limits), next_cursor)


def latest(
    chats: Collection[Chat | Excerpt], command: ListChats, below: Place | None, *, limits: Limits
) -> list[Chat | Excerpt]:
    """Those of the chats that may matter to `listing`, whatever others there are; latest first."""
    if below is not None:
        chats = [chat for chat in chats if place(chat) < below]
    return nlargest(_length(command, limits) + 1, chats, key=place)


def is_paged(command: ListChats) -> bool:
    """Whether a page is asked for, and not the list: the checklist's clients want a bare array."""
    return command.limit is not None or command.cursor is not None


def _length(command: ListChats, limits: Limits) -> int:
    if not is_paged(command):
        return limits.chats_listed
    return limits.chats_page if command.limit is None else command.limit


def _sizes(chosen: Sequence[Chat | Excerpt], limits: Limits) -> Mapping[ChatId, int]:
    if len(chosen) * limits.participants_listed <= limits.participants_listed_in_all:
        return _full_sizes(chosen, limits)
    least = [min(chat.member_count, PARTICIPANTS_LISTED_LEAST) for chat in chosen]
    spare = limits.participants_listed_in_all - sum(least)
    sizes: dict[ChatId, int] = {}
    for chat, size in zip(chosen, least, strict=True):
        more = min(chat.member_count, limits.participants_listed) - size
        if more > spare:
            spare = more = 0  # whatever comes later shows few, too
        sizes[chat.id] = size + more
        spare -= more
    return sizes


def _full_sizes(chosen: Sequence[Chat | Excerpt], limits: Limits) -> Mapping[ChatId, int]:
    most = limits.participants_listed
    # Without `min`, which would take as long as the rest of it.
    return {chat.id: count if (count := chat.member_count) < most else most for chat in chosen}


def slices(sizes: Mapping[ChatId, int]) -> list[Mapping[ChatId, int]]:
    """The parts in which a list is read and rendered, in its order, one at least: each costs milliseconds."""
    if len(sizes) <= CHATS_AT_ONCE and sum(sizes.values()) <= PARTICIPANTS_AT_ONCE:
        return [sizes]
    found: list[dict[ChatId, int]] = []
    people = PARTICIPANTS_AT_ONCE
    for chat_id, size in sizes.items():
        if people + size > PARTICIPANTS_AT_ONCE or len(found[-1]) == CHATS_AT_ONCE:
            found.append({})
            people = 0
        found[-1][chat_id] = size
        people += size
    return [*found]


def cursor(at: Place) -> str:
    """A place in a list as clients are given it; nothing in it is a secret."""
    active_at, last_message_id, chat_id = at
    text = f"{int(active_at.timestamp())}.{last_message_id}.{chat_id}"
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(text: str) -> Place:
    """What `cursor` was given; raises `Invalid`."""
    malformed = Invalid(FieldError("cursor", "malformed", "must be the next_cursor of the page above"))
    try:
        decoded = urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)).decode()
        active_at, last_message_id, chat_id = map(int, decoded.split("."))
        found = (datetime.fromtimestamp(active_at, UTC), last_message_id, ChatId(chat_id))
    except (ValueError, OverflowError, OSError):
        raise malformed from None
    if cursor(found) != text:
        raise malformed
    return found


def _created(chat: Chat) -> Decision[Chat]:
    """The chat as it is after the first event of its log, which is that it was created."""
    created = evolve(chat, sequence=chat.sequence + 1)
    return Decision(created, announce(chat, ChatCreated(created), now=chat.created_at))

"""Chats: direct ones, exactly one for two people, and groups."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from heapq import nlargest
from itertools import chain, islice
from typing import NamedTuple

from attrs import evolve

from messaging_core.commands import CreateGroup, ListChats, OpenDirectChat
from messaging_core.constraints import check
from messaging_core.cursors import decode_cursor, encode_cursor, malformed_cursor
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
from messaging_core.models import Chat, Excerpt, History, Member, Role, User

DIRECT_CHAT_TITLE = "Direct Message"

PARTICIPANTS_AT_ONCE = 1000
"""People in one part of a list, unless a single chat shows more; they are read and rendered in some 4 ms."""
CHATS_AT_ONCE = 50
"""Chats in one part of a list; looking up the people that one chat shows takes some 40 us, and its last
message may take 0.5 ms."""


def open_direct_chat(
    command: OpenDirectChat,
    *,
    actor: UserId,
    other: User | None,
    existing: Chat | None,
    created_before: int,
    chat_id: ChatId,
    now: datetime,
    limits: Limits,
) -> Decision[Chat]:
    """The one chat of these two people: `existing`, or a new one under `chat_id`.

    Look up `existing` in the transaction that applies the effects, and, where there is none, also
    `created_before`, the number of chats that the actor has created. Raises `DirectChatWithSelf`,
    `UserNotFound` and `TooManyChats`.
    """
    if command.user_id == actor:
        raise DirectChatWithSelf
    if other is None:
        raise UserNotFound
    if existing is not None:
        return Decision(existing)
    if created_before >= limits.chats_per_user:
        raise TooManyChats(limits.chats_per_user)
    members = tuple(Member(user_id, Role.MEMBER, now) for user_id in (actor, other.id))
    return _created(Chat(chat_id, DIRECT_CHAT_TITLE, False, now, members, 0, now, None, History.ALL))


def create_group(
    command: CreateGroup,
    *,
    actor: UserId,
    known: Collection[UserId],
    created_before: int,
    chat_id: ChatId,
    now: datetime,
    limits: Limits,
) -> Decision[Chat]:
    """A group whose owner is the actor; people named twice, and the actor, count once.

    `known` holds the `command.member_ids` that exist, `created_before` is the number of chats that the actor
    has created; look both up in the transaction that applies the effects. Raises `Invalid`, naming each
    unknown member, and `TooManyChats`.
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
    if created_before >= limits.chats_per_user:
        raise TooManyChats(limits.chats_per_user)
    return _created(Chat(chat_id, command.title, True, now, members, 0, now, None, command.history))


def readable(chat: Chat | None, reader: UserId) -> Chat:
    """The chat, for one of its members; raises `ChatNotFound`, then `NotAParticipant`."""
    return reading(chat, reader)[0]


def reading(chat: Chat | None, reader: UserId) -> tuple[Chat, Member]:
    """The chat and the membership of its reader; raises `ChatNotFound`, then `NotAParticipant`."""
    if chat is None:
        raise ChatNotFound
    member = chat.member(reader)
    if member is None:
        raise NotAParticipant
    return chat, member


# --- which members of a large chat are shown ----------------------------------------------------------------


def excerpt(chat: Chat, viewer: UserId, count: int) -> Chat | Excerpt:
    """The chat with at most `count` of its members, including the viewer; unchanged where it has no more."""
    if len(chat.members) <= count:
        return chat
    admins = (member.user_id for member in ranked(chat.members))
    member_ids = shown_members((viewer,), admins, chat.member_ids, count=count)
    return head(chat)._replace(member_ids=member_ids, viewer=chat.member(viewer))


def head(chat: Chat | Excerpt) -> Excerpt:
    """The chat without its members."""
    if isinstance(chat, Excerpt):
        return chat._replace(member_ids=(), viewer=None)
    return Excerpt(
        chat.id,
        chat.title,
        chat.is_group,
        chat.created_at,
        chat.active_at,
        chat.last_message_id,
        len(chat.members),
        chat.sequence,
        chat.history,
        chat.avatar_url,
        chat.message_count,
    )


def ranked(members: Iterable[Member]) -> list[Member]:
    """The owner, then the admins in the order in which they joined."""
    found = [member for member in members if member.role is not Role.MEMBER]
    return sorted(found, key=lambda member: member.role is not Role.OWNER)


def shown_members(*rankings: Iterable[UserId], count: int) -> tuple[UserId, ...]:
    """The first `count` people of the concatenated rankings, each person once.

    For a chat with more than `count` members the rankings are: the viewer; its owner and admins; all members
    in the order in which they joined, or the first `count` of them.
    """
    return tuple(islice(dict.fromkeys(chain.from_iterable(rankings)), count))


# --- lists --------------------------------------------------------------------------------------------------

SortKey = tuple[datetime, int, ChatId]
"""Orders the chats of a list: the greatest comes first."""


def sort_key(chat: Chat | Excerpt) -> SortKey:
    """A total order of chats: by last activity, within a second by last message, then by chat."""
    return (chat.active_at, chat.last_message_id or 0, chat.id)


class Listing(NamedTuple):
    """The chats that a list shows, in its order, and how many participants of each at most."""

    chats: Sequence[Chat | Excerpt]
    sizes: Mapping[ChatId, int]
    next_cursor: str | None


def check_listing(command: ListChats, limits: Limits) -> SortKey | None:
    """The sort key of the last chat of the page above; raises `Invalid` for a bad limit or cursor."""
    check(command, limits)
    return None if command.cursor is None else _parse_cursor(command.cursor)


def listing(
    chats: Collection[Chat | Excerpt], command: ListChats, below: SortKey | None, *, limits: Limits
) -> Listing:
    """What a list shows of one person's chats, given in any order; `below` comes from `check_listing`.

    A page holds the chats whose last activity, as of now, is before that of the last chat of the page above.
    So no chat appears twice, and a chat that becomes active meanwhile moves to the front of the list and is
    on no page below. A whole list holds `participants_listed_in_all` people: its first chats show
    `participants_listed` each, as long as enough remains for all the others.
    """
    found = latest(chats, command, below, limits=limits)
    chosen = found[: _length(command, limits)]
    if not is_paged(command):
        return Listing(chosen, _sizes(chosen, limits), None)
    next_cursor = cursor(sort_key(chosen[-1])) if len(chosen) < len(found) else None
    return Listing(chosen, _full_sizes(chosen, limits), next_cursor)


def latest(
    chats: Collection[Chat | Excerpt], command: ListChats, below: SortKey | None, *, limits: Limits
) -> list[Chat | Excerpt]:
    """The chats that can affect `listing`, whatever other chats there are; latest first."""
    if below is not None:
        chats = [chat for chat in chats if sort_key(chat) < below]
    return nlargest(_length(command, limits) + 1, chats, key=sort_key)


def is_paged(command: ListChats) -> bool:
    """Whether the command requests a page, not the whole list: the checklist's clients want a bare array."""
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
            spare = more = 0  # so that all later chats show few, too
        sizes[chat.id] = size + more
        spare -= more
    return sizes


def _full_sizes(chosen: Sequence[Chat | Excerpt], limits: Limits) -> Mapping[ChatId, int]:
    most = limits.participants_listed
    # `min` would take as long as the rest of the loop.
    return {chat.id: count if (count := chat.member_count) < most else most for chat in chosen}


def slices(sizes: Mapping[ChatId, int]) -> list[Mapping[ChatId, int]]:
    """The parts in which a list is read and rendered, in its order, at least one; each takes milliseconds."""
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


def cursor(key: SortKey) -> str:
    """The cursor that clients receive for a chat's sort key."""
    active_at, last_message_id, chat_id = key
    return encode_cursor((int(active_at.timestamp()), last_message_id, chat_id))


def _parse_cursor(text: str) -> SortKey:
    """The sort key of a cursor; raises `Invalid`."""
    active_at, last_message_id, chat_id = decode_cursor(text, 3)
    try:
        return (datetime.fromtimestamp(active_at, UTC), last_message_id, ChatId(chat_id))
    except (ValueError, OverflowError, OSError):
        raise malformed_cursor() from None


def _created(chat: Chat) -> Decision[Chat]:
    """The chat after the first event of its log, its creation."""
    created = evolve(chat, sequence=chat.sequence + 1)
    return Decision(created, announce(chat, ChatCreated(created), now=chat.created_at))

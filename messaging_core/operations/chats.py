"""Chats, and lists of them."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from attrs import evolve, frozen

from messaging_core import chats, messages, privacy, system_messages
from messaging_core.avatars import AvatarHosts
from messaging_core.commands import CreateGroup, GetChat, ListChats, OpenDirectChat
from messaging_core.effects import Decision
from messaging_core.ids import MAX_ID, ChatId, UserId
from messaging_core.models import Chat, ChatPage, ChatView, Excerpt, Member, Message, User, UserView
from messaging_core.operations.base import Context, Operation, Part, Query, Reading
from messaging_core.operations.read_marks import marks_of
from messaging_core.ports import Reader, Transaction
from messaging_core.positions import may_see

CHATS_AT_ONCE = 2500
"""Chats of one person that one query reads, in some 5 ms; only other people can add a person to more."""


def list_chats(command: ListChats, context: Context) -> Reading[ChatPage]:
    """The parts of a list or a page, at least one; raises `Invalid`.

    Each part shows its chats in their state when it is read, and omits those that the reader has left since.
    A list of few people is one part and one query.
    """
    scan = partial(
        _scan, command=command, context=context, below=chats.check_listing(command, context.limits)
    )
    scanned: _FirstPart | _PartialScan = yield partial(scan, found=(), after=None)
    while isinstance(scanned, _PartialScan):
        scanned = yield partial(scan, found=scanned.found, after=scanned.after)
    yield Part(scanned.page)
    room = scanned.room
    for sizes in scanned.rest:
        views: tuple[ChatView, ...]
        views, room = yield partial(_views, sizes=sizes, context=context, room=room)
        yield Part(ChatPage(views, scanned.page.next_cursor))


@frozen
class _PartialScan:
    """The state of a scan that has not read all chats of a person."""

    found: Sequence[Chat | Excerpt]
    """Those that the list may show."""
    after: ChatId
    """The last chat that was read."""


@frozen
class _FirstPart:
    """The first part of a list, and the sizes of the others."""

    page: ChatPage
    rest: Sequence[Mapping[ChatId, int]]
    room: int
    """Characters of last messages that the others may show."""


def _scan(
    reader: Reader,
    *,
    command: ListChats,
    context: Context,
    below: chats.SortKey | None,
    found: Sequence[Chat | Excerpt],
    after: ChatId | None,
) -> _FirstPart | _PartialScan:
    more = reader.chats_of(context.actor.user_id, after, CHATS_AT_ONCE)
    if len(more) == CHATS_AT_ONCE:
        latest = chats.latest([*found, *more], command, below, limits=context.limits)
        return _PartialScan(latest, more[-1].id)
    listed, sizes, next_cursor = chats.listing([*found, *more], command, below, limits=context.limits)
    first, *rest = chats.slices(sizes)
    whole = {
        chat.id: chat for chat in listed if isinstance(chat, Chat) and len(chat.members) == sizes[chat.id]
    }
    room = context.limits.last_messages_characters
    views, room = _views(reader, sizes=first, whole=whole, context=context, room=room)
    return _FirstPart(ChatPage(views, next_cursor), rest, room)


def _views(
    reader: Reader,
    *,
    sizes: Mapping[ChatId, int],
    whole: Mapping[ChatId, Chat] = MappingProxyType({}),
    context: Context,
    room: int,
) -> tuple[tuple[ChatView, ...], int]:
    """Chats of the actor, each with `sizes` participants; `whole` holds those already read in that size.

    The first ones, whose last messages have `room` characters together, show these. Returns the room left,
    too.
    """
    found: Mapping[ChatId, Chat | Excerpt] = whole
    if missing := sizes.keys() - whole.keys():
        excerpts = reader.excerpts({chat_id: sizes[chat_id] for chat_id in missing}, context.actor.user_id)
        found = {**whole, **excerpts}
    # Read `member_ids` once for each chat: the property builds them at each access.
    shown = [(found[chat_id], found[chat_id].member_ids) for chat_id in sizes if chat_id in found]
    people = seen(context, reader.users({user_id for _, user_ids in shown for user_id in user_ids}))
    viewer = context.actor.user_id
    own = {chat.id: _membership(chat, viewer) for chat, _ in shown}
    last, room = _last_messages(reader, [(chat, own[chat.id]) for chat, _ in shown], room)
    marks = marks_of(reader, [chat for chat, _ in shown], context)
    hosts = context.privacy.avatar_hosts
    views = tuple(
        [
            ChatView(
                chat if chat.avatar_url is None else with_avatar(chat, hosts),
                tuple([people[id_] for id_ in user_ids]),
                own[chat.id].role,
                last.get(chat.id),
                (read := marks[chat.id]).unread_count,
                read.read_up_to,
                read.others_read_up_to,
            )
            for chat, user_ids in shown
        ]
    )
    return views, room


def _membership(chat: Chat | Excerpt, viewer: UserId) -> Member:
    """The viewer's own membership of a chat of theirs."""
    member = chat.member(viewer) if isinstance(chat, Chat) else chat.viewer
    if member is None:
        raise TypeError(f"chat {chat.id} is shown to {viewer}, who is no member of it")
    return member


def _last_messages(
    reader: Reader, found: Iterable[tuple[Chat | Excerpt, Member]], room: int
) -> tuple[dict[ChatId, Message], int]:
    """The last messages of the first chats, as they are shown, of `room` characters in all; the room left."""
    wanted = {
        chat.id: chat.last_message_id for chat, _ in found if room > 0 and chat.last_message_id is not None
    }
    read = reader.last_messages(wanted) if wanted else {}
    last: list[Message] = []
    for chat, member in found:
        message = read.get(chat.id)
        if message is None or not may_see(member.range, chat.sequence, message.sequence):
            continue
        characters = messages.characters_of(message)
        if characters > room:
            room = 0
            break
        room -= characters
        last.append(message)
    return {message.chat_id: message for message in system_messages.shown(last, reader.users)}, room


def with_avatar(chat: Chat | Excerpt, hosts: AvatarHosts) -> Chat | Excerpt:
    """The chat, without an avatar that may not be loaded."""
    if chat.avatar_url is None or hosts.admits(chat.avatar_url):
        return chat
    return evolve(chat, avatar_url=None) if isinstance(chat, Chat) else chat._replace(avatar_url=None)


def get_chat(command: GetChat, context: Context) -> Query[ChatView]:
    def query(reader: Reader) -> ChatView:
        chat = chats.readable(reader.chat(command.chat_id), context.actor.user_id)
        return view(reader, chat, context)

    return query


def open_direct_chat(command: OpenDirectChat, context: Context) -> Operation[ChatView]:
    def operation(tx: Transaction) -> Decision[ChatView]:
        actor = context.actor.user_id
        existing = tx.lock_direct_chat(actor, command.user_id)
        decision = chats.open_direct_chat(
            command,
            actor=actor,
            other=tx.user(command.user_id),
            existing=existing,
            created_before=0 if existing else tx.lock_chats_made_by(actor),
            chat_id=existing.id if existing else tx.next_chat_id(),
            now=context.now,
            limits=context.limits,
        )
        return Decision(view(tx, decision.result, context), decision.effects)

    return operation


def create_group(command: CreateGroup, context: Context) -> Operation[ChatView]:
    def operation(tx: Transaction) -> Decision[ChatView]:
        actor = context.actor.user_id
        people = tx.users({actor, *command.member_ids})
        decision = chats.create_group(
            command,
            actor=actor,
            known=people.keys(),
            created_before=tx.lock_chats_made_by(actor),
            chat_id=tx.next_chat_id(),
            now=context.now,
            limits=context.limits,
        )
        shown = chats.excerpt(decision.result, actor, context.limits.participants_shown)
        owner = decision.result.members[0]
        return Decision(_shown_to(context, shown, people, owner), decision.effects)

    return operation


def view(reader: Reader, chat: Chat, context: Context, *, created: Message | None = None) -> ChatView:
    """A chat of the actor; `created` is its last message where that is not stored yet."""
    member = _membership(chat, context.actor.user_id)
    last = created
    if last is None and chat.last_message_id is not None:
        last = _last_messages(reader, ((chat, member),), MAX_ID)[0].get(chat.id)
    shown = chats.excerpt(chat, context.actor.user_id, context.limits.participants_shown)
    view = _shown_to(context, shown, reader.users(shown.member_ids), member, last)
    read = marks_of(reader, (chat,), context)[chat.id]
    return view._replace(
        unread_count=read.unread_count,
        read_up_to=read.read_up_to,
        others_read_up_to=read.others_read_up_to,
    )


def chat_views(chat_ids: Sequence[ChatId], context: Context) -> Query[tuple[ChatView, ...]]:
    """Those of the chats of which the actor is a member, as a list shows them."""
    sizes = dict.fromkeys(chat_ids, context.limits.participants_listed)
    return lambda reader: _views(
        reader, sizes=sizes, context=context, room=context.limits.last_messages_characters
    )[0]


def _shown_to(
    context: Context,
    shown: Chat | Excerpt,
    users: Mapping[UserId, User],
    member: Member,
    last: Message | None = None,
) -> ChatView:
    """A chat of the actor, with its people as the actor sees them."""
    people = seen(context, users)
    participants = tuple([people[user_id] for user_id in shown.member_ids])
    shown = with_avatar(shown, context.privacy.avatar_hosts)
    return ChatView(shown, participants, member.role, last)


def seen(context: Context, users: Mapping[UserId, User]) -> Mapping[UserId, UserView]:
    """People in chats of the actor, as the actor sees them."""
    return privacy.participants_shown(users, viewer=context.actor.user_id, privacy=context.privacy)

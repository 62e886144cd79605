"""Load, then decide: every command as a function of a transaction, every query as one of a reader.

An operation does nothing but use its transaction; it may run in another thread, and more than once.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar, assert_never

from anyascii import anyascii
from attrs import evolve, frozen

from messaging_core import chats, idempotency, messages, privacy, tokens, users
from messaging_core.commands import (
    CreateGroup,
    DeleteMessage,
    EditMessage,
    FindUserByTag,
    GetChat,
    GetOwnUser,
    GetUser,
    ListChats,
    ListMessages,
    LogOut,
    OpenDirectChat,
    SendMessage,
)
from messaging_core.effects import Decision
from messaging_core.errors import RefreshTokenReused, Refused, SessionRevoked
from messaging_core.idempotency import IdempotentRequest, Shown
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import (
    AccessClaims,
    Activity,
    Actor,
    Chat,
    ChatPage,
    ChatView,
    Excerpt,
    IdempotencyKey,
    Message,
    Page,
    RefreshClaims,
    Resource,
    ResourceKind,
    Session,
    User,
    UserView,
)
from messaging_core.ports import Reader, Transaction
from messaging_core.privacy import EmailVisibility, Privacy
from messaging_core.users import Registration

T = TypeVar("T")

ACTIVITIES_AT_ONCE = 2500
"""Chats of a person that are ordered by one query, in some 5 ms; only others can have added them to more."""

MESSAGES_AT_ONCE = 51
"""Messages that one query reads: a page of the usual size, and one more. Some 5 ms for messages of 32 KB, and
30 ms where their payloads hold nothing but numbers."""

Operation = Callable[[Transaction], Decision[T]]
Query = Callable[[Reader], T]
Read = Callable[[Query[Any]], Awaitable[Any]]
"""Runs a query on a view of its own."""


@frozen
class Context:
    """Who asks, when, within which limits, and what others are shown to them."""

    actor: Actor
    now: datetime
    limits: Limits
    privacy: Privacy


def registration_request(registration: Registration, *, path: str, key: str) -> IdempotentRequest:
    """A registration with a key; its fingerprint omits the password, which a replay checks by its hash."""
    command = registration.command
    encoded = json.dumps([command.email, command.display_name, command.avatar_url]).encode()
    return IdempotentRequest(IdempotencyKey(None, "POST", path, key), idempotency.fingerprint(encoded))


# --- accounts -----------------------------------------------------------------------------------------------


def register(
    registration: Registration,
    *,
    password_hash: str,
    device: str,
    nonce: bytes,
    chance: Iterable[int],
    request: IdempotentRequest | None,
    now: datetime,
    limits: Limits,
) -> Operation[tuple[User, Session] | UserId]:
    """A prepared registration and its first session, or who registered with the same key before.

    No token is ever stored.
    """
    numbers = tuple(chance)
    command = registration.command

    def operation(tx: Transaction) -> Decision[tuple[User, Session] | UserId]:
        if request is not None:
            stored = idempotency.replayed(
                tx.lock_stored_response(request.key), request, now=now, limits=limits
            )
            if stored is not None and stored.resource is not None:
                return Decision(UserId(stored.resource.id))
        tags = users.tag_candidates(anyascii(command.display_name), numbers)
        registered = users.register(
            command,
            known=_user_by_email(tx, registration.email_keys),
            tag=next(tag for tag in tags if tx.user_by_tag(tag) is None),
            user_id=tx.next_user_id(),
            password_hash=password_hash,
            now=now,
        )
        opened = tokens.open_session(
            registered.result.id,
            session_id=tx.next_session_id(),
            nonce=nonce,
            device=device,
            now=now,
            limits=limits,
        )
        effects = (*registered.effects, *opened.effects)
        if request is not None:
            resource = idempotency.resource_of(registered.result)
            effects += idempotency.store(request, status=201, resource=resource, now=now).effects
        return Decision((registered.result, opened.result), effects)

    return operation


def open_session(
    user_id: UserId, *, device: str, nonce: bytes, now: datetime, limits: Limits
) -> Operation[Session]:
    return lambda tx: tokens.open_session(
        user_id, session_id=tx.next_session_id(), nonce=nonce, device=device, now=now, limits=limits
    )


def rotate(
    claims: RefreshClaims, *, now: datetime, limits: Limits
) -> Operation[Session | RefreshTokenReused]:
    return lambda tx: tokens.rotate(claims, tx.lock_session(claims.session_id), now=now, limits=limits)


def confirm(claims: AccessClaims) -> Operation[None]:
    return lambda tx: tokens.confirm(claims, tx.lock_session(claims.session_id))


def log_out(command: LogOut, context: Context) -> Operation[None]:
    del command
    return lambda tx: tokens.end_session(
        tx.lock_session(context.actor.session_id), reason=SessionRevoked.code, now=context.now
    )


def session(session_id: SessionId) -> Query[Session | None]:
    return lambda reader: reader.session(session_id)


def sessions(session_ids: Sequence[SessionId]) -> Query[dict[SessionId, Session | None]]:
    return lambda reader: {session_id: reader.session(session_id) for session_id in session_ids}


def credentials(email_keys: Sequence[str]) -> Query[tuple[User | None, str | None]]:
    """Who has an e-mail of one of these keys, and the hash of their password."""

    def query(reader: Reader) -> tuple[User | None, str | None]:
        user = _user_by_email(reader, email_keys)
        return user, None if user is None else reader.password_hash(user.id)

    return query


def _user_by_email(reader: Reader, email_keys: Sequence[str]) -> User | None:
    """Of whom the keys find, the first."""
    return next((user for key in email_keys if (user := reader.user_by_email(key)) is not None), None)


def try_to_write(tx: Transaction) -> Decision[None]:
    """Take an identifier that nobody gets: what is committed has changed, if there is room for it."""
    tx.next_session_id()
    return Decision(None)


def forget(now: datetime, limits: Limits) -> Operation[int]:
    """Drop what has outlived its use: stored responses, and sessions that ended or expired."""

    def operation(tx: Transaction) -> Decision[int]:
        return Decision(
            tx.forget_before(responses=now - limits.idempotency_ttl, sessions=now - limits.refresh_ttl)
        )

    return operation


# --- users --------------------------------------------------------------------------------------------------


def get_own_user(command: GetOwnUser, context: Context) -> Query[UserView]:
    del command
    return lambda reader: _shown(reader, users.found(reader.user(context.actor.user_id)), context)


def get_user(command: GetUser, context: Context) -> Query[UserView]:
    """A person by a number that anybody can count up: strangers are not shown their e-mail in any case."""
    strict = evolve(context, privacy=context.privacy.towards_strangers())
    return lambda reader: _shown(reader, users.found(reader.user(command.user_id)), strict)


def knows(user_id: UserId, context: Context) -> Query[bool]:
    """Whether the actor is this person or shares a chat with them; False where there is no such person."""
    viewer = context.actor.user_id
    return lambda reader: viewer == user_id or reader.shares_chat(viewer, user_id)


def find_user_by_tag(command: FindUserByTag, context: Context) -> Query[UserView]:
    tag = users.normalise_tag(command.tag)

    def query(reader: Reader) -> UserView:
        user = users.found(reader.user_by_tag(tag) if users.may_be_tag(tag) else None)
        return _shown(reader, user, context)

    return query


def _shown(reader: Reader, user: User, context: Context) -> UserView:
    """One person as the actor sees them; whether the two share a chat is looked up where it matters."""
    viewer = context.actor.user_id
    matters = context.privacy.email_visibility is EmailVisibility.SHARED_CHAT and viewer != user.id
    shares_chat = matters and reader.shares_chat(viewer, user.id)
    return privacy.shown(user, viewer=viewer, shares_chat=shares_chat, privacy=context.privacy)


# --- chats --------------------------------------------------------------------------------------------------


async def list_chats(command: ListChats, context: Context, read: Read) -> AsyncIterator[ChatPage]:
    """The parts of a list or a page, one at least; raises `Invalid`.

    Each part is read on a view of its own, so that others have their turn between two: it shows each of its
    chats as it is then, and leaves out those that the reader has left meanwhile. A list of few people is one
    part, and of one view.
    """
    actor, limits = context.actor.user_id, context.limits
    below = chats.check_listing(command, limits)
    found: list[Activity] = []

    def begin(reader: Reader) -> tuple[Sequence[Mapping[ChatId, int]], ChatPage] | None:
        after = more[-1].chat_id if more else None
        more[:] = reader.activities_of(actor, after, ACTIVITIES_AT_ONCE)
        found[:] = chats.latest([*found, *more], command, below, limits=limits)
        if len(more) == ACTIVITIES_AT_ONCE:
            return None
        listing = chats.listing(found, command, below, limits=limits)
        first, *rest = chats.slices(listing.sizes) or [{}]
        return rest, ChatPage(_views(reader, sizes=first, context=context), listing.next_cursor)

    more: list[Activity] = []
    while (begun := await read(begin)) is None:
        pass
    rest, page = begun
    yield page
    for sizes in rest:
        yield ChatPage(await read(partial(_views, sizes=sizes, context=context)), page.next_cursor)


def _views(reader: Reader, *, sizes: Mapping[ChatId, int], context: Context) -> tuple[ChatView, ...]:
    excerpts = reader.excerpts(sizes, context.actor.user_id)
    users = reader.users({user_id for excerpt in excerpts.values() for user_id in excerpt.member_ids})
    people = _seen(context, users)
    return tuple([chats.view(excerpts[chat_id], people) for chat_id in sizes if chat_id in excerpts])


def get_chat(command: GetChat, context: Context) -> Query[ChatView]:
    def query(reader: Reader) -> ChatView:
        chat = chats.readable(reader.chat(command.chat_id), context.actor.user_id)
        return _view(reader, chat, context)

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
            made=0 if existing else tx.lock_chats_made_by(actor),
            chat_id=existing.id if existing else tx.next_chat_id(),
            now=context.now,
            limits=context.limits,
        )
        return Decision(_view(tx, decision.result, context), decision.effects)

    return operation


def create_group(command: CreateGroup, context: Context) -> Operation[ChatView]:
    def operation(tx: Transaction) -> Decision[ChatView]:
        actor = context.actor.user_id
        people = tx.users({actor, *command.member_ids})
        decision = chats.create_group(
            command,
            actor=actor,
            known=people.keys(),
            made=tx.lock_chats_made_by(actor),
            chat_id=tx.next_chat_id(),
            now=context.now,
            limits=context.limits,
        )
        shown = chats.excerpt(decision.result, actor, context.limits.participants_shown)
        return Decision(_shown_to(context, shown, people), decision.effects)

    return operation


def _view(reader: Reader, chat: Chat, context: Context) -> ChatView:
    shown = chats.excerpt(chat, context.actor.user_id, context.limits.participants_shown)
    return _shown_to(context, shown, reader.users(shown.member_ids))


def _shown_to(context: Context, shown: Excerpt, users: Mapping[UserId, User]) -> ChatView:
    """A chat of the actor, with its people as the actor sees them."""
    return chats.view(shown, _seen(context, users))


def _seen(context: Context, users: Mapping[UserId, User]) -> Mapping[UserId, UserView]:
    """People in chats of the actor, as the actor sees them."""
    return privacy.participants_shown(users, viewer=context.actor.user_id, privacy=context.privacy)


# --- messages -----------------------------------------------------------------------------------------------


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
    """A message read under its chat's lock, which alone keeps it from changing."""
    unlocked = tx.message(message_id)
    if unlocked is None:
        return None, None
    return tx.lock_chat(unlocked.chat_id), tx.message(message_id)


def page_of_messages(command: ListMessages, context: Context, size: int) -> Query[Page]:
    """A page that `messages.check_page` has found to be of this size."""

    def query(reader: Reader) -> Page:
        chat = chats.readable(reader.chat(command.chat_id), context.actor.user_id).id
        if command.after_id is not None:
            newer = reader.messages_after(chat, MessageId(command.after_id), size + 1)
            older = reader.messages_before(chat, MessageId(command.after_id + 1), 1)
            return messages.page(older, newer, size=size, forward=True)
        if command.around_id is not None:
            newer = reader.messages_after(chat, command.around_id, size)
            older = reader.messages_before(chat, MessageId(command.around_id + 1), size + 1)
            return messages.page(older, newer, size=size)
        return messages.page(reader.messages_before(chat, command.before_id, size + 1), (), size=size)

    return query


async def page_in_parts(command: ListMessages, context: Context, size: int, read: Read) -> Page:
    """The same, by several queries: each is of a view of its own, and reads `MESSAGES_AT_ONCE` at most."""

    def part(older: bool, anchor: MessageId | None, count: int) -> Query[Sequence[Message]]:
        def query(reader: Reader) -> Sequence[Message]:
            chat = chats.readable(reader.chat(command.chat_id), context.actor.user_id).id
            if anchor is None or older:
                return reader.messages_before(chat, anchor, count)
            return reader.messages_after(chat, anchor, count)

        return query

    async def gather(older: bool, anchor: MessageId | None, count: int) -> Sequence[Message]:
        found: list[Message] = []
        while len(found) < count:
            wanted = min(count - len(found), MESSAGES_AT_ONCE)
            some = await read(part(older, anchor, wanted))
            found += some
            if len(some) < wanted:
                break
            anchor = found[-1].id
        return found

    if command.after_id is not None:
        newer = await gather(False, MessageId(command.after_id), size + 1)
        older = await gather(True, MessageId(command.after_id + 1), 1)
        return messages.page(older, newer, size=size, forward=True)
    if command.around_id is not None:
        newer = await gather(False, command.around_id, size)
        older = await gather(True, MessageId(command.around_id + 1), size + 1)
        return messages.page(older, newer, size=size)
    return messages.page(await gather(True, command.before_id, size + 1), (), size=size)


# --- once ---------------------------------------------------------------------------------------------------


@frozen
class Executed:
    """The result of an operation, or of an earlier request with the same Idempotency-Key."""

    result: Shown | Refused
    """Of a replay: as it is now, or the refusal to show it to somebody who may no longer read it."""
    status: int
    replayed: bool
    people_reached: int = 0
    """How many people its events were delivered to."""


def once_only(
    operation: Operation[Shown], request: IdempotentRequest, *, status: int, context: Context
) -> Operation[Executed]:
    """`operation`, unless its key has a stored response; what it makes is named in the same transaction."""

    def guarded(tx: Transaction) -> Decision[Executed]:
        stored = idempotency.replayed(
            tx.lock_stored_response(request.key), request, now=context.now, limits=context.limits
        )
        if stored is not None:
            result = _shown_now(tx, stored.resource, context)
            return Decision(Executed(result, stored.status, replayed=True))
        decision = operation(tx)
        response = idempotency.store(
            request, status=status, resource=idempotency.resource_of(decision.result), now=context.now
        )
        executed = Executed(decision.result, status, False, decision.people_reached())
        return Decision(executed, (*decision.effects, *response.effects))

    return guarded


def _shown_now(reader: Reader, resource: Resource | None, context: Context) -> Shown | Refused:
    """What a stored response names, to its actor; the refusal that reading it would meet is a value here."""
    if resource is None:
        return None
    actor = context.actor.user_id
    try:
        match resource.kind:
            case ResourceKind.MESSAGE:
                message = messages.found(reader.message(MessageId(resource.id)))
                chats.readable(reader.chat(message.chat_id), actor)
                return message
            case ResourceKind.CHAT:
                return _view(reader, chats.readable(reader.chat(ChatId(resource.id)), actor), context)
            case ResourceKind.USER:
                return _shown(reader, users.found(reader.user(UserId(resource.id))), context)
            case _:
                assert_never(resource.kind)
    except Refused as refusal:
        return refusal

"""Programs of transactions, which run on the storage under test and on a `World`; every result must agree.

A program names its objects by number: `chat=3` is the third chat so far, modulo the number of chats. The
storage under test draws the ids, and the world uses the same ids, so that all results are equal.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from itertools import combinations_with_replacement, permutations
from typing import Any, TypeVar

from attrs import evolve, field, frozen
from hypothesis import strategies as st

from messaging_core.chats import create_group, head, open_direct_chat
from messaging_core.commands import (
    CreateGroup,
    EditMessage,
    OpenDirectChat,
    RegisterUser,
    SendMessage,
    UpdateGroup,
)
from messaging_core.constraints import UNSET, Unset
from messaging_core.effects import AdvanceMark, Decision
from messaging_core.errors import Refused
from messaging_core.groups import update_group
from messaging_core.idempotency import IdempotentRequest, replayed, store
from messaging_core.ids import MAX_ID, ChatId, MessageId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.members import add_members, delete_chat, give_role, remove_member
from messaging_core.messages import delete_message, edit_message, send_message
from messaging_core.models import Actor, History, IdempotencyKey, MessageType, Resource, Role
from messaging_core.operations import Context, apply_decision, chat_views, keep_lease, missed_events
from messaging_core.ports import Reader, Storage, Transaction
from messaging_core.presence import Changes
from messaging_core.privacy import Privacy
from messaging_core.testing import strategies as values
from messaging_core.tokens import open_session, refresh_claims, rotate
from messaging_core.users import register
from messaging_core.world import World

T = TypeVar("T")

OpenStorage = Callable[[], AbstractAsyncContextManager[Storage]]
"""Opens a fresh, empty storage for as long as the context lasts."""

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LIMITS = Limits()


def enact(tx: Transaction, decision: Decision[T]) -> T:
    """Apply the storage effects of a decision; returns its result."""
    apply_decision(tx, decision)
    return decision.result


class _Known:
    """Every id and key that the program has used, also in transactions that were rolled back."""

    def __init__(self) -> None:
        self.users: list[UserId] = []
        self.sessions: list[SessionId] = []
        self.chats: list[ChatId] = []
        self.messages: list[MessageId] = []
        self.keys: list[IdempotencyKey] = []
        self.names: list[str] = []
        self.leases: list[str] = []

    def copy(self) -> "_Known":
        copy = _Known()
        for name, value in vars(self).items():
            setattr(copy, name, list(value))
        return copy


@frozen
class _Scene:
    """The state of one run of one transaction of the program."""

    tx: Transaction
    known: _Known
    now: datetime
    drawn: list[int] = field(factory=list)
    """The ids that the transaction drew, in order."""
    given: Iterator[int] | None = None
    """The ids to use instead of new ones."""

    def draw(self, next_id: Callable[[], T], known: list[T]) -> T:
        number: Any = next_id() if self.given is None else next(self.given)
        self.drawn.append(number)
        known.append(number)
        return number  # type: ignore[no-any-return]

    def user(self, number: int) -> UserId:
        return _around(self.known.users, number, UserId(MAX_ID))

    def chat(self, number: int) -> ChatId:
        return _around(self.known.chats, number, ChatId(MAX_ID))

    def message(self, number: int) -> MessageId:
        return _around(self.known.messages, number, MessageId(MAX_ID))

    def session(self, number: int) -> SessionId:
        return _around(self.known.sessions, number, SessionId(MAX_ID))


def _around(known: list[T], number: int, otherwise: T) -> T:
    return known[number % len(known)] if known else otherwise


@frozen
class _Register:
    name: str

    def run(self, scene: _Scene) -> object:
        scene.known.names.append(self.name)
        decision = register(
            RegisterUser(f"{self.name}@test.com", "password123", self.name),
            known=scene.tx.user_by_email(f"{self.name}@test.com"),
            tag=self.name,
            user_id=scene.draw(scene.tx.next_user_id, scene.known.users),
            password_hash=f"hash of {self.name}",
            now=scene.now,
        )
        return enact(scene.tx, decision)


@frozen
class _OpenSession:
    user: int
    nonce: bytes

    def run(self, scene: _Scene) -> object:
        user = scene.tx.user(scene.user(self.user))
        if user is None:
            return None
        session_id = scene.draw(scene.tx.next_session_id, scene.known.sessions)
        opened = open_session(
            user.id,
            session_id=session_id,
            nonce=self.nonce,
            device="a phone",
            now=scene.now,
            limits=LIMITS,
        )
        return enact(scene.tx, opened)


@frozen
class _Refresh:
    session: int
    back: int

    def run(self, scene: _Scene) -> object:
        session = scene.tx.lock_session(scene.session(self.session))
        if session is None:
            return None
        claims = evolve(refresh_claims(session), generation=session.generation - self.back)
        result = enact(scene.tx, rotate(claims, session, now=scene.now, limits=LIMITS))
        return result.code if isinstance(result, Refused) else result


@frozen
class _OpenDirectChat:
    actor: int
    other: int

    def run(self, scene: _Scene) -> object:
        actor, other = scene.user(self.actor), scene.user(self.other)
        if scene.tx.user(actor) is None:
            return None
        decision = open_direct_chat(
            OpenDirectChat(other),
            actor=actor,
            other=scene.tx.user(other),
            existing=scene.tx.lock_direct_chat(actor, other),
            created_before=scene.tx.lock_chats_made_by(actor),
            chat_id=scene.draw(scene.tx.next_chat_id, scene.known.chats),
            now=scene.now,
            limits=LIMITS,
        )
        return enact(scene.tx, decision)


@frozen
class _CreateGroup:
    title: str
    owner: int
    others: tuple[int, ...]

    def run(self, scene: _Scene) -> object:
        owner = scene.user(self.owner)
        if scene.tx.user(owner) is None:
            return None
        member_ids = tuple(scene.user(number) for number in self.others)
        decision = create_group(
            CreateGroup(self.title, member_ids),
            actor=owner,
            known=scene.tx.users(member_ids),
            created_before=scene.tx.lock_chats_made_by(owner),
            chat_id=scene.draw(scene.tx.next_chat_id, scene.known.chats),
            now=scene.now,
            limits=LIMITS,
        )
        return enact(scene.tx, decision)


@frozen
class _Join:
    chat: int
    users: tuple[int, ...]
    reads_all: bool

    def run(self, scene: _Scene) -> object:
        user_ids = tuple(scene.tx.users({scene.user(user) for user in self.users}))
        if not user_ids:
            return None
        chat = scene.tx.lock_chat(scene.chat(self.chat))
        if chat is not None and not chat.is_group:
            return None
        return enact(scene.tx, add_members(chat, sorted(user_ids), reads_all=self.reads_all, now=scene.now))


@frozen
class _GiveRole:
    chat: int
    member: int
    role: Role

    def run(self, scene: _Scene) -> object:
        chat = scene.tx.lock_chat(scene.chat(self.chat))
        if chat is None:
            return None
        user_id = chat.member_ids[self.member % len(chat.members)]
        return enact(scene.tx, give_role(chat, user_id, self.role, now=scene.now))


@frozen
class _UpdateGroup:
    chat: int
    title: str | Unset
    avatar_url: str | Unset | None
    history: History | Unset

    def run(self, scene: _Scene) -> object:
        chat_id = scene.chat(self.chat)
        chat = scene.tx.lock_chat(chat_id)
        actor = scene.user(0) if chat is None else chat.member_ids[0]
        decision = update_group(
            chat,
            UpdateGroup(chat_id, self.title, self.avatar_url, self.history),
            actor=actor,
            people=scene.tx.users({actor}),
            message_id=scene.draw(scene.tx.next_message_id, scene.known.messages),
            now=scene.now,
            limits=LIMITS,
        )
        return enact(scene.tx, decision)


@frozen
class _Leave:
    chat: int
    member: int

    def run(self, scene: _Scene) -> object:
        chat = scene.tx.lock_chat(scene.chat(self.chat))
        if chat is None or not chat.is_group or len(chat.members) == 1:
            return None
        user_id = chat.member_ids[self.member % len(chat.members)]
        return enact(scene.tx, remove_member(chat, user_id, now=scene.now))


@frozen
class _DeleteChat:
    chat: int
    user: int

    def run(self, scene: _Scene) -> object:
        chat = scene.tx.lock_chat(scene.chat(self.chat))
        return enact(scene.tx, delete_chat(chat, deleted_by=scene.user(self.user), now=scene.now))


@frozen
class _Send:
    chat: int
    author: int
    kind: MessageType
    content: str
    payload: Mapping[str, Any] | None
    reply_to: int | None

    def run(self, scene: _Scene) -> object:
        chat_id = scene.chat(self.chat)
        chat = scene.tx.lock_chat(chat_id)
        # Usually a member of the chat.
        author = (
            scene.user(self.author)
            if chat is None or self.author == 0
            else (chat.member_ids[self.author % len(chat.members)])
        )
        reply_to_id = None if self.reply_to is None else scene.message(self.reply_to)
        decision = send_message(
            chat,
            SendMessage(chat_id, self.kind, self.content, self.payload, reply_to_id),
            author=author,
            replied_to=None if reply_to_id is None else scene.tx.message(reply_to_id),
            message_id=scene.draw(scene.tx.next_message_id, scene.known.messages),
            now=scene.now,
            limits=LIMITS,
        )
        return enact(scene.tx, decision)


@frozen
class _Read:
    chat: int
    member: int
    message: int

    def run(self, scene: _Scene) -> object:
        chat = scene.tx.lock_chat(scene.chat(self.chat))
        if chat is None:
            return None
        mark = scene.tx.mark_at(chat.id, scene.message(self.message))
        # A member of the chat, or somebody else.
        user_id = (*chat.member_ids, scene.user(self.member))[self.member % (len(chat.members) + 1)]
        scene.tx.apply(AdvanceMark(chat, user_id, mark))
        return mark


@frozen
class _Change:
    message: int
    content: str | None
    """None deletes the message."""

    def run(self, scene: _Scene) -> object:
        message = scene.tx.message(scene.message(self.message))
        if message is None or message.author_id is None:
            return None
        chat, who = scene.tx.lock_chat(message.chat_id), message.author_id
        if self.content is None:
            return enact(scene.tx, delete_message(chat, message, deleter=who, now=scene.now))
        command = EditMessage(message.id, self.content)
        return enact(scene.tx, edit_message(chat, message, command, editor=who, now=scene.now, limits=LIMITS))


@frozen
class _Respond:
    user: int | None
    key: str
    fingerprint: bytes
    resource: Resource | None

    def run(self, scene: _Scene) -> object:
        user_id = None if self.user is None else scene.user(self.user)
        if user_id is not None and scene.tx.user(user_id) is None:
            return None
        key = IdempotencyKey(user_id, "POST", "/api/v1/messages", self.key)
        scene.known.keys.append(key)
        request = IdempotentRequest(key, self.fingerprint)
        found = replayed(scene.tx.lock_stored_response(key), request, now=scene.now, limits=LIMITS)
        if found is not None:
            return found
        return enact(scene.tx, store(request, status=201, resource=self.resource, now=scene.now))


@frozen
class _Forget:
    responses: timedelta
    sessions: timedelta

    def run(self, scene: _Scene) -> object:
        return scene.tx.forget_before(
            responses=scene.now - self.responses, sessions=scene.now - self.sessions
        )


@frozen
class _KeepLease:
    """A new lease, or the renewal of one, and a user who comes or leaves."""

    lease: int | None
    user: int
    comes: bool

    def run(self, scene: _Scene) -> object:
        known, user_id = scene.known.leases, scene.user(self.user)
        changes = Changes((user_id,), ()) if self.comes else Changes((), (user_id,))
        is_new = self.lease is None or not known
        if is_new:
            known.append(f"lease {len(known)}")
        holder = known[-1] if self.lease is None else _around(known, self.lease, "")
        keep = keep_lease(holder, changes, is_new=is_new, now=scene.now, limits=LIMITS)
        return enact(scene.tx, keep(scene.tx))


@frozen
class _DropLeases:
    before: timedelta

    def run(self, scene: _Scene) -> object:
        return scene.tx.drop_leases(scene.now - self.before)


_Step = (
    _Register
    | _OpenSession
    | _Refresh
    | _OpenDirectChat
    | _CreateGroup
    | _Join
    | _GiveRole
    | _UpdateGroup
    | _Leave
    | _DeleteChat
    | _Send
    | _Read
    | _Change
    | _Respond
    | _Forget
    | _KeepLease
    | _DropLeases
)


@frozen
class ProgramTransaction:
    """Steps that run `after` the previous transaction, and are committed or rolled back."""

    steps: list[_Step]
    rolls_back: bool
    after: timedelta


class _RolledBack(Exception):
    """Rolls a transaction back and carries its outcome."""

    def __init__(self, outcome: "_Outcome") -> None:
        super().__init__()
        self.outcome = outcome


@frozen
class _Outcome:
    known: _Known
    drawn: list[int]
    results: list[object]
    """The result of each step, or the code of its refusal."""
    own_view: list[object]


def _as_operation(
    transaction: ProgramTransaction, known: _Known, now: datetime, given: list[int] | None
) -> Callable[[Transaction], _Outcome]:
    def operation(tx: Transaction) -> _Outcome:
        # A new scene for each run, because an operation may run again after a conflict.
        scene = _Scene(tx, known.copy(), now, given=None if given is None else iter(given))
        results = [_result(step, scene) for step in transaction.steps]
        outcome = _Outcome(scene.known, scene.drawn, results, _everything(scene.known)(tx))
        if transaction.rolls_back:
            raise _RolledBack(outcome)
        return outcome

    return operation


def _result(step: _Step, scene: _Scene) -> object:
    try:
        return step.run(scene)
    except Refused as refused:
        return refused.code


async def _outcome(storage: Storage, operation: Callable[[Transaction], _Outcome]) -> _Outcome:
    try:
        return await storage.transact(operation)
    except _RolledBack as rolled_back:
        return rolled_back.outcome


def _expected(model: World, operation: Callable[[Transaction], _Outcome]) -> _Outcome:
    try:
        return model.transact(operation)
    except _RolledBack as rolled_back:
        return rolled_back.outcome


async def compare(open_storage: OpenStorage, program: list[ProgramTransaction]) -> None:
    """Run the program on the storage and on a `World`, with the same ids, and compare everything."""
    known, now, model = _Known(), NOW, World()
    async with open_storage() as storage:
        for transaction in program:
            now += transaction.after
            outcome = await _outcome(storage, _as_operation(transaction, known, now, None))
            expected = _expected(model, _as_operation(transaction, known, now, outcome.drawn))
            assert outcome.results == expected.results
            assert outcome.own_view == expected.own_view
            known = outcome.known
            look = _everything(known)
            assert await storage.read(look) == model.read(look)


def _everything(known: _Known) -> Callable[[Reader], list[object]]:
    """A query for everything that can be read, in a deterministic order."""

    def look(reader: Reader) -> list[object]:
        return [
            dict(reader.users(known.users)),
            [reader.user(user_id) for user_id in known.users],
            [reader.password_hash(user_id) for user_id in known.users],
            [reader.user_by_email(f"{name}@test.com") for name in known.names],
            [reader.user_by_tag(name) for name in known.names],
            [reader.session(session_id) for session_id in known.sessions],
            [reader.chat(chat_id) for chat_id in known.chats],
            [reader.tombstone(chat_id) for chat_id in known.chats],
            [list(reader.ended_members(chat_id, since)) for chat_id in known.chats for since in (1, 4)],
            [reader.direct_chat(one, other) for one, other in combinations_with_replacement(known.users, 2)],
            [[head(chat) for chat in reader.chats_of(user_id, None, 100)] for user_id in known.users],
            [
                reader.excerpts(dict.fromkeys(known.chats, size), user_id)
                for user_id in known.users
                for size in (1, 2, 4)
            ],
            [reader.shares_chat(one, other) for one, other in permutations(sorted({*known.users}), 2)],
            [dict(reader.positions([user_id])) for user_id in known.users],
            dict(reader.positions(known.users)),
            [reader.message(message_id) for message_id in known.messages],
            dict(reader.last_messages(_last_messages(reader, known))),
            [dict(reader.marks(chat_id)) for chat_id in known.chats],
            [dict(reader.own_marks(user_id, known.chats)) for user_id in known.users],
            [dict(reader.furthest_marks(user_id, known.chats)) for user_id in known.users],
            [reader.mark_at(chat_id, id_) for chat_id in known.chats for id_ in known.messages],
            [list(reader.log(chat_id, after, 3)) for chat_id in known.chats for after in (0, 2)],
            [list(reader.messages_before(chat_id, None, 100)) for chat_id in known.chats],
            [
                (
                    list(reader.messages_before(chat_id, message_id, 2)),
                    list(reader.messages_after(chat_id, message_id, 2)),
                )
                for chat_id in known.chats
                for message_id in known.messages
            ],
            [
                (missed_events(chat_id, 1, reading, count=3)(reader), chat_views((chat_id,), reading)(reader))
                for reading in _contexts(known)
                for chat_id in known.chats[-2:]
            ],
            [reader.stored_response(key) for key in known.keys],
            [reader.sighting(user_id) for user_id in known.users],
            sorted(reader.sightings(known.users).items()),
        ]

    return look


def _contexts(known: _Known) -> list[Context]:
    """That of a person who reads what they missed, once somebody is known."""
    return [Context(Actor(user_id, SessionId(1)), NOW, LIMITS, Privacy()) for user_id in known.users[:1]]


def _last_messages(reader: Reader, known: _Known) -> dict[ChatId, MessageId]:
    chats = (reader.chat(chat_id) for chat_id in known.chats)
    return {chat.id: chat.last_message_id for chat in chats if chat and chat.last_message_id}


_numbers = st.integers(0, 7)
_sends = st.builds(
    _Send,
    _numbers,
    _numbers,
    st.sampled_from([MessageType.TEXT, MessageType.IMAGE]),
    values.contents,
    st.none() | values.payloads,
    st.none() | st.none() | _numbers,
)
_steps = st.one_of(
    _sends,
    _sends,
    st.builds(_Change, _numbers, st.none() | values.contents),
    st.builds(_Register, st.sampled_from(["alice", "bob", "carol", "dave", "erin"])),
    st.builds(_OpenDirectChat, _numbers, _numbers),
    st.builds(_CreateGroup, values.texts(max_size=20), _numbers, st.lists(_numbers, max_size=4).map(tuple)),
    st.builds(_Join, _numbers, st.lists(_numbers, min_size=1, max_size=3).map(tuple), st.booleans()),
    st.builds(_Join, _numbers, st.tuples(_numbers), st.booleans()),
    st.builds(_GiveRole, _numbers, _numbers, st.sampled_from(Role)),
    st.builds(
        _UpdateGroup,
        _numbers,
        st.just(UNSET) | values.texts(max_size=20),
        st.just(UNSET) | values.avatar_urls,
        st.just(UNSET) | st.sampled_from(History),
    ),
    st.builds(_Read, _numbers, _numbers, _numbers),
    st.builds(_Leave, _numbers, _numbers),
    st.builds(_DeleteChat, _numbers, _numbers),
    st.builds(_OpenSession, _numbers, values.nonces),
    st.builds(_Refresh, _numbers, st.integers(-1, 3)),
    st.builds(
        _Respond,
        st.none() | _numbers,
        st.sampled_from(["k", "K", "l"]),
        st.sampled_from([b"f" * 16, b"g" * 16]),
        st.none() | values.resources,
    ),
    st.builds(_KeepLease, st.none() | _numbers, _numbers, st.booleans()),
    st.builds(_DropLeases, st.sampled_from([timedelta(0), timedelta(minutes=1)])),
    st.builds(
        _Forget,
        st.sampled_from([timedelta(0), timedelta(hours=1)]),
        st.sampled_from([timedelta(0), timedelta(days=1)]),
    ),
)
_opening = ProgramTransaction(
    [_Register("alice"), _Register("bob"), _OpenDirectChat(0, 1), _CreateGroup("A group", 1, (0,))],
    rolls_back=False,
    after=timedelta(0),
)
"""Most steps need users and a chat."""
programs = st.lists(
    st.builds(
        ProgramTransaction,
        st.lists(_steps, min_size=1, max_size=8),
        # One in four rolls back.
        st.integers(0, 3).map(lambda number: number == 3),
        st.sampled_from([timedelta(0), timedelta(seconds=20), timedelta(hours=30), timedelta(days=20)]),
    ),
    min_size=2,
    max_size=10,
).map(lambda transactions: [_opening, *transactions])

"""Simulates several processes in one: each has its own sockets and bus, and all share one storage."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeVar

import trio
from attrs import define, evolve, field

from adapters.runtime import Hub, Messaging, Subscription
from adapters.storage_memory import MemoryStorage
from messaging_core import operations
from messaging_core.commands import (
    CreateGroup,
    DeleteMessage,
    EditMessage,
    LogOut,
    OpenDirectChat,
    RegisterUser,
    SendMessage,
    UpdateGroup,
)
from messaging_core.effects import Decision, Deliver, DeliverEphemeral
from messaging_core.events import Typing
from messaging_core.fanout import announce_ephemeral
from messaging_core.frames import PlainFrame
from messaging_core.groups import update_group
from messaging_core.ids import ChatId, MessageId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.members import add_members, delete_chat, give_role, remove_member
from messaging_core.models import (
    AccessClaims,
    Actor,
    Chat,
    EmailForms,
    Message,
    MessageType,
    RefreshClaims,
    Role,
)
from messaging_core.operations import Context
from messaging_core.ports import Bus, Reader, Storage, Transaction
from messaging_core.privacy import Privacy
from messaging_core.profiles import PLAIN, Profile
from messaging_core.sockets import payloads
from messaging_core.testing.memory_bus import MemoryBroker

T = TypeVar("T")

NOW = datetime(2024, 11, 4, 14, 30, tzinfo=UTC)
LIMITS = Limits(sockets_per_user=1000)
NONCE = bytes(16)
"""Of every session, so that a session's identifier is all that a token needs to name it."""


class SlowStorage(MemoryStorage):
    """A storage in which time passes before and after each read."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random

    async def read(self, query: Callable[[Reader], T]) -> T:
        await trio.sleep(self._random.choice([0, 0.001, 0.01, 0.1]))
        found = await super().read(query)
        await trio.sleep(self._random.choice([0, 0.001, 0.01, 0.1]))
        return found


class PlainSigner:
    """Unsigned tokens: these tests depend on sessions and generations only."""

    def sign_access(self, claims: AccessClaims) -> str:
        return f"{claims.user_id}.{claims.session_id}.{claims.generation}"

    def sign_refresh(self, claims: RefreshClaims) -> str:
        return f"{claims.user_id}.{claims.session_id}.{claims.generation}"

    def read_access(self, token: str) -> AccessClaims:
        user_id, session_id, generation = map(int, token.split("."))
        return AccessClaims(
            UserId(user_id), SessionId(session_id), generation, NOW, NOW + LIMITS.access_ttl, NONCE
        )

    def read_refresh(self, token: str) -> RefreshClaims:
        raise NotImplementedError


def plain_email(email: str) -> EmailForms:
    return EmailForms(email, email)


class PlainHasher:
    async def hash(self, password: str, *, network: str) -> str:
        await trio.lowlevel.checkpoint()
        return password

    async def matches(self, password_hash: str | None, password: str, *, network: str) -> bool:
        await trio.lowlevel.checkpoint()
        return password_hash == password


@define(eq=False)
class RecordingSocket:
    """An open socket that records what it receives; it accepts everything at once."""

    actor: Actor
    events: list[tuple[str, int, int, str]] = field(factory=list)
    """(event, chat, message, content), in order."""
    closed: str | None = None
    _nursery: trio.Nursery | None = None
    changed: trio.Event = field(factory=trio.Event)

    def offer(self, frames: bytes) -> int:
        for payload in payloads(frames):
            event, chat, message, content = payload.decode().split(" ", 3)
            self.events.append((event, int(chat), int(message), content))
        self._change()
        return len(frames)

    async def write(self, frames: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.offer(frames)

    async def close(self, code: int, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        self.closed = f"{code} {reason}"
        self._change()

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(task)

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    def messages(self, chat_id: int | None = None) -> list[int]:
        return [message for _, chat, message, _ in self.events if chat_id in (None, chat)]

    async def wait_until(self, holds: Callable[["RecordingSocket"], object], within: float = 20.0) -> None:
        """Wait until an event makes the condition true."""
        try:
            with trio.fail_after(within):
                while not holds(self):
                    await self.changed.wait()
        except trio.TooSlowError as error:
            error.add_note(f"received {self.events}")
            raise


class RecordingHub(Hub):
    """A hub that records what it delivers, events that profile 1 does not show included."""

    def __init__(self, limits: Limits, encode: Callable[[Any], bytes]) -> None:
        super().__init__(limits, encode)
        self.delivered: dict[UserId, list[tuple[ChatId, int]]] = {}

    def deliver(self, delivery: Deliver | DeliverEphemeral) -> None:
        if isinstance(delivery, Deliver):
            for user_id in delivery.audience:
                number = (delivery.entry.chat_id, delivery.entry.sequence)
                self.delivered.setdefault(user_id, []).append(number)
        super().deliver(delivery)


def written(frame: PlainFrame | Typing) -> bytes:
    match frame:
        case PlainFrame(event, data):
            return f"{event} {data.chat_id} {data.id} {data.content}".encode()
        case Typing(chat_id, user_id, is_typing):
            return f"typing {chat_id} {user_id} {is_typing}".encode()


TYPISTS = Profile(lambda event, _: event if isinstance(event, Typing) else None)
"""A profile that shows who types, and nothing else."""


@define(eq=False)
class Process:
    """One process, composed as `messaging serve` composes it, without HTTP."""

    messaging: Messaging
    nursery: trio.Nursery
    bus: Any

    async def connect(self, actor: Actor, profile: Profile = PLAIN) -> RecordingSocket:
        """Open a socket as the endpoint does; it receives all events committed after this returns."""
        local = await self.messaging.connect(token(actor), profile)
        socket = RecordingSocket(actor, nursery=self.nursery)
        local.attach(socket)
        self._locals[socket] = local
        return socket

    def disconnect(self, socket: RecordingSocket) -> None:
        self.messaging.hub.disconnect(self._locals.pop(socket))

    @asynccontextmanager
    async def socket(self, actor: Actor, profile: Profile = PLAIN) -> AsyncIterator[RecordingSocket]:
        socket = await self.connect(actor, profile)
        try:
            yield socket
        finally:
            self.disconnect(socket)

    _locals: dict[RecordingSocket, Subscription] = field(factory=dict)

    def context(self, actor: Actor) -> Context:
        return Context(actor, NOW, LIMITS, Privacy())

    async def send(self, actor: Actor, chat_id: ChatId, content: str = "Hello") -> Message:
        command = SendMessage(chat_id, MessageType.TEXT, content)
        return await self.messaging.execute(operations.send_message(command, self.context(actor)))

    async def type(self, actor: Actor, chat_id: ChatId) -> None:
        """Somebody types in a chat: a decision that stores nothing."""

        def decide(tx: Transaction) -> Decision[None]:
            chat = tx.chat(chat_id)
            assert chat is not None
            event = Typing(chat_id, actor.user_id, is_typing=True)
            return Decision(None, (announce_ephemeral(chat, event),))

        await self.messaging.execute(decide)

    async def edit(self, actor: Actor, message_id: MessageId, content: str) -> None:
        command = EditMessage(message_id, content)
        await self.messaging.execute(operations.edit_message(command, self.context(actor)))

    async def delete(self, actor: Actor, message_id: MessageId) -> None:
        await self.messaging.execute(
            operations.delete_message(DeleteMessage(message_id), self.context(actor))
        )

    async def open_chat(self, actor: Actor, other: Actor) -> ChatId:
        command = OpenDirectChat(other.user_id)
        return (await self.messaging.execute(operations.open_direct_chat(command, self.context(actor)))).id

    async def open_group(self, actor: Actor, *others: Actor) -> ChatId:
        command = CreateGroup("A group", tuple(other.user_id for other in others))
        return (await self.messaging.execute(operations.create_group(command, self.context(actor)))).id

    async def add(self, chat_id: ChatId, *people: Actor, reads_all: bool = False) -> None:
        """Add members together; nobody's rights are checked, as in the functions below."""
        user_ids = [person.user_id for person in people]

        def operation(tx: Transaction) -> Decision[Chat]:
            return add_members(tx.lock_chat(chat_id), user_ids, reads_all=reads_all, now=NOW)

        await self.messaging.execute(operation)

    async def give_role(self, chat_id: ChatId, person: Actor, role: Role) -> bool:
        """Give a member a role; whether they had another one."""

        def operation(tx: Transaction) -> Decision[bool]:
            chat = tx.lock_chat(chat_id)
            decision = give_role(chat, person.user_id, role, now=NOW)
            return Decision(decision.result is not chat, decision.effects)

        return await self.messaging.execute(operation)

    async def rename(self, chat_id: ChatId, actor: Actor, title: str) -> MessageId:
        """Change a chat's title; the system message that says so."""

        def operation(tx: Transaction) -> Decision[MessageId]:
            chat = tx.lock_chat(chat_id)
            assert chat is not None
            decision = update_group(
                evolve(chat, members=tuple([evolve(each, role=Role.OWNER) for each in chat.members])),
                UpdateGroup(chat_id, title),
                actor=actor.user_id,
                people=tx.users({actor.user_id}),
                message_id=tx.next_message_id(),
                now=NOW,
                limits=LIMITS,
            )
            assert decision.result.last_message_id is not None
            return Decision(decision.result.last_message_id, decision.effects)

        return await self.messaging.execute(operation)

    async def remove(self, chat_id: ChatId, person: Actor) -> None:
        await self.messaging.execute(lambda tx: remove_member(tx.lock_chat(chat_id), person.user_id, now=NOW))

    async def delete_chat(self, chat_id: ChatId) -> None:
        await self.messaging.execute(lambda tx: delete_chat(tx.lock_chat(chat_id), deleted_by=None, now=NOW))

    def delivered_to(self, actor: Actor) -> list[tuple[ChatId, int]]:
        """The chat and number of each event that this process delivered to a user, shown or not, in order."""
        hub = self.messaging.hub
        assert isinstance(hub, RecordingHub)
        return hub.delivered.setdefault(actor.user_id, [])

    async def log_out(self, actor: Actor) -> None:
        await self.messaging.execute(operations.log_out(LogOut(), self.context(actor)))

    async def register(self, name: str) -> Actor:
        command = RegisterUser(f"{name}@test.com", "password123", name)
        outcome = await self.messaging.register(
            command, device="", network="", key=None, path="", privacy=Privacy()
        )
        return await self.messaging.authenticate(outcome.result.tokens.access_token)

    async def wait_for_bus(self) -> None:
        """Wait until the process receives its own heartbeats."""
        relay = self.messaging.relay
        assert relay is not None
        with trio.fail_after(20):
            while relay.trouble is not None:  # noqa: ASYNC110 - there is no event to wait for
                await trio.sleep(0.01)


def token(actor: Actor, generation: int = 1) -> str:
    return f"{actor.user_id}.{actor.session_id}.{generation}"


def plain_messaging(
    storage: Storage, hub: Hub, bus: Bus | None = None, *, limits: Limits = LIMITS
) -> Messaging:
    """A process's `Messaging` without cryptography, whose clock stands still."""
    return Messaging(
        storage=storage,
        hub=hub,
        signer=PlainSigner(),
        hasher=PlainHasher(),
        parse_email=plain_email,
        limits=limits,
        now=lambda: NOW,
        random_bytes=bytes,
        bus=bus,
    )


def start(nursery: trio.Nursery, storage: Storage, bus: Bus | None) -> Process:
    """Start a process, whose tasks run in this nursery."""
    messaging = plain_messaging(storage, RecordingHub(LIMITS, written), bus)
    nursery.start_soon(messaging.keep_house)
    return Process(messaging, nursery, bus)


@asynccontextmanager
async def processes(make_bus: Callable[[], Bus], count: int = 2) -> AsyncIterator[list[Process]]:
    """Processes over one storage, each of which receives its own heartbeats."""
    storage = MemoryStorage()
    async with trio.open_nursery() as nursery:
        started = [start(nursery, storage, make_bus()) for _ in range(count)]
        for process in started:
            await process.wait_for_bus()
        await trio.sleep(1)  # for the comparison with which each process starts
        yield started
        nursery.cancel_scope.cancel()


LATE = 2.0
"""Seconds within which a process finds an event without a signal: a silence, then a comparison."""


@asynccontextmanager
async def two(broker: MemoryBroker) -> AsyncIterator[tuple[Process, Process, Actor, Actor, ChatId]]:
    """Two processes, Alice and Bob, and their chat."""
    async with processes(broker.bus) as (here, there):
        alice, bob = await here.register("alice"), await here.register("bob")
        yield here, there, alice, bob, await here.open_chat(alice, bob)


def trouble(process: Process) -> str | None:
    relay = process.messaging.relay
    assert relay is not None
    return relay.trouble

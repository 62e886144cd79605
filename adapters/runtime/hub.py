"""The open sockets of this process, and the frames that wait for each."""

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from math import inf
from typing import Any, NamedTuple, Protocol, assert_never

import structlog
import trio

from adapters.runtime.alarms import Alarms
from messaging_core.effects import Deliver, DeliverEphemeral
from messaging_core.events import Event, LogEntry, MessageCreated, event_name
from messaging_core.ids import ChatId, SessionId, UserId
from messaging_core.limits import Limits
from messaging_core.models import Actor
from messaging_core.profiles import PLAIN, Carry, Close, Profile, Reply, Resume, SocketEffect, WatchPeople
from messaging_core.sockets import (
    DEFERRED,
    OUR_FAULT,
    RESTARTING,
    Bundle,
    Deferred,
    SocketProtocol,
    bundles,
    counted_bundles,
)

log = structlog.get_logger(__name__)


POLICY_VIOLATION = 1008
RETURNS_PER_SECOND = 200
"""How many clients of a restarting server are asked to come back in each second."""
TOO_MANY_SOCKETS = Close(4429, "too_many_sockets")
TOO_MANY_MESSAGES = Close(4429, "too_many_messages")


class TooManySockets(Exception):
    """The user has `sockets_per_user` open sockets in this process."""


class SocketOver(Exception):
    """The socket has ended, or is closing, while something was done for it."""


class Transport(Protocol):
    """One connection: accepts frames at once while there is room, and otherwise through a writer task."""

    def offer(self, frames: bytes) -> int:
        """Write whole frames without waiting; the count of bytes written, the rest of which `write` sends
        first.
        """

    async def write(self, frames: bytes) -> None:
        """Write the rest of an offer, then `frames`."""

    async def close(self, code: int, reason: str) -> None:
        """Close the socket after the frames that were written."""

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task that does not outlive the connection; does nothing once the connection is over."""


NAMED_IN_LOG = 10
"""Largest audience whose users INFO lines name; a line takes some 30 us of the loop."""


class Caller(NamedTuple):
    """Where a socket's handshake came from, as far as its commands depend on it."""

    host: str | None
    """The Host header."""
    address: str
    """The peer's address; empty if unknown."""


NOBODY = Caller(None, "")


class Subscription:
    """One open socket: whose it is, its protocol, and its connection.

    Frames are written at once or, while the connection is full, by a writer task. The writer runs only while
    frames wait: an idle socket has no task.
    """

    __slots__ = (
        "_catches_up",
        "_hub",
        "_room",
        "_transport",
        "_turn_over",
        "actor",
        "caller",
        "protocol",
    )

    def __init__(self, actor: Actor, protocol: SocketProtocol, hub: "Hub", caller: Caller = NOBODY) -> None:
        self.actor = actor
        self.caller = caller
        self.protocol = protocol
        self._hub = hub
        self._transport: Transport | None = None
        """From `attach` on; the protocol asks for no write before."""
        self._catches_up = False
        """Whether a task sends what was missed."""
        self._room: trio.Event | None = None
        """Set when nothing waits any more, and at the end."""
        self._turn_over: trio.Event | None = None
        """Set when the command that is carried out has ended, and at the end."""

    def attach(self, transport: Transport) -> None:
        """Start writing frames, those that wait already first."""
        self._transport = transport
        if self.protocol.open(trio.current_time()):
            transport.start_soon(self._write)
        self._hub.schedule(self)
        self.catch_up()

    def send(self, bundle: Bundle, now: float) -> None:
        """Write or queue a bundle of live events; a full outbox closes the socket as a slow consumer."""
        offered = self.protocol.deliver(bundle, now)
        if offered:
            accepted = self._transport.offer(offered)  # type: ignore[union-attr] # the protocol is open
            if accepted == len(offered):
                return
            offered = self._stall(bundle, accepted)
        if offered is None:
            self._log_slow()

    def put(self, bundle: Bundle) -> None:
        """Write or queue frames that are not live events, as `send`."""
        offered = self.protocol.put(bundle, trio.current_time())
        if offered and self._transport is not None:
            accepted = self._transport.offer(offered)
            if accepted == len(offered):
                return
            offered = self._stall(bundle, accepted)
        if offered is None:
            self._log_slow()

    def _stall(self, bundle: Bundle, accepted: int) -> bytes | None:
        offered = self.protocol.stall(bundle, accepted)
        self._start_soon(self._write)
        return offered

    def _start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        if self._transport is not None:
            self._transport.start_soon(task)

    def _log_slow(self) -> None:
        log.warning("WebSocket closed: too slow", user_id=self.actor.user_id, waiting=self.protocol.waiting)

    def receive(self, message: str | bytes) -> None:
        """Do what a message of the client asks for; never waits, and never fails.

        Where it cannot be done, the socket is closed with 1011, and with 4429 if the client sends too many.
        """
        try:
            admits = self._hub.admits if self.protocol.profile.counts else None
            if admits is not None and not admits(self.actor.user_id, len(message)):
                self.close(TOO_MANY_MESSAGES)
                return
            for effect in self.protocol.receive(message):
                self._do(effect)
        except Exception:
            log.exception("A WebSocket message could not be handled", user_id=self.actor.user_id)
            self.close(OUR_FAULT)

    def _do(self, effect: SocketEffect) -> None:
        match effect:
            case Reply(payload):
                self.put(Bundle.of(payload))
            case Carry(command):
                if self._hub.carry_out is not None:
                    self._hub.carry_out(self, command)
            case Resume():
                if self._hub.resume is not None:
                    self._catch_up_with(partial(self._hub.resume, self, effect))
            case WatchPeople():
                if self._hub.watch is not None:
                    self._hub.watch(self)
            case Close():
                self.close(effect)
            case _:
                assert_never(effect)

    @property
    def deadline(self) -> float:
        """See `Timed`."""
        return self.protocol.deadline

    def tick(self, now: float) -> None:
        """Send what is due because of the time, or close the socket."""
        due = self.protocol.tick(now)
        if isinstance(due, Close):
            self.close(due)
        elif due is not None:
            self.put(due)

    def close(self, close: Close) -> None:
        """Close the socket after the frames that wait; the first of several closes counts."""
        if self.protocol.close(close):
            self._start_soon(self._write)
        self._wake()

    # --- what was missed, and commands in turn ---

    def catch_up(self) -> None:
        """Have the logs of chats that the socket is behind in read, unless that happens already."""
        if self.protocol.is_behind and not self._catches_up and self._hub.catch_up is not None:
            self._catch_up_with(partial(self._hub.catch_up, self))

    def _catch_up_with(self, task: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            try:
                await task()
            except SocketOver:
                pass
            except Exception:
                log.exception("A WebSocket could not be sent what it missed", user_id=self.actor.user_id)
                self.close(OUR_FAULT)
            self._catches_up = False
            self.catch_up()

        if self._transport is not None:
            self._catches_up = True
            self._transport.start_soon(run)

    async def drained(self) -> bool:
        """Wait until no frame waits in the outbox; false if the socket is closing."""
        while self.protocol.closing is None and self.protocol.waiting:
            self._room = self._room or trio.Event()
            await self._room.wait()
        return self.protocol.closing is None

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run a command's task, which does not outlive the connection."""
        self._start_soon(task)

    def carried(self) -> None:
        """The command in turn has ended: carry out the next one."""
        following = self.protocol.carried()
        if self._turn_over is not None:
            self._turn_over.set()
            self._turn_over = None
        if following is not None:
            self._do(following)

    async def turn_over(self) -> None:
        """Wait until the command that is carried out has ended, so that its reply leaves before its event."""
        if self.protocol.is_carrying and self.protocol.closing is None:
            self._turn_over = self._turn_over or trio.Event()
            await self._turn_over.wait()

    def _wake(self) -> None:
        for event in (self._room, self._turn_over):
            if event is not None:
                event.set()
        self._room = self._turn_over = None

    # --- the end ---

    def end(self) -> None:
        """Note that the connection is over; repeating it changes nothing."""
        self._hub.disconnect(self)
        self._wake()

    async def _write(self) -> None:
        """Write until nothing waits; a close frame is the last."""
        transport = self._transport
        if transport is None:
            return
        await transport.write(b"")  # the rest of an offer
        while (output := self.protocol.next_write()) is not None:
            if isinstance(output, Close):
                await transport.close(output.code, output.reason)
                return
            await transport.write(output)
            if self._room is not None and not self.protocol.waiting:
                self._room.set()
                self._room = None


class Hub:
    """The sockets of this process by user; `encode` gives the JSON of a profile's frame.

    Deliveries of one turn of the loop, such as those of one commit, are sent together: one write a socket and
    chat. An event is encoded once for each profile in which somebody of its audience listens here.
    """

    def __init__(self, limits: Limits, encode: Callable[[Any], bytes]) -> None:
        self._limits = limits
        self.encode = encode
        self._subscriptions: dict[Profile, dict[UserId, tuple[Subscription, ...]]] = {}
        """By profile, so that an audience's sockets of a profile are found without asking each for it."""
        self._waiting: dict[ChatId, list[Deliver | DeliverEphemeral]] = {}
        """The deliveries to send at the end of this turn by chat, all of one kind and for one audience."""
        self._alarms = Alarms()
        self._flushing: trio.lowlevel.ParkingLot | None = None
        """Where the flushing task waits; None until the first delivery."""
        self.draining = False
        self.gone: Callable[[UserId], None] | None = None
        """Called when a user's last socket is disconnected."""
        self.carry_out: Callable[[Subscription, object], None] | None = None
        """Carries out the command of a client; it must not wait. None where no profile has commands."""
        self.admits: Callable[[UserId, int], bool] | None = None
        """Whether a user may send a message of so many bytes now. None where everybody may.

        Not asked where the profile does not count: such a client's messages are ignored.
        """
        self.catch_up: Callable[[Subscription], Awaitable[None]] | None = None
        """Sends a socket the events that it left out. None where no profile counts, as for `resume`."""
        self.resume: Callable[[Subscription, Resume], Awaitable[None]] | None = None
        """Sends a socket what its client missed before it connected."""
        self.watch: Callable[[Subscription], None] | None = None
        """Sends a socket the presence of the people on its `watch_list`; it must not wait."""

    def connect(
        self,
        actor: Actor,
        profile: Profile = PLAIN,
        *,
        caller: Caller = NOBODY,
        resumes: bool = False,
        greeting: object = None,
    ) -> Subscription:
        """A socket that receives every delivery from now until `disconnect`, after its greeting.

        One that resumes receives none until its client has sent its positions. Raises `TooManySockets`.
        """
        self.flush()
        if len(self._of_user(actor.user_id)) >= self._limits.sockets_per_user:
            raise TooManySockets
        protocol = SocketProtocol(profile, self._limits, resumes=resumes)
        subscription = Subscription(actor, protocol, self, caller)
        own = self._subscriptions.setdefault(profile, {})
        own[actor.user_id] = (*own.get(actor.user_id, ()), subscription)
        if greeting is not None:
            subscription.put(Bundle.of(self.encode(greeting)))
        if self.draining:
            subscription.close(_restarting(profile, 0))
        return subscription

    def disconnect(self, subscription: Subscription) -> None:
        """Remove a socket; repeating it changes nothing."""
        subscription.protocol.end()
        user_id = subscription.actor.user_id
        same_profile = self._subscriptions[subscription.protocol.profile]
        own = same_profile.get(user_id, ())
        rest = tuple([each for each in own if each is not subscription])
        if rest:
            same_profile[user_id] = rest
        elif own:
            del same_profile[user_id]
            if self.gone is not None and not self._of_user(user_id):
                self.gone(user_id)

    def _of_user(self, user_id: UserId) -> list[Subscription]:
        return [
            subscription
            for subscriptions in self._subscriptions.values()
            for subscription in subscriptions.get(user_id, ())
        ]

    def deliver(self, delivery: Deliver | DeliverEphemeral) -> None:
        """Send an event to every socket of its audience, at the end of this turn of the loop."""
        if self._flushing is None:
            self._flushing = trio.lowlevel.ParkingLot()
            trio.lowlevel.spawn_system_task(self._flush_each_turn)
        if self._flushing:  # the task waits there: this is the first delivery of a turn
            self._flushing.unpark()
        chat_id = delivery.entry.chat_id if isinstance(delivery, Deliver) else delivery.event.chat_id
        waiting = self._waiting.get(chat_id)
        if waiting is None:
            self._waiting[chat_id] = [delivery]
        elif type(waiting[0]) is type(delivery) and waiting[0].audience == delivery.audience:
            waiting.append(delivery)
        else:
            self._waiting[chat_id] = [delivery]
            self._send(waiting)
        if isinstance(delivery, Deliver):
            self._log(delivery)

    def _log(self, delivery: Deliver) -> None:
        """Log what the checklist asks for: whom profile 1 shows the event to."""
        logger = log.bind()  # once for up to a thousand lines
        if not logger.is_enabled_for(logging.INFO):
            return
        frame = PLAIN.show(delivery.event, delivery.entry)
        if frame is None:
            return
        listening = self._subscriptions.get(PLAIN, {})
        if isinstance(delivery.event, MessageCreated):
            logger.info("Message created: %d in chat %d", frame.data.id, frame.data.chat_id)
        logger.info("Broadcasting to %d participants", len(delivery.audience))
        if len(delivery.audience) <= NAMED_IN_LOG:
            level = logging.INFO
        else:
            level = logging.DEBUG
            connected = sum(user_id in listening for user_id in delivery.audience)
            logger.info("Sending WebSocket event to %d users: %s", connected, frame.event)
        if not logger.is_enabled_for(level):
            return
        for user_id in delivery.audience:
            if user_id in listening:
                logger.log(level, "Sending WebSocket event to user %d: %s", user_id, frame.event)

    def flush(self) -> None:
        """Send everything now."""
        waiting, self._waiting = self._waiting, {}
        for deliveries in waiting.values():
            self._send(deliveries)

    async def _flush_each_turn(self) -> None:
        while True:
            self.flush()
            if self._flushing is not None:
                await self._flushing.park()

    def _send(self, deliveries: Sequence[Deliver | DeliverEphemeral]) -> None:
        """Send deliveries of one kind, chat and audience."""
        audience = deliveries[0].audience
        for profile, subscriptions in self._subscriptions.items():
            listening = [
                subscription for user_id in audience for subscription in subscriptions.get(user_id, ())
            ]
            if not listening:
                continue
            now = 0.0 if profile.silence == inf else trio.current_time()
            for bundle in self._bundles(profile, deliveries):
                for subscription in listening:
                    try:
                        subscription.send(bundle, now)
                    except Exception:
                        # A fault of one transport must not lose the events of others.
                        log.exception(
                            "A WebSocket could not be written to", user_id=subscription.actor.user_id
                        )
            if profile.counts:
                for subscription in listening:
                    subscription.catch_up()

    def _bundles(self, profile: Profile, deliveries: Sequence[Deliver | DeliverEphemeral]) -> list[Bundle]:
        if profile.counts and isinstance(deliveries[0], Deliver):
            return self._counted_bundles(profile, deliveries[0].entry.chat_id, deliveries)
        is_ephemeral = True
        shown: list[tuple[int, bytes | None]] = []
        for delivery in deliveries:
            entry = None
            number = 0
            if isinstance(delivery, Deliver):
                is_ephemeral = False
                entry = delivery.entry
                number = entry.sequence
            shown.append((number, self._payload(profile, delivery.event, entry)))
        return bundles(shown, is_ephemeral=is_ephemeral)

    def _counted_bundles(
        self, profile: Profile, chat_id: ChatId, deliveries: Sequence[Deliver | DeliverEphemeral]
    ) -> list[Bundle]:
        shown: list[tuple[int, bytes | Deferred | None]] = []
        for delivery in deliveries:
            if isinstance(delivery, Deliver):
                event, entry = delivery.event, delivery.entry
                deferred = profile.defers(event)
                payload = DEFERRED if deferred else self._payload(profile, event, entry)
                shown.append((entry.sequence, payload))
        return counted_bundles(shown, chat_id)

    def _payload(self, profile: Profile, event: Event, entry: LogEntry | None) -> bytes | None:
        try:
            frame = profile.show(event, entry)
            return None if frame is None else self.encode(frame)
        except Exception:
            log.exception("An event could not be encoded", event_name=event_name(event))
            return None

    def schedule(self, subscription: Subscription) -> None:
        """Have a socket's `tick` called at its deadlines."""
        self._alarms.set(subscription)

    def close_session(self, session_id: SessionId, reason: str) -> None:
        """Close a session's sockets with code 1008, after the events delivered so far."""
        self.flush()
        for subscription in self._all():
            if subscription.actor.session_id == session_id:
                subscription.close(Close(POLICY_VIOLATION, reason))

    def drain(self) -> None:
        """Close every socket, and every later one, with 1012: the server is about to restart."""
        self.flush()
        self.draining = True
        for number, subscription in enumerate(self._all()):
            subscription.close(_restarting(subscription.protocol.profile, number))

    def sessions(self) -> Collection[SessionId]:
        """The sessions that have a socket here."""
        return {subscription.actor.session_id for subscription in self._all()}

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> list[Subscription]:
        return [
            subscription
            for subscriptions in self._subscriptions.values()
            for own in subscriptions.values()
            for subscription in own
        ]


def _restarting(profile: Profile, number: int) -> Close:
    """The close of the socket with this number among all; a profile that counts is given a time to return."""
    if not profile.counts:
        return RESTARTING
    seconds = 1 + number // RETURNS_PER_SECOND
    return Close(RESTARTING.code, f"{RESTARTING.reason}; retry_after={seconds}")

"""Signals as NATS messages: a subject for each user, and one for all processes.

A process subscribes to the users who have a socket in it, so its load grows with its own sockets and not with
everybody's. Heartbeats, ended sessions, and events for a large audience go to all. Only the envelopes to all
are numbered: a loss on a user's subject is noticed by the chat's next event, by the connection's end, or in
the half-minutely comparison.

nats-py needs asyncio, which runs in a thread of its own. When a connection ends, the bus opens a new one, and
completes its subscriptions before it reports the connection.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from math import inf
from random import uniform
from typing import assert_never
from urllib.parse import urlsplit

import structlog
import trio
from attrs import frozen
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error, SlowConsumerError

from adapters.bus_nats.asyncio_thread import AsyncioThread, asyncio_thread
from adapters.signals import MalformedEnvelope, Outgoing, read_envelope
from messaging_core.effects import CloseSockets, Deliver, DeliverEphemeral, DeliveryEffect
from messaging_core.ids import UserId
from messaging_core.liveness import BEAT_SECONDS
from messaging_core.signals import Envelope

log = structlog.get_logger(__name__)

PREFIX = "messaging"
"""The first part of every subject, where the address has no prefix."""
AUDIENCE_AT_MOST = 32
"""The most users whose own subjects a signal is sent to; a larger audience is reached by the subject for
all."""
ENVELOPE_BYTES = 65_536
"""More than any event that `Limits` allows by default; NATS itself accepts a mebibyte by default."""
RECEIVED_AT_MOST = 20_000
"""Received messages queued for the event loop; further ones are dropped, and reported as missed."""
CONNECT_SECONDS = 2
BACKOFF_SECONDS = (0.1, 2.0)
"""The first and the longest back-off before reconnecting; it doubles each time, and varies by a half."""
FOLLOW_SECONDS = 0.5
"""How long a new socket waits for its user's subscription; after a later subscription the process compares
positions."""
FAREWELL_SECONDS = 1.0
"""The time limit for sending the last signals when the process ends."""

FAULTS = (Error, OSError, TimeoutError, CancelledError)
"""The exceptions of nats-py when it cannot connect, or has lost its connection."""


ALL = "all"
"""The subject to which every process subscribes."""


def _subject(user_id: UserId) -> str:
    return f"user.{user_id}"


class NatsConnectionLost(Exception):
    """The server, or the library, ended the connection."""


@frozen
class NatsAddress:
    """The servers of NATS, as nats-py accepts them, and the subjects' prefix: `nats://host:4222/prefix`.

    Deployments that share a NATS must not share a prefix: their users have the same ids.
    """

    servers: list[str]
    prefix: str = PREFIX

    @classmethod
    def parse(cls, text: str) -> "NatsAddress":
        """Parse addresses separated by commas, one of which may name a prefix; raises `ValueError`."""
        parts = [urlsplit(each.strip()) for each in text.split(",")]
        prefixes = {part.path.strip("/") for part in parts} - {""}
        if not all(part.hostname for part in parts) or len(prefixes) > 1:
            raise ValueError("it is not nats://HOST:PORT or nats://HOST:PORT/PREFIX, or several with commas")
        prefix = prefixes.pop() if prefixes else PREFIX
        if not prefix.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"the prefix {prefix!r} must be of letters, digits, - and _")
        return cls([part._replace(path="").geturl() for part in parts], prefix)

    @property
    def shown(self) -> str:
        """The servers without their credentials, for the log."""
        parts = map(urlsplit, self.servers)
        return ",".join(part._replace(netloc=part.netloc.rpartition("@")[2]).geturl() for part in parts)


class NatsBus:
    """A `messaging_core.ports.Bus` over NATS."""

    def __init__(self, address: NatsAddress) -> None:
        self._address = address
        self._outgoing = Outgoing(trio.current_time, max_bytes=ENVELOPE_BYTES)
        self._pending = trio.Event()
        self._attempt = trio.CancelScope()
        self._followed: set[UserId] = set()
        self._changes: set[UserId] = set()
        """Users whose subscription must be created or ended."""
        self._changed = trio.Event()
        self._beat_at = -inf
        self._waiters: list[trio.Event] | None = None
        """Callers that wait for a subscription; None without a connection."""

    @property
    def publisher(self) -> str:
        return self._outgoing.publisher

    def publish(self, effect: DeliveryEffect) -> None:
        """See `messaging_core.ports.Bus`."""
        self._outgoing.add(effect)
        self._pending.set()

    async def follow(self, user_id: UserId) -> None:
        """See `messaging_core.ports.Bus`."""
        self._followed.add(user_id)
        self._change(user_id)
        if self._waiters is None:
            await trio.lowlevel.checkpoint()
            return
        subscribed = trio.Event()
        self._waiters.append(subscribed)
        with trio.move_on_after(FOLLOW_SECONDS):
            await subscribed.wait()
            return
        log.info("The bus is slow to subscribe to a user; it reconnects", user_id=user_id)
        self.rebuild()

    def unfollow(self, user_id: UserId) -> None:
        """See `messaging_core.ports.Bus`."""
        self._followed.discard(user_id)
        self._change(user_id)

    def _change(self, user_id: UserId) -> None:
        self._changes.add(user_id)
        self._changed.set()

    def rebuild(self) -> None:
        """See `messaging_core.ports.Bus`; it does not interrupt an attempt to connect."""
        self._outgoing.lose()
        if self._waiters is not None:
            self._attempt.cancel()

    async def run(self, heard: Callable[[Envelope], None], missed: Callable[[str], None]) -> None:
        """See `messaging_core.ports.Bus`."""
        async with asyncio_thread() as thread:
            pause, longest = BACKOFF_SECONDS
            while True:
                with trio.CancelScope() as self._attempt:
                    if await self._serve(thread, heard, missed):
                        pause = BACKOFF_SECONDS[0]
                self._outgoing.lose()
                await trio.sleep(pause * uniform(0.5, 1.5))  # noqa: S311 - it only spreads the processes
                pause = min(2 * pause, longest)

    async def _serve(
        self, thread: AsyncioThread, heard: Callable[[Envelope], None], missed: Callable[[str], None]
    ) -> bool:
        """Connect, and use the connection until it ends; whether it could connect."""
        connected = lost = False
        connection = _NatsConnection(
            thread,
            self._address,
            received=lambda payload: self._received(payload, heard),
            overran=lambda: missed("messages arrived faster than the process could handle them"),
        )
        try:
            self._outgoing.max_bytes = min(ENVELOPE_BYTES, await connection.connect())
            self._changes.clear()
            await connection.subscribe([ALL, *map(_subject, self._followed)])
            connected, self._waiters = True, []
            missed("the bus was connected")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow_for_ever, connection)
                nursery.start_soon(connection.until_it_ends)
                await self._send_for_ever(connection)
        except* (NatsConnectionLost, *FAULTS) as group:
            lost = True
            event = "The bus lost its connection" if connected else "The bus cannot be connected"
            cause = (not connected and connection.refusal) or group.exceptions[0]
            log.warning(event, address=self._address.shown, error=repr(cause))
        finally:
            if connected and self._attempt.cancel_called:
                log.warning("The bus reconnects")
            for waiter in self._waiters or ():
                waiter.set()
            self._waiters = None
            with trio.move_on_after(FAREWELL_SECONDS, shield=True):
                if connected and not lost and not self._attempt.cancel_called:
                    await self._take_leave(connection)
                await connection.close()
        return connected

    async def _take_leave(self, connection: "_NatsConnection") -> None:
        """Send the queued signals and the last envelope, before the process ends."""
        try:
            await connection.publish(self._messages(is_last=True))
        except FAULTS as error:
            log.info("The last signals could not be sent", error=repr(error))

    async def _send_for_ever(self, connection: "_NatsConnection") -> None:
        while True:
            with trio.move_on_at(self._beat_at):
                await self._pending.wait()
            self._pending = trio.Event()
            await connection.publish(self._messages())

    def _messages(self, *, is_last: bool = False) -> list[tuple[str, bytes]]:
        """The queued signals as (subject, payload), with a heartbeat for all when one is due."""
        messages: list[tuple[str, bytes]] = []
        of_users: dict[UserId, list[bytes]] = {}
        of_all: list[bytes] = []
        for effect in self._outgoing.take():
            signals = self._outgoing.write([effect])
            match effect:
                case Deliver() | DeliverEphemeral() if len(effect.audience) <= AUDIENCE_AT_MOST:
                    for user_id in effect.audience:
                        of_users.setdefault(user_id, []).extend(signals)
                case Deliver() | DeliverEphemeral() | CloseSockets():
                    of_all += signals
                case _:
                    assert_never(effect)
        for user_id, signals in of_users.items():
            messages += [(_subject(user_id), payload) for payload in self._outgoing.to_some(signals)]
        if of_all or is_last or trio.current_time() >= self._beat_at:
            self._beat_at = trio.current_time() + BEAT_SECONDS
            messages += [(ALL, payload) for payload in self._outgoing.to_all(of_all, is_last=is_last)]
        return messages

    async def _follow_for_ever(self, connection: "_NatsConnection") -> None:
        """Subscribe to the subjects of the followed users, and unsubscribe from others."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            changes, self._changes = self._changes, set()
            waiting, self._waiters = self._waiters or [], []
            await connection.subscribe(
                map(_subject, changes & self._followed), map(_subject, changes - self._followed)
            )
            for waiter in waiting:
                waiter.set()

    def _received(self, payload: bytes, heard: Callable[[Envelope], None]) -> None:
        try:
            envelope = read_envelope(payload, own=self.publisher)
        except MalformedEnvelope as error:
            log.warning("A message is no envelope", prefix=self._address.prefix, error=str(error))
            return
        heard(envelope)


class _NatsConnection:
    """One connection: runs calls from trio's loop in the thread, and hands received messages to trio's
    loop.
    """

    def __init__(
        self,
        thread: AsyncioThread,
        address: NatsAddress,
        *,
        received: Callable[[bytes], None],
        overran: Callable[[], None],
    ) -> None:
        self._thread = thread
        self._address = address
        self._received = received
        self._overran = overran
        self._client = Client()
        self._subscriptions: dict[str, Subscription] = {}
        self._queue: deque[bytes] = deque()
        self._ended = trio.Event()
        self.refusal: Exception | None = None
        """The last error; nats-py itself only reports that it has tried all servers."""

    # --- on trio's loop ---

    async def connect(self) -> int:
        """Connect; returns the largest message that the server accepts, in bytes."""
        await self._thread.run(self._connect())
        return self._client.max_payload

    async def subscribe(self, subjects: Iterable[str], ended: Iterable[str] = ()) -> None:
        """Subscribe to these subjects, and unsubscribe from the `ended` ones; done when it returns."""
        await self._thread.run(self._subscribe(list(subjects), list(ended)))

    async def publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Hand messages to the connection, in order."""
        await self._thread.run(self._publish(messages))

    async def until_it_ends(self) -> None:
        await self._ended.wait()
        raise NatsConnectionLost(str(self._client.last_error))

    async def close(self) -> None:
        """Send the published messages, and close the connection."""
        with suppress(*FAULTS):
            await self._thread.run(self._client.close())

    def _drain_queue(self) -> None:
        while self._queue:
            self._received(self._queue.popleft())

    # --- in the thread ---

    async def _connect(self) -> None:
        await self._client.connect(
            self._address.servers,
            name="messaging bus",
            allow_reconnect=False,
            max_reconnect_attempts=1,  # for each server; otherwise nats-py retries for ever
            reconnect_time_wait=0,
            connect_timeout=CONNECT_SECONDS,
            closed_cb=self._closed,
            error_cb=self._failed,
        )

    async def _subscribe(self, subjects: Sequence[str], ended: Sequence[str]) -> None:
        for subject in ended:
            subscription = self._subscriptions.pop(subject, None)
            if subscription is not None:
                await subscription.unsubscribe()
        for subject in subjects:
            if subject not in self._subscriptions:
                named = f"{self._address.prefix}.{subject}"
                self._subscriptions[subject] = await self._client.subscribe(named, cb=self._message)
        await self._client.flush()

    async def _publish(self, messages: Sequence[tuple[str, bytes]]) -> None:
        for subject, payload in messages:
            await self._client.publish(f"{self._address.prefix}.{subject}", payload)

    async def _message(self, message: Msg) -> None:
        if len(self._queue) >= RECEIVED_AT_MOST:
            self._thread.call_back(self._overran)
            return
        self._queue.append(message.data)
        if len(self._queue) == 1:
            self._thread.call_back(self._drain_queue)

    async def _failed(self, error: Exception) -> None:
        self.refusal = error
        if isinstance(error, SlowConsumerError):
            self._thread.call_back(self._overran)

    async def _closed(self) -> None:
        self._thread.call_back(self._ended.set)

"""Signals as NATS messages: a subject for each user, and one for all processes.

A process subscribes to the users who have a socket in it, so its load grows with its own sockets and not with
everybody's. Heartbeats, ended sessions, and events for a large audience go to all. Only the envelopes to all
are numbered: a loss on a user's subject is noticed by the chat's next event, by the connection's end, or in
the half-minutely comparison.

nats-py needs asyncio, which runs in a thread of its own. When a connection ends, a new one is made from
nothing, and its subscriptions are complete before the connection is reported.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from math import inf
from random import uniform
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
from messaging_core.effects import Deliver, DeliveryEffect
from messaging_core.ids import UserId
from messaging_core.liveness import BEAT_SECONDS
from messaging_core.signals import Envelope

log = structlog.get_logger(__name__)

PREFIX = "messaging"
"""The first part of every subject, where the address names none."""
AUDIENCE_AT_MOST = 32
"""Users whose own subjects a signal is sent to; with more it is sent to all."""
ENVELOPE_BYTES = 65_536
"""More than any event that `Limits` allows by default; NATS itself takes a mebibyte as it comes."""
COMING_AT_MOST = 20_000
"""Received messages that wait for the event loop; further ones are dropped, and reported as missed."""
CONNECT_SECONDS = 2
BACKOFF_SECONDS = (0.1, 2.0)
"""The first and the longest pause before connecting again; each is twice the last, give or take a half."""
FOLLOW_SECONDS = 0.5
"""How long a new socket waits for its user's subscription; a later subscription is followed by a
comparison."""
FAREWELL_SECONDS = 1.0
"""How long the last signals may take when the process ends."""

FAULTS = (Error, OSError, TimeoutError, CancelledError)
"""What nats-py raises when it cannot connect, or is not connected any more."""


ALL = "all"
"""The subject that every process hears."""


def _subject(user_id: UserId) -> str:
    return f"user.{user_id}"


class ConnectionLost(Exception):
    """The server, or the library, ended the connection."""


@frozen
class Address:
    """Where NATS is, as nats-py takes it, and under which subjects: `nats://host:4222/prefix`.

    Deployments that share a NATS must not share a prefix: their users have the same numbers.
    """

    servers: list[str]
    prefix: str = PREFIX

    @classmethod
    def parse(cls, text: str) -> "Address":
        """From addresses separated by commas, one of which may name a prefix; raises `ValueError`."""
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
        """The servers as they may be logged: without their logins."""
        parts = map(urlsplit, self.servers)
        return ",".join(part._replace(netloc=part.netloc.rpartition("@")[2]).geturl() for part in parts)


class NatsBus:
    """A `messaging_core.ports.Bus` over NATS."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._outgoing = Outgoing(trio.current_time, max_bytes=ENVELOPE_BYTES)
        self._pending = trio.Event()
        self._attempt = trio.CancelScope()
        self._followed: set[UserId] = set()
        self._changes: set[UserId] = set()
        """Users whose subscription is to be made or ended."""
        self._changed = trio.Event()
        self._beat_at = -inf
        self._waiters: list[trio.Event] | None = None
        """Who waits for a subject to be heard; None while there is no connection to wait for."""

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
        heard = trio.Event()
        self._waiters.append(heard)
        with trio.move_on_after(FOLLOW_SECONDS):
            await heard.wait()
            return
        log.info("The bus is slow to follow a user; its connection is made anew", user_id=user_id)
        self.rebuild()

    def unfollow(self, user_id: UserId) -> None:
        """See `messaging_core.ports.Bus`."""
        self._followed.discard(user_id)
        self._change(user_id)

    def _change(self, user_id: UserId) -> None:
        self._changes.add(user_id)
        self._changed.set()

    def rebuild(self) -> None:
        """See `messaging_core.ports.Bus`; an attempt to connect that is under way is not cut short."""
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
                await trio.sleep(pause * uniform(0.5, 1.5))  # noqa: S311 - it only must differ
                pause = min(2 * pause, longest)

    async def _serve(
        self, thread: AsyncioThread, heard: Callable[[Envelope], None], missed: Callable[[str], None]
    ) -> bool:
        """Connect, and use the connection until it ends; whether there was one."""
        connected = lost = False
        line = _Line(
            thread,
            self._address,
            came=lambda payload: self._came(payload, heard),
            overran=lambda: missed("messages came quicker than they could be taken"),
        )
        try:
            self._outgoing.max_bytes = min(ENVELOPE_BYTES, await line.connect())
            self._changes.clear()
            await line.subscribe([ALL, *map(_subject, self._followed)])
            connected, self._waiters = True, []
            missed("the bus was connected")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._follow_for_ever, line)
                nursery.start_soon(line.until_it_ends)
                await self._send_for_ever(line)
        except* (ConnectionLost, *FAULTS) as group:
            lost = True
            event = "The bus lost its connection" if connected else "The bus cannot be connected"
            cause = (not connected and line.refusal) or group.exceptions[0]
            log.warning(event, address=self._address.shown, error=repr(cause))
        finally:
            if connected and self._attempt.cancel_called:
                log.warning("The bus makes its connection anew")
            for waiter in self._waiters or ():
                waiter.set()
            self._waiters = None
            with trio.move_on_after(FAREWELL_SECONDS, shield=True):
                if connected and not lost and not self._attempt.cancel_called:
                    await self._take_leave(line)
                await line.close()
        return connected

    async def _take_leave(self, line: "_Line") -> None:
        """Send what waits and say goodbye: the process ends."""
        try:
            await line.publish(self._letters(is_last=True))
        except FAULTS as error:
            log.info("The last signals could not be sent", error=repr(error))

    async def _send_for_ever(self, line: "_Line") -> None:
        while True:
            with trio.move_on_at(self._beat_at):
                await self._pending.wait()
            self._pending = trio.Event()
            await line.publish(self._letters())

    def _letters(self, *, is_last: bool = False) -> list[tuple[str, bytes]]:
        """What waits, by subject; with a heartbeat for all when it is time for one."""
        letters: list[tuple[str, bytes]] = []
        of_users: dict[UserId, list[bytes]] = {}
        of_all: list[bytes] = []
        for effect in self._outgoing.take():
            signals = self._outgoing.write([effect])
            if isinstance(effect, Deliver) and len(effect.audience) <= AUDIENCE_AT_MOST:
                for user_id in effect.audience:
                    of_users.setdefault(user_id, []).extend(signals)
            else:
                of_all += signals
        for user_id, signals in of_users.items():
            letters += [(_subject(user_id), payload) for payload in self._outgoing.to_some(signals)]
        if of_all or is_last or trio.current_time() >= self._beat_at:
            self._beat_at = trio.current_time() + BEAT_SECONDS
            letters += [(ALL, payload) for payload in self._outgoing.to_all(of_all, is_last=is_last)]
        return letters

    async def _follow_for_ever(self, line: "_Line") -> None:
        """Hear the subjects of those who are followed."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            changes, self._changes = self._changes, set()
            waiting, self._waiters = self._waiters or [], []
            await line.subscribe(
                map(_subject, changes & self._followed), map(_subject, changes - self._followed)
            )
            for waiter in waiting:
                waiter.set()

    def _came(self, payload: bytes, heard: Callable[[Envelope], None]) -> None:
        try:
            envelope = read_envelope(payload, own=self.publisher)
        except MalformedEnvelope as error:
            log.warning("A message is none of ours", prefix=self._address.prefix, error=str(error))
            return
        heard(envelope)


class _Line:
    """One connection: what trio's loop asks runs in the thread, and what comes there is handed back."""

    def __init__(
        self,
        thread: AsyncioThread,
        address: Address,
        *,
        came: Callable[[bytes], None],
        overran: Callable[[], None],
    ) -> None:
        self._thread = thread
        self._address = address
        self._came = came
        self._overran = overran
        self._client = Client()
        self._subscriptions: dict[str, Subscription] = {}
        self._coming: deque[bytes] = deque()
        self._ended = trio.Event()
        self.refusal: Exception | None = None
        """The last thing that went wrong, where nats-py itself only says that no server is left to try."""

    # --- on trio's loop ---

    async def connect(self) -> int:
        """Connect, and hear what is for all; the largest message that the server takes, in bytes."""
        await self._thread.run(self._connect())
        return self._client.max_payload

    async def subscribe(self, subjects: Iterable[str], others: Iterable[str] = ()) -> None:
        """Hear these subjects when this returns, and the `others` no longer."""
        await self._thread.run(self._subscribe(list(subjects), list(others)))

    async def publish(self, letters: Sequence[tuple[str, bytes]]) -> None:
        """Hand messages to the connection, in order."""
        await self._thread.run(self._publish(letters))

    async def until_it_ends(self) -> None:
        await self._ended.wait()
        raise ConnectionLost(str(self._client.last_error))

    async def close(self) -> None:
        """Send what was published, and end."""
        with suppress(*FAULTS):
            await self._thread.run(self._client.close())

    def _take(self) -> None:
        while self._coming:
            self._came(self._coming.popleft())

    # --- in the thread ---

    async def _connect(self) -> None:
        await self._client.connect(
            self._address.servers,
            name="messaging bus",
            allow_reconnect=False,
            max_reconnect_attempts=1,  # for each server, which it tries again and again otherwise
            reconnect_time_wait=0,
            connect_timeout=CONNECT_SECONDS,
            closed_cb=self._closed,
            error_cb=self._failed,
        )

    async def _subscribe(self, subjects: Sequence[str], others: Sequence[str]) -> None:
        for subject in others:
            subscription = self._subscriptions.pop(subject, None)
            if subscription is not None:
                await subscription.unsubscribe()
        for subject in subjects:
            if subject not in self._subscriptions:
                named = f"{self._address.prefix}.{subject}"
                self._subscriptions[subject] = await self._client.subscribe(named, cb=self._message)
        await self._client.flush()

    async def _publish(self, letters: Sequence[tuple[str, bytes]]) -> None:
        for subject, payload in letters:
            await self._client.publish(f"{self._address.prefix}.{subject}", payload)

    async def _message(self, message: Msg) -> None:
        if len(self._coming) >= COMING_AT_MOST:
            self._thread.call_back(self._overran)
            return
        self._coming.append(message.data)
        if len(self._coming) == 1:
            self._thread.call_back(self._take)

    async def _failed(self, error: Exception) -> None:
        self.refusal = error
        if isinstance(error, SlowConsumerError):
            self._thread.call_back(self._overran)

    async def _closed(self) -> None:
        self._thread.call_back(self._ended.set)

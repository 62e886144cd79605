"""Signals as PostgreSQL notifications, sent on a connection of their own after the commit.

Inside the committing transaction, notifications would queue behind one lock of the whole database for as long
as the commit takes. This connection's own commits do not wait for the disk (`synchronous_commit=off`): a
signal need not be durable.

One connection sends and receives, so an envelope that comes back proves both directions. The event loop
drives it: libpq accepts a non-blocking socket. Connecting, which also looks up a name, runs in a thread.
"""

from collections.abc import Callable, Sequence
from random import uniform

import psycopg
import structlog
import trio
from psycopg import pq

from adapters.signals import MalformedEnvelope, Outgoing, read_envelope
from messaging_core.effects import DeliveryEffect
from messaging_core.ids import UserId
from messaging_core.liveness import BEAT_SECONDS
from messaging_core.signals import Envelope

log = structlog.get_logger(__name__)

CHANNEL = "messaging"

PAYLOAD_BYTES = 7999
"""PostgreSQL's own bound for a notification (`NOTIFY_PAYLOAD_MAX_LENGTH`, less one)."""
PAYLOADS_AT_ONCE = 64
"""Notifications by one statement, which is one commit."""
CONNECT_SECONDS = 2
"""For each address of the server; libpq takes no less."""
BACKOFF_SECONDS = (0.1, 5.0)
"""The first and the longest pause before connecting again; each is twice the last, give or take a half."""
FAREWELL_SECONDS = 1.0
"""How long the last signals may take when the process ends."""


class ConnectionLost(Exception):
    """The server ended the connection, or refused a statement."""


FAULTS = (ConnectionLost, psycopg.Error, OSError)


class PostgresBus:
    """A `messaging_core.ports.Bus` over the database at `url`, an address as libpq takes it."""

    def __init__(self, url: str, *, channel: str = CHANNEL) -> None:
        self._url = url
        self._channel = channel
        self._outgoing = Outgoing(trio.current_time, max_bytes=PAYLOAD_BYTES)
        self._pending = trio.Event()
        self._attempt = trio.CancelScope()

    @property
    def publisher(self) -> str:
        return self._outgoing.publisher

    def publish(self, effect: DeliveryEffect) -> None:
        """See `messaging_core.ports.Bus`."""
        self._outgoing.add(effect)
        self._pending.set()

    async def follow(self, user_id: UserId) -> None:
        """Every process hears everything."""
        del user_id
        await trio.lowlevel.checkpoint()

    def unfollow(self, user_id: UserId) -> None:
        """Nothing changes."""

    def rebuild(self) -> None:
        """See `messaging_core.ports.Bus`; an attempt to connect that is under way is not cut short."""
        self._outgoing.lose()
        self._attempt.cancel()

    async def run(self, heard: Callable[[Envelope], None], missed: Callable[[str], None]) -> None:
        """See `messaging_core.ports.Bus`."""
        pause, longest = BACKOFF_SECONDS
        while True:
            with trio.CancelScope() as self._attempt:
                try:
                    connection = await trio.to_thread.run_sync(self._connect)
                except psycopg.Error as error:
                    log.warning("The bus cannot be connected", error=str(error).strip())
                else:
                    pause = BACKOFF_SECONDS[0]
                    await self._serve(connection, heard, missed)
            self._outgoing.lose()
            await trio.sleep(pause * uniform(0.5, 1.5))  # noqa: S311 - it only must not be the same for all
            pause = min(2 * pause, longest)

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        connection = psycopg.connect(
            self._url, autocommit=True, connect_timeout=CONNECT_SECONDS, application_name="messaging bus"
        )
        try:
            connection.execute("SET synchronous_commit = off")
            connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(self._channel)))
            connection.pgconn.nonblocking = 1
        except BaseException:
            connection.close()
            raise
        return connection

    async def _serve(
        self,
        connection: "psycopg.Connection[tuple[object, ...]]",
        heard: Callable[[Envelope], None],
        missed: Callable[[str], None],
    ) -> None:
        """Use a connection until it ends."""
        line = _Line(connection.pgconn, self._channel, lambda payload: self._came(payload, heard))
        lost = False
        try:
            missed("the bus was connected")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.listen)
                await self._send_for_ever(line)
        except* FAULTS as group:
            lost = True
            log.warning("The bus lost its connection", error=str(group.exceptions[0]).strip())
        finally:
            if self._attempt.cancel_called:
                log.warning("The bus makes its connection anew")
            elif not lost:
                await self._take_leave(line)
            connection.close()

    async def _take_leave(self, line: "_Line") -> None:
        """Send what waits and say goodbye, as far as that is quick: the process ends."""
        with trio.move_on_after(FAREWELL_SECONDS, shield=True):
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(line.listen)
                    await self._send(line, is_last=True)
                    nursery.cancel_scope.cancel()
            except* FAULTS:
                log.info("The last signals could not be sent")

    async def _send_for_ever(self, line: "_Line") -> None:
        while True:
            with trio.move_on_after(BEAT_SECONDS):
                await self._pending.wait()
            self._pending = trio.Event()
            await self._send(line)

    async def _send(self, line: "_Line", *, is_last: bool = False) -> None:
        """Send what waits, and a heartbeat if that is nothing."""
        signals = self._outgoing.write(self._outgoing.take())
        payloads = self._outgoing.to_all(signals, is_last=is_last)
        for start in range(0, len(payloads), PAYLOADS_AT_ONCE):
            await line.send(payloads[start : start + PAYLOADS_AT_ONCE])

    def _came(self, payload: bytes, heard: Callable[[Envelope], None]) -> None:
        try:
            envelope = read_envelope(payload, own=self.publisher)
        except MalformedEnvelope as error:
            log.warning("A notification is none of ours", channel=self._channel, error=str(error))
            return
        heard(envelope)


class _Line:
    """A connection that listens already, and does not block."""

    def __init__(self, pgconn: pq.abc.PGconn, channel: str, came: Callable[[bytes], None]) -> None:
        self._pgconn = pgconn
        self._channel = channel.encode()
        self._came = came
        self._asked = False
        self._answered = trio.Event()

    async def listen(self) -> None:
        """Take what the server sends, for ever; raises when that ends."""
        while True:
            await trio.lowlevel.wait_readable(self._pgconn.socket)
            self._pgconn.consume_input()
            self._take_answers()
            while (notification := self._pgconn.notifies()) is not None:
                self._came(notification.extra)

    async def send(self, payloads: Sequence[bytes]) -> None:
        """Notify, and wait until that is committed: what comes meanwhile goes with the next."""
        while self._asked:  # by somebody who was cancelled
            await self._answered.wait()
        self._answered = trio.Event()
        self._asked = True
        self._pgconn.send_query_params(*self._statement(payloads))
        while self._pgconn.flush():
            await trio.lowlevel.wait_writable(self._pgconn.socket)
        await self._answered.wait()

    def _statement(self, payloads: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
        calls = ", ".join(f"pg_notify($1, ${number})" for number in range(2, len(payloads) + 2))
        return f"SELECT {calls}".encode(), [self._channel, *payloads]

    def _take_answers(self) -> None:
        while self._asked and not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                self._asked = False
                self._answered.set()
            elif result.status != pq.ExecStatus.TUPLES_OK:
                raise ConnectionLost(result.error_message.decode(errors="replace"))

"""Signals as PostgreSQL notifications, sent on a connection of their own after the commit.

Inside the committing transaction, notifications would wait for one lock of the whole database, which is held
for the whole commit. This connection's own commits do not wait for the disk (`synchronous_commit=off`): a
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
"""PostgreSQL's bound for a notification (`NOTIFY_PAYLOAD_MAX_LENGTH`, less one)."""
PAYLOADS_AT_ONCE = 64
"""Notifications in one statement, and so in one commit."""
CONNECT_SECONDS = 2
"""The timeout for each address of the server; libpq's minimum."""
BACKOFF_SECONDS = (0.1, 5.0)
"""The first and the longest back-off before reconnecting; it doubles each time, and varies by a half."""
FAREWELL_SECONDS = 1.0
"""The time limit for sending the last signals when the process ends."""


class PostgresConnectionLost(Exception):
    """The server ended the connection, or refused a statement."""


FAULTS = (PostgresConnectionLost, psycopg.Error, OSError)


class PostgresBus:
    """A `messaging_core.ports.Bus` over the database at `url`, an address for libpq."""

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
        """Does nothing: every process receives all signals."""
        del user_id
        await trio.lowlevel.checkpoint()

    def unfollow(self, user_id: UserId) -> None:
        """Does nothing."""

    def rebuild(self) -> None:
        """See `messaging_core.ports.Bus`; it does not interrupt an attempt to connect."""
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
            await trio.sleep(pause * uniform(0.5, 1.5))  # noqa: S311 - it only spreads the processes
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
        channel = _PostgresChannel(
            connection.pgconn, self._channel, lambda payload: self._received(payload, heard)
        )
        lost = False
        try:
            missed("the bus was connected")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(channel.listen)
                await self._send_for_ever(channel)
        except* FAULTS as group:
            lost = True
            log.warning("The bus lost its connection", error=str(group.exceptions[0]).strip())
        finally:
            if self._attempt.cancel_called:
                log.warning("The bus reconnects")
            elif not lost:
                await self._take_leave(channel)
            connection.close()

    async def _take_leave(self, channel: "_PostgresChannel") -> None:
        """Send the queued signals and the last envelope, within a time limit, before the process ends."""
        with trio.move_on_after(FAREWELL_SECONDS, shield=True):
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(channel.listen)
                    await self._send(channel, is_last=True)
                    nursery.cancel_scope.cancel()
            except* FAULTS:
                log.info("The last signals could not be sent")

    async def _send_for_ever(self, channel: "_PostgresChannel") -> None:
        while True:
            with trio.move_on_after(BEAT_SECONDS):
                await self._pending.wait()
            self._pending = trio.Event()
            await self._send(channel)

    async def _send(self, channel: "_PostgresChannel", *, is_last: bool = False) -> None:
        """Send the queued signals; without any, a heartbeat."""
        signals = self._outgoing.write(self._outgoing.take())
        payloads = self._outgoing.to_all(signals, is_last=is_last)
        for start in range(0, len(payloads), PAYLOADS_AT_ONCE):
            await channel.send(payloads[start : start + PAYLOADS_AT_ONCE])

    def _received(self, payload: bytes, heard: Callable[[Envelope], None]) -> None:
        try:
            envelope = read_envelope(payload, own=self.publisher)
        except MalformedEnvelope as error:
            log.warning("A notification is no envelope", channel=self._channel, error=str(error))
            return
        heard(envelope)


class _PostgresChannel:
    """A non-blocking connection that has executed LISTEN."""

    def __init__(self, pgconn: pq.abc.PGconn, channel: str, received: Callable[[bytes], None]) -> None:
        self._pgconn = pgconn
        self._channel = channel.encode()
        self._received = received
        self._is_executing = False
        self._executed = trio.Event()

    async def listen(self) -> None:
        """Read from the server until cancelled; raises when the connection ends."""
        while True:
            await trio.lowlevel.wait_readable(self._pgconn.socket)
            self._pgconn.consume_input()
            self._read_results()
            while (notification := self._pgconn.notifies()) is not None:
                self._received(notification.extra)

    async def send(self, payloads: Sequence[bytes]) -> None:
        """Notify, and wait for the commit; signals that arrive meanwhile share the next statement."""
        while self._is_executing:  # a statement whose caller was cancelled
            await self._executed.wait()
        self._executed = trio.Event()
        self._is_executing = True
        self._pgconn.send_query_params(*self._statement(payloads))
        while self._pgconn.flush():
            await trio.lowlevel.wait_writable(self._pgconn.socket)
        await self._executed.wait()

    def _statement(self, payloads: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
        calls = ", ".join(f"pg_notify($1, ${number})" for number in range(2, len(payloads) + 2))
        return f"SELECT {calls}".encode(), [self._channel, *payloads]

    def _read_results(self) -> None:
        while self._is_executing and not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                self._is_executing = False
                self._executed.set()
            elif result.status != pq.ExecStatus.TUPLES_OK:
                raise PostgresConnectionLost(result.error_message.decode(errors="replace"))

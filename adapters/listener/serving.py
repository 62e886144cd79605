"""The listener's life: accept connections, bound them, and end them at shutdown."""

import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from operator import methodcaller
from typing import Any

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.typing import LifespanState
from hypercorn.utils import LifespanFailureError, LifespanTimeoutError

from adapters.listener.boundary import Boundary
from adapters.listener.config import ListenerConfig
from adapters.listener.connection import PeerConnection
from adapters.listener.counts import ListenerCounts
from adapters.listener.ledger import MemoryLedger
from adapters.listener.lifespan import LifespanEnded, WatchedLifespan
from adapters.listener.logs import StructlogLogger, log
from adapters.listener.peer import MAX_RECV
from adapters.listener.proxies import parse_address
from adapters.listener.refused_request import RefusedRequest
from adapters.listener.responses import closing_response_bytes
from adapters.listener.shared import SharedParts
from adapters.listener.tcp import TcpListener, TcpStream
from adapters.listener.turns import Turns
from adapters.listener.unsent import UnsentResponses
from adapters.listener.watch import Watch
from adapters.listener.whole_requests import WholeRequests
from messaging_core.addresses import network_of

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
Addresses = tuple[tuple[str, int], ...]

ACCEPT_PAUSE = 0.1
"""Seconds without accepting after the system has run out of descriptors or buffers."""
POLITE_REFUSALS = 64
"""Concurrent refused connections that get a 503 and time to read it; others are closed at once."""
RETRY_AFTER = b"5"


async def serve(
    app: ASGIApp,
    config: ListenerConfig,
    *,
    shutdown: trio.Event,
    counts: ListenerCounts | None = None,
    whole_requests: WholeRequests | None = None,
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI 3 application until `shutdown` is set and everything in flight has ended.

    In order: lifespan startup; listening, when `task_status.started` receives each actual (host, port); at
    the shutdown, no new connections, idle ones closed, requests in flight finished, WebSockets closed with
    1012 by the application or, after `drain_socket_time`, by the listener; after `drain_time` the remaining
    connections reset; lifespan shutdown; return. A cancellation ends it at once, without these steps.
    `whole_requests` are the requests that the application responds to without ASGI.

    Raises `OSError` when it cannot listen, `LifespanFailureError` and `LifespanTimeoutError` (Hypercorn's)
    when the application does not start or end, `LifespanEnded` when its lifespan crashes in between.
    """
    wrapped = ASGIWrapper(app)
    hypercorn = hypercorn_config(config)
    state: LifespanState = {}
    lifespan = WatchedLifespan(wrapped, hypercorn, state)
    counts = counts if counts is not None else ListenerCounts()
    listener = _Listener(
        wrapped, config, hypercorn=hypercorn, counts=counts, state=state, whole_requests=whole_requests
    )
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            nursery.start_soon(_set_after, lifespan.ended, shutdown)
            await listener.run(shutdown, task_status)
            await lifespan.wait_for_shutdown()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # One failure of the lifespan is raised as one exception, without the groups of the nurseries it
        # passed.
        for kind in (LifespanFailureError, LifespanTimeoutError, OSError):
            if (found := _only(group, kind)) is not None:
                raise found from None
        raise
    if lifespan.ended.is_set():
        raise LifespanEnded


def hypercorn_config(config: ListenerConfig) -> Config:
    """The configuration of Hypercorn's own code: no Server header, none of its pings and timers."""
    hypercorn = Config()
    hypercorn.logger_class = StructlogLogger
    hypercorn.accesslog = hypercorn.errorlog = None  # the class above opens no files of its own
    hypercorn.include_server_header = False
    hypercorn.startup_timeout = config.startup_time
    hypercorn.shutdown_timeout = config.shutdown_time
    return hypercorn


async def _set_after(awaited: trio.Event, event: trio.Event) -> None:
    await awaited.wait()
    event.set()


def _only(group: BaseExceptionGroup[BaseException], kind: type[Exception]) -> Exception | None:
    found, others = group.split(kind)
    while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
        found = found.exceptions[0]  # type: ignore[assignment] # the innermost is not a group
    return found if others is None and isinstance(found, kind) else None


class _Listener:
    """Accepts connections, bounds their number, and ends them."""

    def __init__(
        self,
        app: ASGIWrapper,
        config: ListenerConfig,
        *,
        hypercorn: Config,
        counts: ListenerCounts,
        state: LifespanState,
        whole_requests: WholeRequests | None,
    ) -> None:
        self._app = app
        self._config = config
        self._hypercorn = hypercorn
        self._counts = counts
        self._state = state
        self._whole_requests = whole_requests
        self._connections: set[PeerConnection] = set()
        self._per_network: Counter[str] = Counter()
        self._refusing = 0
        self._ended = trio.lowlevel.ParkingLot()
        self._watch = Watch()

    def _share(self, connections: trio.Nursery) -> SharedParts:
        config, counts = self._config, self._counts
        return SharedParts(
            app=self._app,
            whole_requests=self._whole_requests,
            state=self._state,
            config=config,
            hypercorn=self._hypercorn,
            counts=counts,
            nursery=connections,
            watch=self._watch,
            turns=Turns(),
            unread=MemoryLedger(
                config.unread_bytes,
                config.unread_bytes_per_address,
                config.uncounted_addresses,
                methodcaller("shed"),
                partial(setattr, counts, "unread_bytes"),
            ),
            unsent=UnsentResponses(
                config.unsent_bytes,
                config.unsent_bytes_per_address,
                config.uncounted_addresses,
                methodcaller("shed"),
                partial(setattr, counts, "unsent_bytes"),
                wait_time=config.unsent_wait,
            ),
        )

    async def run(self, shutdown: trio.Event, task_status: trio.TaskStatus[Addresses]) -> None:
        listeners = await self._listeners()
        with self._watch:
            await self._serve_from(listeners, shutdown, task_status)

    async def _serve_from(
        self,
        listeners: list[TcpListener],
        shutdown: trio.Event,
        task_status: trio.TaskStatus[Addresses],
    ) -> None:
        async with trio.open_nursery() as connections:
            connections.start_soon(self._watch.run)
            shared = self._share(connections)
            try:
                async with trio.open_nursery() as accepting:
                    for listener in listeners:
                        accepting.start_soon(self._accept, listener, shared)
                    addresses = tuple(listener.socket.getsockname()[:2] for listener in listeners)
                    log.info("listening", addresses=[f"{host} port {port}" for host, port in addresses])
                    task_status.started(addresses)
                    await shutdown.wait()
                    accepting.cancel_scope.cancel()
                for listener in listeners:
                    # Closing resets connections in the accept backlog, so accept them first. Linux holds one
                    # more than the backlog, and adds others meanwhile.
                    limit = max(self._config.connections, self._config.backlog + 1)
                    with suppress(OSError):
                        for stream in listener.accept_pending(limit):
                            self._admit(stream, shared)
                    listener.close()
                await self._drain()
            finally:
                for listener in listeners:
                    listener.close()
                # Writes are shielded from cancellation: only an abort ends them when the caller cancels.
                for connection in self._connections:
                    connection.peer.abort()
            connections.cancel_scope.cancel()

    # --- accepting -----------------------------------------------------------------------------------------

    async def _listeners(self) -> list[TcpListener]:
        config = self._config
        if not config.inherited:
            return await TcpListener.on(config.host, config.port, config.backlog)
        return [TcpListener(socket.socket(fileno=number)) for number in config.inherited]

    async def _accept(self, listener: TcpListener, shared: SharedParts) -> None:
        while True:
            await listener.wait()
            try:
                for stream in listener.accept_pending():
                    self._admit(stream, shared)
            except OSError as error:
                # trio.serve_listeners, in Hypercorn, ends at each of these except the lack of descriptors.
                log.warning("accept_failed", error=str(error))
                await trio.sleep(ACCEPT_PAUSE)

    def _admit(self, stream: TcpStream, shared: SharedParts) -> None:
        """Serve a connection, or refuse it."""
        peer = "" if stream.client is None else stream.client[0]
        if self._may_serve(peer):
            self._counts.accepted += 1
            self._counts.open_connections += 1
            self._per_network[network_of(peer)] += 1
            self._begin(stream, peer, shared)
        else:
            self._counts.refused += 1
            if self._refusing < POLITE_REFUSALS:
                self._refusing += 1
                shared.nursery.start_soon(self._refuse, stream)
            else:
                stream.close()

    def _may_serve(self, peer: str) -> bool:
        config = self._config
        if self._counts.open_connections >= config.connections:
            return False
        network = network_of(peer)
        if network in config.uncounted_addresses:
            return True
        if self._per_network[network] < config.connections_per_address:
            return True
        return parse_address(peer) in config.trusted_proxies

    async def _refuse(self, stream: TcpStream) -> None:
        refused = RefusedRequest(
            503,
            "There are too many connections.",
            code="unavailable",
            headers=((b"retry-after", RETRY_AFTER), *self._config.refusal_headers),
        )
        try:
            with trio.move_on_after(self._config.linger_time):
                await stream.send_all(closing_response_bytes(refused))
                await stream.send_eof()
                while await stream.receive_some(MAX_RECV):
                    pass
        except OSError:
            pass
        finally:
            self._refusing -= 1
            stream.close()

    def _begin(self, stream: TcpStream, peer: str, shared: SharedParts) -> None:
        connection = PeerConnection(stream, shared)
        self._connections.add(connection)
        over = True
        try:
            with Boundary(partial(self._fault, peer)):
                connection.peer.sleep(self._waker(connection, peer, shared))
                over = False
        finally:
            if over:
                self._end(connection, peer)

    def _waker(self, connection: PeerConnection, peer: str, shared: SharedParts) -> Callable[[], None]:
        """What starts a reader of a connection that sleeps."""
        return partial(shared.nursery.start_soon, self._serve, connection, peer, shared)

    async def _serve(self, connection: PeerConnection, peer: str, shared: SharedParts) -> None:
        """The boundary: an exception in here ends this connection only."""
        over = True
        try:
            with Boundary(partial(self._fault, peer)):
                over = await connection.serve(self._waker(connection, peer, shared))
        finally:
            if over:
                self._end(connection, peer)

    def _end(self, connection: PeerConnection, peer: str) -> None:
        connection.peer.abort()
        self._connections.discard(connection)
        self._counts.open_connections -= 1
        network = network_of(peer)
        self._per_network[network] -= 1
        if not self._per_network[network]:
            del self._per_network[network]
        self._ended.unpark_all()

    def _fault(self, peer: str, error: Exception) -> None:
        self._counts.faults += 1
        log.error("connection_failed", client=peer or None, exc_info=error)

    # --- ending --------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Wait until all connections have ended, at most until the deadline."""
        log.info("draining", connections=len(self._connections))
        with trio.move_on_after(self._config.drain_time):
            for connection in self._connections:
                connection.drain()
            with trio.move_on_after(self._config.drain_socket_time):
                await self._until(lambda: not self._counts.open_sockets and not self._any_fresh())
            for connection in self._connections:
                connection.restart()
            await self._until(lambda: not self._connections)
        if self._connections:
            log.warning("drain_cut_short", connections=len(self._connections))

    def _any_fresh(self) -> bool:
        return any(connection.fresh for connection in self._connections)

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            await self._ended.park()

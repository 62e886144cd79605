"""What stands between a connection's reader and the application: a bounded inbox, and the task it runs in."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

from adapters.listener.boundary import Boundary
from adapters.listener.counts import ListenerCounts
from adapters.listener.logs import log

EVENT_OVERHEAD = 256
"""Bytes that an event takes beside its payload, roughly: many small ones must not hide from the bound."""


class InboxObserver(Protocol):
    """Who wants to know that the application receives."""

    async def wanted(self) -> None:
        """The application waits, and nothing is there."""

    def changed(self) -> None:
        """The application has done what may let the reader go on: the inbox is no longer full, say."""


class Inbox:
    """Events on their way to the application; the reader puts without waiting and stops reading when full.

    Hypercorn 0.18 waits in `put` for an application that does not receive: pings, closes and EOF go unseen.
    """

    __slots__ = ("_arrived", "_consumer", "_events", "_max_bytes", "_max_events", "bytes")

    def __init__(self, consumer: InboxObserver, max_events: int, max_bytes: int) -> None:
        self._consumer = consumer
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: list[ASGIReceiveEvent] = []  # a deque takes 600 bytes when it is empty
        self._arrived: trio.Event | None = None
        self.bytes = 0

    @property
    def full(self) -> bool:
        """Whether the reader must pause: checked before each message, so that one of them may overshoot."""
        return len(self._events) >= self._max_events or self.bytes >= self._max_bytes

    async def put(self, event: ASGIReceiveEvent) -> None:
        """Add an event; a coroutine only because Hypercorn awaits it: it never waits, full or not."""
        self._events.append(event)
        self.bytes += _size(event)
        if self._arrived is not None:
            self._arrived.set()
            self._arrived = None

    def drop(self) -> None:
        """Forget what waits: nobody will receive it."""
        self._events.clear()
        self.bytes = 0

    async def receive(self) -> ASGIReceiveEvent:
        """ASGI's `receive`. After a disconnect it waits for ever, as Hypercorn's does."""
        if self._events and self._events[0]["type"] == "websocket.connect":
            await trio.lowlevel.checkpoint_if_cancelled()  # it comes once, and the task has just begun
        elif self._events:
            await trio.lowlevel.checkpoint()
        while not self._events:
            await self._consumer.wanted()
            if self._events:
                break  # it came while the peer was told
            if self._arrived is None:
                self._arrived = trio.Event()
            await self._arrived.wait()
        was_full = self.full
        event = self._events.pop(0)
        self.bytes -= _size(event)
        if was_full and not self.full:
            self._consumer.changed()
        return event


def _size(event: ASGIReceiveEvent) -> int:
    if event["type"] == "http.request":
        return len(event["body"])
    if event["type"] == "websocket.receive":
        return len(event["bytes"] or event["text"] or "") + EVENT_OVERHEAD
    return 0


class AppTasks(TaskGroup):
    """The tasks of the application on one connection: each has a boundary, none outlives the connection long.

    Overrides how Hypercorn 0.18 starts them: its inbox makes the reader wait for the application. They run in
    the nursery of all connections, for one of its own would take an idle connection 2 KiB.
    """

    __slots__ = ("_all", "_counts", "_ended", "_max_bytes", "_max_events", "_running", "consumer", "inbox")

    def __init__(
        self, nursery: trio.Nursery, counts: ListenerCounts, max_events: int, max_bytes: int
    ) -> None:
        self._counts = counts
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.consumer: InboxObserver
        self.inbox: Inbox
        """Of the newest task: HTTP/1.1 has one at a time that still receives."""
        self._all = nursery
        self._running: list[trio.CancelScope] = []
        self._ended: trio.Event | None = None

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,  # noqa: ARG002 - the signature is Hypercorn's
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        self.inbox = Inbox(self.consumer, self._max_events, self._max_bytes)
        path = b"" if scope["type"] == "lifespan" else scope["raw_path"]
        self.start_soon(path.decode("latin-1"), partial(self._run, app, scope, self.inbox.receive, send))
        return self.inbox.put

    def start_soon(self, path: str, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task; what it does not catch is logged as a failure at `path`."""
        scope = trio.CancelScope()
        self._running.append(scope)
        self._all.start_soon(self._contained, path, task, scope)

    async def end(self, patience: float) -> bool:
        """Wait until none runs; whether any had to be cancelled, which is after `patience` seconds.

        A handler that never looks would otherwise stay for ever.
        """
        running = tuple(self._running)
        for scope in running:
            scope.deadline = trio.current_time() + patience
        while self._running:
            self._ended = trio.Event()
            await self._ended.wait()
        return any(scope.cancelled_caught for scope in running)

    def report(self, path: str, error: Exception) -> None:
        """Note what the application did not catch."""
        self._counts.application_errors += 1
        log.error("application_failed", path=path, exc_info=error)

    async def _contained(
        self, path: str, task: Callable[[], Awaitable[None]], scope: trio.CancelScope
    ) -> None:
        try:
            with scope, Boundary(partial(self.report, path)):
                await task()
        finally:
            self._running.remove(scope)
            if self._ended is not None and not self._running:
                self._ended.set()

    async def _run(self, app: AppWrapper, scope: Scope, receive: Any, send: Any) -> None:
        path = b"" if scope["type"] == "lifespan" else scope["raw_path"]
        try:
            with Boundary(partial(self.report, path.decode("latin-1"))):
                await app(scope, receive, send, trio.to_thread.run_sync, trio.from_thread.run)
        finally:
            await send(None)

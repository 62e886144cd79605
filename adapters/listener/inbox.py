"""The bounded inbox between a connection's reader and the application, and the application's tasks."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

import trio
from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent, WWWScope

from adapters.listener.boundary import Boundary
from adapters.listener.shared import SharedParts

EVENT_OVERHEAD = 256
"""Approximate bytes of an event beside its payload, so that the bound holds for many small events too."""


class InboxObserver(Protocol):
    """What an inbox calls when the application receives."""

    async def body_awaited(self) -> None:
        """The application waits, and the inbox is empty."""

    def inbox_has_room(self) -> None:
        """The application has received from a full inbox, which has room again."""


class Inbox:
    """Events for the application; the reader puts without waiting, and stops reading while it is full.

    Hypercorn 0.18 waits in `put` for an application that does not receive, and misses pings, closes and EOF.
    """

    __slots__ = ("_arrived", "_events", "_max_bytes", "_max_events", "_observer", "bytes")

    def __init__(self, observer: InboxObserver, max_events: int, max_bytes: int) -> None:
        self._observer = observer
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: list[ASGIReceiveEvent] = []  # an empty deque takes 600 bytes
        self._arrived: trio.Event | None = None
        self.bytes = 0

    @property
    def full(self) -> bool:
        """Whether the reader must pause; checked before each message, so the last one may exceed the
        bound.
        """
        return len(self._events) >= self._max_events or self.bytes >= self._max_bytes

    def put(self, event: ASGIReceiveEvent) -> None:
        """Add an event, even if full."""
        self._events.append(event)
        self.bytes += _size(event)
        if self._arrived is not None:
            self._arrived.set()
            self._arrived = None

    def empty(self) -> Sequence[ASGIReceiveEvent]:
        """Remove and return all events: the application receives no more."""
        events, self._events = self._events, []
        self.bytes = 0
        return events

    async def receive(self) -> ASGIReceiveEvent:
        """ASGI's `receive`. After a disconnect it waits without end, as Hypercorn's does."""
        if self._events and self._events[0]["type"] == "websocket.connect":
            await trio.lowlevel.checkpoint_if_cancelled()  # there is only one, and the task has just started
        elif self._events:
            await trio.lowlevel.checkpoint()
        while not self._events:
            await self._observer.body_awaited()
            if self._events:
                break  # it arrived while the 100 was being written
            if self._arrived is None:
                self._arrived = trio.Event()
            await self._arrived.wait()
        was_full = self.full
        event = self._events.pop(0)
        self.bytes -= _size(event)
        if was_full and not self.full:
            self._observer.inbox_has_room()
        return event


def _size(event: ASGIReceiveEvent) -> int:
    if event["type"] == "http.request":
        return len(event["body"])
    if event["type"] == "websocket.receive":
        return len(event["bytes"] or event["text"] or "") + EVENT_OVERHEAD
    return 0


class AppTasks:
    """The application's tasks on one connection: each has a boundary, and a bounded time after its end."""

    __slots__ = ("_ended", "_observer", "_running", "_shared", "inbox")

    def __init__(self, shared: SharedParts, observer: InboxObserver) -> None:
        self._shared = shared
        self._observer = observer
        self.inbox: Inbox
        """Of the newest task; in HTTP/1.1 only one task at a time receives."""
        self._running: list[trio.CancelScope] = []
        self._ended: trio.Event | None = None

    def start_app(self, scope: WWWScope, send: Callable[[ASGISendEvent | None], Awaitable[None]]) -> Inbox:
        """Call the application in a task; returns the inbox from which it receives.

        At its end, however it ends, `send` receives None.
        """
        config = self._shared.config
        inbox = self.inbox = Inbox(self._observer, config.inbox_messages, config.inbox_bytes)
        path = scope["raw_path"].decode("latin-1")
        self.start_soon(path, partial(self._run, scope, path, inbox, send))
        return inbox

    async def _run(self, scope: WWWScope, path: str, inbox: Inbox, send: Any) -> None:
        try:
            with Boundary(partial(self._shared.report, path)):
                await self._shared.app(
                    scope, inbox.receive, send, trio.to_thread.run_sync, trio.from_thread.run
                )
        finally:
            await send(None)

    def start_soon(self, path: str, task: Callable[[], Awaitable[None]]) -> None:
        """Run a task; exceptions that it does not catch are logged with `path`."""
        scope = trio.CancelScope()
        self._running.append(scope)
        self._shared.nursery.start_soon(self._contained, path, task, scope)

    async def end(self, patience: float) -> bool:
        """Wait for all tasks, cancel them after `patience` seconds, and return whether any was cancelled.

        A handler that ignores the disconnect would otherwise run without end.
        """
        running = tuple(self._running)
        for scope in running:
            scope.deadline = trio.current_time() + patience
        while self._running:
            self._ended = trio.Event()
            await self._ended.wait()
        return any(scope.cancelled_caught for scope in running)

    async def _contained(
        self, path: str, task: Callable[[], Awaitable[None]], scope: trio.CancelScope
    ) -> None:
        try:
            with scope, Boundary(partial(self._shared.report, path)):
                await task()
        finally:
            self._running.remove(scope)
            if self._ended is not None and not self._running:
                self._ended.set()

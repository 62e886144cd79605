"""What stands between a connection's reader and the application: a bounded inbox, and the task it runs in."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import trio
from hypercorn.config import Config
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ASGIReceiveEvent, ASGISendEvent, Scope

from adapters.listener.boundary import Boundary
from adapters.listener.counts import Counts
from adapters.listener.logs import log

EVENT_OVERHEAD = 256
"""Bytes that an event takes beside its payload, roughly: many small ones must not hide from the bound."""


class Consumer(Protocol):
    """Who wants to know that the application receives."""

    async def wanted(self) -> None:
        """The application waits, and nothing is there."""

    def changed(self) -> None:
        """The application has done what may let the reader go on: the inbox is no longer full, say."""


class Inbox:
    """Events on their way to the application; the reader puts without waiting and stops reading when full.

    Hypercorn 0.18 waits in `put` for an application that does not receive: pings, closes and EOF go unseen.
    """

    __slots__ = ("_arrived", "_consumer", "_events", "_max_bytes", "_max_events", "_size", "bytes")

    def __init__(self, consumer: Consumer, max_events: int, max_bytes: int) -> None:
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

    async def receive(self) -> ASGIReceiveEvent:
        """ASGI's `receive`. After a disconnect it waits for ever, as Hypercorn's does."""
        if self._events:
            await trio.lowlevel.checkpoint()
        while not self._events:
            await self._consumer.wanted()
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

    Overrides how Hypercorn 0.18 starts them: its inbox makes the reader wait for the application.
    """

    def __init__(self, counts: Counts, max_events: int, max_bytes: int) -> None:
        super().__init__()
        self._counts = counts
        self._max_events = max_events
        self._max_bytes = max_bytes
        self.consumer: Consumer
        self.inbox: Inbox
        """Of the newest task: HTTP/1.1 has one at a time that still receives."""
        self._scope: trio.CancelScope | None = None

    async def spawn_app(
        self,
        app: AppWrapper,
        config: Config,  # noqa: ARG002 - the signature is Hypercorn's
        scope: Scope,
        send: Callable[[ASGISendEvent | None], Awaitable[None]],
    ) -> Callable[[ASGIReceiveEvent], Awaitable[None]]:
        self.inbox = Inbox(self.consumer, self._max_events, self._max_bytes)
        self.nursery.start_soon(self._run, app, scope, self.inbox.receive, send)
        return self.inbox.put

    @property
    def nursery(self) -> trio.Nursery:
        if self._nursery is None:
            raise RuntimeError("the connection has not begun or is over")
        return self._nursery

    def abandon_after(self, seconds: float) -> None:
        """Cancel what still runs then: a handler that never looks would otherwise stay for ever."""
        self.nursery.cancel_scope.deadline = trio.current_time() + seconds
        self._scope = self.nursery.cancel_scope

    @property
    def abandoned(self) -> bool:
        """Whether that has happened."""
        return self._scope is not None and self._scope.cancelled_caught

    async def _run(self, app: AppWrapper, scope: Scope, receive: Any, send: Any) -> None:
        try:
            with Boundary(partial(self._failed, scope)):
                await app(scope, receive, send, trio.to_thread.run_sync, trio.from_thread.run)
        finally:
            await send(None)

    def _failed(self, scope: Scope, error: Exception) -> None:
        self._counts.application_errors += 1
        path = b"" if scope["type"] == "lifespan" else scope["raw_path"]
        log.error("application_failed", path=path.decode("latin-1"), exc_info=error)

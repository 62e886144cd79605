"""The application's lifespan, watched."""

import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.typing import AppWrapper, ASGISendEvent, LifespanState


class LifespanEnded(Exception):
    """The application's lifespan ended while it was being served; its log line tells why."""


class WatchedLifespan(Lifespan):
    """Notices an end that nobody asked for.

    Hypercorn 0.18 goes on serving an application whose lifespan has crashed, background tasks and all.
    """

    def __init__(self, app: AppWrapper, config: Config, state: LifespanState) -> None:
        super().__init__(app, config, state)
        self.ended = trio.Event()
        """Set when it crashed between startup.complete and the shutdown event."""
        self._serving = False

    async def handle_lifespan(self, *, task_status: trio.TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        await super().handle_lifespan(task_status=task_status)
        if self._serving and not self.supported:  # what Hypercorn writes down for an exception
            self.ended.set()

    async def asgi_send(self, message: ASGISendEvent) -> None:
        self._serving = message["type"] == "lifespan.startup.complete"
        await super().asgi_send(message)

    async def wait_for_shutdown(self) -> None:
        """Tell the application and wait for its answer, unless it has gone; raises `LifespanTimeoutError`."""
        self._serving = False
        if not self.shutdown.is_set():  # set too when the lifespan is over: its channel is closed then
            await super().wait_for_shutdown()

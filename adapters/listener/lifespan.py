"""The application's lifespan, and the detection of its crash."""

import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.typing import AppWrapper, ASGISendEvent, LifespanState


class LifespanEnded(Exception):
    """The application's lifespan ended while the server was running; its log line has the reason."""


class WatchedLifespan(Lifespan):
    """Detects a lifespan that ends before the shutdown.

    Hypercorn 0.18 continues to serve an application whose lifespan, with its background tasks, has crashed.
    """

    def __init__(self, app: AppWrapper, config: Config, state: LifespanState) -> None:
        super().__init__(app, config, state)
        self.ended = trio.Event()
        """Set after a crash between startup.complete and the shutdown event."""
        self._serving = False

    async def handle_lifespan(self, *, task_status: trio.TaskStatus = trio.TASK_STATUS_IGNORED) -> None:
        await super().handle_lifespan(task_status=task_status)
        if self._serving and not self.supported:  # Hypercorn clears `supported` after an exception
            self.ended.set()

    async def asgi_send(self, message: ASGISendEvent) -> None:
        self._serving = message["type"] == "lifespan.startup.complete"
        await super().asgi_send(message)

    async def wait_for_shutdown(self) -> None:
        """Send lifespan.shutdown and await its completion, unless the lifespan has ended.

        Raises `LifespanTimeoutError`.
        """
        self._serving = False
        if not self.shutdown.is_set():  # also set after the lifespan's end, when its channel is closed
            await super().wait_for_shutdown()

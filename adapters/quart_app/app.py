"""The application: the endpoints on the quick path, the socket, and the framework for everything else."""

import sys
from collections.abc import Callable
from functools import partial

import trio
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

from adapters.http_api.api import HttpApi
from adapters.quart_app.config import HttpConfig
from adapters.quart_app.refusals import RepeatedRefusals
from adapters.quart_app.socket import PATH as SOCKET_PATH
from adapters.quart_app.socket import SocketEndpoint
from adapters.runtime import Messaging

SWITCH_INTERVAL = 0.0001
"""Seconds for which the thread keeps the interpreter lock when the event loop wants it. The loop releases the
lock at each system call, a dozen times for a request; with Python's default it would wait 0.005 each time."""
USUAL_SWITCH_INTERVAL = sys.getswitchinterval()
"""The interval as the program begins: later a thread of the storage may have shortened it."""


class LazyApp:
    """An ASGI application that is built in a thread at its first call; concurrent calls wait for it."""

    def __init__(self, build: Callable[[], ASGIFramework]) -> None:
        self._build = build
        self._app: ASGIFramework | None = None
        self._building = trio.Lock()

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        app = self._app or await self.load()
        await app(scope, receive, send)

    async def load(self) -> ASGIFramework:
        async with self._building:
            if self._app is None:
                sys.setswitchinterval(SWITCH_INTERVAL)
                try:
                    self._app = await trio.to_thread.run_sync(self._build)
                finally:
                    sys.setswitchinterval(USUAL_SWITCH_INTERVAL)
            return self._app


class Application:
    """An ASGI application, and its quick path for a listener that bypasses ASGI."""

    def __init__(
        self,
        messaging: Messaging,
        *,
        framework: LazyApp,
        socket: SocketEndpoint,
        api: HttpApi,
    ) -> None:
        self._messaging = messaging
        self._framework = framework
        self._socket = socket
        self.api = api
        """Responds to whole requests, for a listener that bypasses ASGI."""

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket" and scope["path"] == SOCKET_PATH:
            await self._socket(scope, receive, send)
        else:
            await self._framework(scope, receive, send)

    async def load(self) -> None:
        """Load the framework now, so that the first request for it does not wait."""
        await self._framework.load()

    async def _live(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await receive()  # lifespan.startup
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._messaging.keep_house)
            nursery.start_soon(self._socket.keep_house)
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
            nursery.cancel_scope.cancel()
        await send({"type": "lifespan.shutdown.complete"})


def create_app(messaging: Messaging, config: HttpConfig) -> Application:
    """The application over `messaging`; it runs the housekeeping of `messaging` during its lifespan."""
    api = HttpApi(messaging, config, trio.current_time)
    return Application(
        messaging,
        framework=LazyApp(partial(_make_framework, api, config, messaging)),
        socket=SocketEndpoint(
            messaging,
            config.cors_origins,
            _refusals(messaging, config),
            profile=config.socket_profile,
        ),
        api=api,
    )


def _refusals(messaging: Messaging, config: HttpConfig) -> RepeatedRefusals | None:
    if not config.rate_limits:
        return None
    rate = messaging.limits.refused_socket_rate
    return RepeatedRefusals(rate, trio.current_time, handshake_time=config.handshake_time)


def _make_framework(api: HttpApi, config: HttpConfig, messaging: Messaging) -> ASGIFramework:
    # Loading it takes a fifth of a server's start, and neither the API nor the socket needs it.
    from adapters.quart_app.framework import make_framework  # noqa: PLC0415

    return make_framework(api, config, messaging.limits, messaging.avatar_hosts)

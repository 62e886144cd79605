"""The application: the endpoints by the short way, the socket, and for all else the framework."""

import sys
from collections.abc import Callable
from functools import partial

import trio
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

from adapters.quart_app.config import HttpConfig
from adapters.quart_app.cors import Cors
from adapters.quart_app.dispatch import Dispatcher
from adapters.quart_app.quick_path import QuickPath
from adapters.quart_app.refusals import RepeatedRefusals
from adapters.quart_app.routes import ENDPOINTS
from adapters.quart_app.socket import PATH as SOCKET_PATH
from adapters.quart_app.socket import SocketEndpoint
from adapters.runtime import Messaging
from adapters.runtime.throttles import Throttles

LET_GO = 0.0001
"""Seconds for which the thread keeps the interpreter when the event loop wants it. The loop lets go of it at
each call of the system, a dozen times for a request, and would wait 0.005 each time by Python's default."""


class Late:
    """An ASGI application that is made once, in a thread, by the first who needs it; others wait for it."""

    def __init__(self, make: Callable[[], ASGIFramework]) -> None:
        self._make = make
        self._made: ASGIFramework | None = None
        self._making = trio.Lock()

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        app = self._made or await self.load()
        await app(scope, receive, send)

    async def load(self) -> ASGIFramework:
        async with self._making:
            if self._made is None:
                usual = sys.getswitchinterval()
                sys.setswitchinterval(LET_GO)
                try:
                    self._made = await trio.to_thread.run_sync(self._make)
                finally:
                    sys.setswitchinterval(usual)
            return self._made


class Application:
    """An ASGI application, and the part of it that a listener may ask without ASGI."""

    def __init__(
        self,
        messaging: Messaging,
        *,
        framework: Late,
        cors: Cors,
        socket: SocketEndpoint,
        quick_path: QuickPath,
    ) -> None:
        self._messaging = messaging
        self._framework = framework
        self._cors = cors
        self._socket = socket
        self.quick_path = quick_path

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket" and scope["path"] == SOCKET_PATH:
            await self._socket(scope, receive, send)
        else:
            await self._cors(scope, receive, send)

    async def load(self) -> None:
        """Load what is not loaded before it is needed: the first who need it do not wait for it then."""
        await self._framework.load()

    async def _live(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await receive()  # lifespan.startup
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._messaging.keep_house)
            await send({"type": "lifespan.startup.complete"})
            await receive()  # lifespan.shutdown
            nursery.cancel_scope.cancel()
        await send({"type": "lifespan.shutdown.complete"})


def create_app(messaging: Messaging, config: HttpConfig) -> Application:
    """The application over `messaging`, whose housekeeping runs for as long as the application does."""
    throttles = Throttles(trio.current_time) if config.rate_limits else None
    dispatcher = Dispatcher(messaging, throttles)
    framework = Late(partial(_make_framework, dispatcher, config, messaging))
    cors = Cors(framework, config.cors_origins)
    return Application(
        messaging,
        framework=framework,
        cors=cors,
        socket=SocketEndpoint(messaging, config.cors_origins, _refusals(messaging, config)),
        quick_path=QuickPath(dispatcher, ENDPOINTS, cors, largest_body=config.largest_body),
    )


def _refusals(messaging: Messaging, config: HttpConfig) -> RepeatedRefusals | None:
    if not config.rate_limits:
        return None
    rate = messaging.limits.refused_socket_rate
    return RepeatedRefusals(rate, trio.current_time, handshake_time=config.handshake_time)


def _make_framework(dispatcher: Dispatcher, config: HttpConfig, messaging: Messaging) -> ASGIFramework:
    # It takes a fifth of a server's start to load, and neither the API nor the socket waits for it.
    from adapters.quart_app.framework import make_framework  # noqa: PLC0415

    return make_framework(dispatcher, config, messaging.limits, messaging.avatar_hosts)

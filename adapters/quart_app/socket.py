"""The WebSocket at `/ws`: who it is, then events out for as long as the session lasts."""

from collections.abc import Collection
from contextlib import ExitStack
from urllib.parse import parse_qs

import structlog
import trio
from quart import websocket

from adapters.quart_app.cors import origin_allowed
from adapters.quart_app.dispatch import bearer_token
from adapters.runtime import LocalSocket, Messaging, TooManySockets
from adapters.runtime.hub import POLICY_VIOLATION, TOO_MANY_SOCKETS, Close, Transport
from messaging_core.errors import TokenInvalid, Unauthenticated
from messaging_core.sockets import payloads

log = structlog.get_logger(__name__)

OUR_FAULT = Close(1011, "internal_error")
ORIGIN_NOT_ALLOWED = Close(POLICY_VIOLATION, "origin_not_allowed")
PROFILE_UNKNOWN = Close(4500, "profile_unknown")

DIRECT_FRAMES = "direct_frames"
"""The scope's extension by which our own listener takes frames that are made once for many sockets."""

BEARER = "bearer"
"""The subprotocol that is offered together with a token, where a client can set no header."""


async def serve_socket(messaging: Messaging, origins: Collection[str]) -> None:
    """One socket of profile 1, from its handshake to its close.

    A refused one is accepted first and then closed with 1008 and the reason: closed before, it would be a
    403, which a browser reports as 1006 without a reason. What the client sends is read and ignored.
    """
    subprotocol = BEARER if BEARER in websocket.requested_subprotocols else None
    with ExitStack() as stack:
        # Known to the hub before the client sees it open: from then on it misses nothing.
        admitted = await _admit(messaging, origins, stack)
        await websocket.accept(subprotocol=subprotocol)
        if isinstance(admitted, Close):
            await _close(admitted)
            return
        log.info("WebSocket connected: user_id=%d", admitted.actor.user_id)
        try:
            await _serve(admitted)
        except Exception:
            log.exception("A WebSocket failed", user_id=admitted.actor.user_id)
            await _close(OUR_FAULT)


async def _admit(messaging: Messaging, origins: Collection[str], stack: ExitStack) -> LocalSocket | Close:
    """The socket, connected to the hub until the stack is left, or how to close it."""
    refusal = _unfit(origins)
    if refusal is not None:
        return refusal
    try:
        actor = await messaging.authenticate(_token())
        socket = stack.enter_context(messaging.hub.connected(actor))
        # Once more, now that the hub would close it: the session may have ended in between.
        await messaging.close_sockets_of_ended_sessions([actor.session_id])
    except Unauthenticated as error:
        return Close(POLICY_VIOLATION, error.code)
    except TooManySockets:
        return TOO_MANY_SOCKETS
    except Exception:
        log.exception("A WebSocket could not be admitted")
        return OUR_FAULT
    return socket


def _unfit(origins: Collection[str]) -> Close | None:
    origin = websocket.headers.get("Origin")
    if origin is not None and not origin_allowed(origin, origins):
        return ORIGIN_NOT_ALLOWED
    if _query("profile") not in (None, "1"):
        return PROFILE_UNKNOWN
    return None


def _token() -> str:
    """The token in the query, the Authorization header, or after `bearer` among the subprotocols."""
    token = _query("token")
    if token is not None:
        return token
    if "Authorization" in websocket.headers:
        return bearer_token(websocket.headers["Authorization"])
    offered = websocket.requested_subprotocols
    if BEARER in offered[:-1]:
        return offered[offered.index(BEARER) + 1]
    raise TokenInvalid


def _query(name: str) -> str | None:
    told = parse_qs(websocket.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return told[name][-1] if name in told else None


async def _serve(socket: LocalSocket) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_drain)
        sink: Transport | None = websocket.scope["extensions"].get(DIRECT_FRAMES, {}).get("sink")
        await _close(await socket.write_to(sink or _Messages()))
        nursery.cancel_scope.cancel()


class _Messages:
    """The way out through ASGI, for a server that offers no other: one message at a time."""

    def offer(self, frame: bytes) -> int:
        del frame
        return 0

    async def write(self, frames: bytes) -> None:
        for payload in payloads(frames):
            await websocket.send(payload.decode())


async def _drain() -> None:
    """Read and drop what the client sends: a socket that is not read never hears of pings and closes."""
    while True:
        await websocket.receive()


async def _close(close: Close) -> None:
    await websocket.close(close.code, close.reason)

"""One whole request on its connection: awaits its body, responds to it by one call, and logs it."""

from collections.abc import Iterable
from functools import partial
from time import perf_counter

import trio

from adapters.http_api.exchange import HttpRequest, HttpResponse
from adapters.listener.boundary import Boundary
from adapters.listener.config import ListenerConfig
from adapters.listener.http1 import Http1
from adapters.listener.logs import log_request
from adapters.listener.peer import Peer
from adapters.listener.refused_request import RefusedRequest
from adapters.listener.responses import closing_response, closing_response_bytes
from adapters.listener.whole_requests import (
    MAX_BODY,
    SEPARATE,
    PlainHead,
    WholeRequests,
    WholeRoute,
    response_head,
)


def begin_exchange(
    head: PlainHead, offered: WholeRequests | None, limits: ListenerConfig
) -> "WholeExchange | None":
    """Start an exchange if the application responds to this request without ASGI, otherwise None."""
    if offered is None:
        return None
    if head.length > min(MAX_BODY, limits.body_bytes):
        return None
    route = offered.route(head.method, head.path)
    if route is None or head.length > route.body_bytes:
        return None
    return WholeExchange(head, route)


class WholeExchange:
    """A request that one call responds to; the connection's reader advances it.

    Each step receives the connection's parts as arguments: attributes would create a reference cycle for each
    request, which only the garbage collector frees.
    """

    __slots__ = ("_head_checked", "_last", "_route", "has_responded", "head")

    def __init__(self, head: PlainHead, route: WholeRoute) -> None:
        self._route = route
        self._head_checked = False
        """Whether the application has already decided about a refusal by the head."""
        self._last = True
        """Whether the connection closes after the response, as it does after a failure."""
        self.has_responded = False
        self.head = head

    async def step(self, http: Http1, peer: Peer) -> bool:
        """Respond once the body is complete, or by the head; returns whether another step may be possible.

        Afterwards the machine awaits the next request or drops the body, or the connection ends.
        """
        body = http.whole_body()
        if body is None:
            return not self._head_checked and await self._refuse_by_head(http, peer)
        head = self.head
        client = "" if http.heads.client is None else http.heads.client[0]
        request = HttpRequest(head.method, head.path, head.query, head.fields, body, client)
        started = perf_counter()
        response, written_head = None, b""
        with Boundary(partial(peer.shared.report, head.path)):
            if head.method == "GET":
                response = await self._respond_to_get(peer, request)
            else:
                response = await self._route.respond(request)
            written_head = self._head_of(http, response)
        await self._send(http, peer, response, written_head, started)
        self.has_responded = True
        return http.whole_responded(trio.current_time(), last=self._last)

    async def _refuse_by_head(self, http: Http1, peer: Peer) -> bool:
        """Respond to a request that is refused by its head; returns whether another step may be possible.

        Its body is dropped as it arrives, so that the client, which may still be sending it, reads the
        response and not a reset.
        """
        self._head_checked = True
        head = self.head
        client = "" if http.heads.client is None else http.heads.client[0]
        request = HttpRequest(head.method, head.path, head.query, head.fields, b"", client)
        started = perf_counter()
        refusal, written_head = None, b""
        with Boundary(partial(peer.shared.report, head.path)):
            refusal = await self._route.refusal(request)
            if refusal is None:
                return False
            written_head = self._head_of(http, refusal)
        await self._send(http, peer, refusal, written_head, started)
        self.has_responded = True
        return http.whole_refused(last=self._last)

    async def _respond_to_get(self, peer: Peer, request: HttpRequest) -> HttpResponse:
        """Respond to a GET, in turns with other tasks; if the response has no room, wait and build it again.

        The response is not in memory while it waits. One that found no room recently waits before it is
        built.
        """
        turns, unsent = peer.shared.turns, peer.shared.unsent
        if turns.spent:
            await turns.next()
        asked = (request.path, request.query, request.headers.get("authorization"))
        size = unsent.refused_size(asked)
        if not size or peer.writer.has_room(size):
            began = perf_counter()
            response = await self._route.respond(request)
            turns.spend(perf_counter() - began)
            size = len(response.body)
            if size <= SEPARATE or peer.writer.has_room(size):
                return response
            unsent.note_refused_size(asked, size)
            del response
        async with unsent.reserve(peer.address, size) as found:
            if found:
                response = await self._route.respond(request)
                unsent.note_refused_size(asked, 0)
                if len(response.body) <= size or peer.writer.has_room(len(response.body) - size):
                    return response
        peer.shared.counts.unsent_refused += 1
        return self._route.busy(request)

    def _head_of(self, http: Http1, response: HttpResponse) -> bytes:
        """The bytes of the response's head; raises `ValueError` for a field that cannot be sent."""
        last = http.draining or self.head.last
        written = response_head(response, close=last, requested=self.head.last)
        self._last = last
        return written

    async def _send(
        self,
        http: Http1,
        peer: Peer,
        response: HttpResponse | None,
        written_head: bytes,
        started: float,
    ) -> None:
        """Write and log a response, or a 500 if the application failed, after which the connection closes."""
        fields: Iterable[tuple[str, str]] = ()
        if response is None or not written_head:
            self._last = True
            refused = RefusedRequest(500, "The server failed.", code="internal_error")
            status, body = refused.status, closing_response(refused)[1]
            more = peer.shared.hypercorn.response_headers("h11")
            await peer.writer.write(closing_response_bytes(refused, *more))
        else:
            status, fields, body = response.status, response.headers, response.body
            if len(body) > SEPARATE:
                await peer.writer.write(written_head, body)
            else:
                await peer.writer.write(written_head + body)
        log_request(
            self.head.method,
            self.head.path,
            status,
            size=len(body),
            seconds=perf_counter() - started,
            client=None if http.heads.client is None else http.heads.client[0],
            fields=fields,
        )

    def log_listener_response(self, http: Http1, status: int) -> None:
        """Log a request that the listener has responded to in place of the application."""
        log_request(
            self.head.method,
            self.head.path,
            status,
            size=0,
            seconds=trio.current_time() - http.began,
            client=None if http.heads.client is None else http.heads.client[0],
            fields=(),
        )

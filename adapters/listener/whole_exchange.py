"""One whole request on its connection: awaits its body, answers it by one call, and logs it."""

from functools import partial
from time import perf_counter

import trio

from adapters.http_api.exchange import HttpAnswer, HttpRequest
from adapters.listener.answers import NOT_WELL_FORMED, RefusedRequest, closing_answer, closing_answer_bytes
from adapters.listener.boundary import Boundary
from adapters.listener.config import ListenerConfig
from adapters.listener.link import StreamOwner
from adapters.listener.logs import log_request
from adapters.listener.whole_requests import (
    MAX_BODY,
    SEPARATE,
    PlainHead,
    WholeRequests,
    WholeRoute,
    answer_head,
)


def begin_exchange(
    head: PlainHead, offered: WholeRequests | None, limits: ListenerConfig
) -> "WholeExchange | None":
    """Start an exchange if the application answers this request without ASGI, otherwise None."""
    if offered is None:
        return None
    if head.length > min(MAX_BODY, limits.body_bytes):
        return None
    route = offered.route(head.method, head.path)
    if route is None or head.length > route.body_bytes:
        return None
    return WholeExchange(head, route)


class WholeExchange:
    """A request that one call answers; the connection's reader advances it, as it does streams.

    Each step receives the protocol as an argument: an attribute would create a reference cycle for each
    request, which only the garbage collector frees.
    """

    __slots__ = ("_head_checked", "_last", "_route", "_unread", "head")

    def __init__(self, head: PlainHead, route: WholeRoute) -> None:
        self._route = route
        self._head_checked = False
        """Whether the application has already decided about a refusal by the head."""
        self._last = True
        """Whether the connection closes after the answer."""
        self._unread = 0
        """Bytes of the body to drop, after a refusal by the head."""
        self.head = head

    async def step(self, protocol: StreamOwner, received: bytearray, *, ended: bool) -> bool:
        """Answer once `received` starts with the complete body; returns whether another step may be
        possible.
        """
        head = self.head
        if len(received) < head.length:
            if ended:
                raise RefusedRequest(400, NOT_WELL_FORMED)
            return not self._head_checked and await self._refuse_by_head(protocol, received)
        body = bytes(received[: head.length])
        del received[: head.length]
        client = "" if protocol.client is None else protocol.client[0]
        request = HttpRequest(head.method, head.path, head.query, head.fields, body, client)
        started = perf_counter()
        answer, written_head = None, b""
        with Boundary(partial(protocol.task_group.report, head.path)):
            if head.method == "GET":
                answer = await self._answer_get(protocol, request)
            else:
                answer = await self._route.answer(request)
            written_head = self._head_of(protocol, answer)
        if not await self._send(protocol, answer, written_head, started, client or None):
            return False
        protocol.next_request()
        if received:
            await trio.lowlevel.checkpoint()  # pipelined requests must let other tasks run
            return True
        return ended or protocol.draining

    async def _refuse_by_head(self, protocol: StreamOwner, received: bytearray) -> bool:
        """Answer a request that is refused by its head; returns whether it was, and more bytes are here.

        Its body is dropped as it arrives, so that the client, which may still be sending it, reads the answer
        and not a reset.
        """
        self._head_checked = True
        head = self.head
        client = "" if protocol.client is None else protocol.client[0]
        request = HttpRequest(head.method, head.path, head.query, head.fields, b"", client)
        started = perf_counter()
        refusal, written_head = None, b""
        with Boundary(partial(protocol.task_group.report, head.path)):
            refusal = await self._route.refusal(request)
            if refusal is None:
                return False
            written_head = self._head_of(protocol, refusal)
        if not await self._send(protocol, refusal, written_head, started, client or None):
            return False
        self._unread = head.length
        protocol.drop_body()
        return bool(received)

    def drop(self, protocol: StreamOwner, received: bytearray, *, ended: bool) -> bool:
        """Drop received bytes of the body; returns whether another step may be possible."""
        dropped = min(self._unread, len(received))
        del received[:dropped]
        self._unread -= dropped
        if self._unread:
            if ended:
                protocol.link.finish()
            return False
        protocol.next_request()
        return bool(received) or ended or protocol.draining

    async def _answer_get(self, protocol: StreamOwner, request: HttpRequest) -> HttpAnswer:
        """Answer a GET, in turns with other tasks; without room for the answer, wait and build it again.

        The answer is not in memory while it waits. One that found no room recently waits before it is built.
        """
        turns, unsent = protocol.link.turns, protocol.link.unsent
        if turns.spent:
            await turns.next()
        asked = (request.path, request.query, request.headers.get("authorization"))
        size = unsent.refused_size(asked)
        if not size or protocol.link.has_room(size):
            began = perf_counter()
            answer = await self._route.answer(request)
            turns.spend(perf_counter() - began)
            size = len(answer.body)
            if size <= SEPARATE or protocol.link.has_room(size):
                return answer
            unsent.note_refused_size(asked, size)
            del answer
        async with unsent.reserve(protocol.link.address, size) as found:
            if found:
                answer = await self._route.answer(request)
                unsent.note_refused_size(asked, 0)
                if len(answer.body) <= size or protocol.link.has_room(len(answer.body) - size):
                    return answer
        protocol.counts.unsent_refused += 1
        return self._route.busy(request)

    def _head_of(self, protocol: StreamOwner, answer: HttpAnswer) -> bytes:
        """The bytes of the answer's head; raises `ValueError` for a field that cannot be sent."""
        self._last = protocol.draining or self.head.last
        return answer_head(answer, close=self._last, requested=self.head.last)

    async def _send(
        self,
        protocol: StreamOwner,
        answer: HttpAnswer | None,
        written_head: bytes,
        started: float,
        client: str | None,
    ) -> bool:
        """Write and log an answer, or a 500 if the application failed; returns whether the connection stays
        open.
        """
        head = self.head
        if answer is None or not written_head:
            await self._fail(protocol, perf_counter() - started, client)
            return False
        body = answer.body
        if len(body) > SEPARATE:
            await protocol.link.write(written_head, body)
        else:
            await protocol.link.write(written_head + body)
        log_request(
            head.method,
            head.path,
            answer.status,
            size=len(answer.body),
            seconds=perf_counter() - started,
            client=client,
            fields=answer.headers,
        )
        if self._last:
            protocol.link.finish()
        return not self._last

    def log_listener_answer(self, status: int, *, size: int = 0, seconds: float, client: str | None) -> None:
        """Log a request that the listener has answered in place of the application."""
        log_request(
            self.head.method,
            self.head.path,
            status,
            size=size,
            seconds=seconds,
            client=client,
            fields=(),
        )

    async def _fail(self, protocol: StreamOwner, seconds: float, client: str | None) -> None:
        """Answer 500 in place of the application, which has failed."""
        refused = RefusedRequest(500, "The server failed.", code="internal_error")
        _, body = closing_answer(refused)
        await protocol.link.write(closing_answer_bytes(refused, *protocol.config.response_headers("h11")))
        self.log_listener_answer(refused.status, size=len(body), seconds=seconds, client=client)
        protocol.link.finish()

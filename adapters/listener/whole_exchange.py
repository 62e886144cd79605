"""One whole request on its connection: its body is awaited, it is answered by one call, and logged."""

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from adapters.listener.answers import NOT_WELL_FORMED, RefusedRequest, closing_answer, closing_answer_bytes
from adapters.listener.boundary import Boundary
from adapters.listener.config import ListenerConfig
from adapters.listener.logs import log_request
from adapters.listener.whole_requests import (
    MAX_BODY,
    SEPARATE,
    PlainHead,
    WholeAnswer,
    WholeRequest,
    WholeRequests,
    WholeRoute,
    answer_head,
)

if TYPE_CHECKING:
    from adapters.listener.http_protocol import HttpProtocol


def begin_whole(
    head: PlainHead, offered: WholeRequests | None, limits: ListenerConfig
) -> "WholeExchange | None":
    """Begin, if the application answers this request without ASGI."""
    if offered is None:
        return None
    if head.length > min(MAX_BODY, limits.body_bytes):
        return None
    route = offered.route(head.method, head.path)
    if route is None or head.length > route.body_bytes:
        return None
    return WholeExchange(head, route)


class WholeExchange:
    """A request that is answered by one call; advanced by the connection's reader, as its streams are.

    It is given the protocol at each step and does not keep it: the two would be garbage that only the
    collector finds, once a request.
    """

    __slots__ = ("_head_judged", "_last", "_route", "_unread", "head")

    def __init__(self, head: PlainHead, route: WholeRoute) -> None:
        self._route = route
        self._head_judged = False
        """Whether the application has been asked if the head alone is refused."""
        self._last = True
        """Whether the connection ends with the answer."""
        self._unread = 0
        """Bytes of the body to drop, after an answer from the head."""
        self.head = head

    async def step(self, protocol: "HttpProtocol", received: bytearray, *, ended: bool) -> bool:
        """Answer, once the body is the first of what was `received`; whether another step may be possible."""
        head = self.head
        if len(received) < head.length:
            if ended:
                raise RefusedRequest(400, NOT_WELL_FORMED)
            return not self._head_judged and await self._judge_head(protocol, received)
        body = bytes(received[: head.length])
        del received[: head.length]
        client = "" if protocol.client is None else protocol.client[0]
        asked = WholeRequest(head.method, head.path, head.query, head.fields, body, client)
        started = perf_counter()
        answer, written_head = None, b""
        with Boundary(partial(protocol.task_group.report, head.path)):
            if head.method == "GET":
                answer = await self._answer_get(protocol, asked)
            else:
                answer = await self._route.answer(asked)
            written_head = self._head_of(protocol, answer)
        if not await self._send(protocol, answer, written_head, started, client or None):
            return False
        protocol.next_request()
        if received:
            await trio.lowlevel.checkpoint()  # who sends requests in one go must let others run
            return True
        return ended or protocol.draining

    async def _judge_head(self, protocol: "HttpProtocol", received: bytearray) -> bool:
        """Answer now what is refused whatever its body holds; whether it was, and the connection goes on.

        A body that nobody wants is not kept: it is dropped as it comes, so that the client, which may be in
        the midst of sending it, reads the answer and not a reset.
        """
        self._head_judged = True
        head = self.head
        client = "" if protocol.client is None else protocol.client[0]
        asked = WholeRequest(head.method, head.path, head.query, head.fields, b"", client)
        started = perf_counter()
        refusal, written_head = None, b""
        with Boundary(partial(protocol.task_group.report, head.path)):
            refusal = await self._route.refusal(asked)
            if refusal is None:
                return False
            written_head = self._head_of(protocol, refusal)
        if not await self._send(protocol, refusal, written_head, started, client or None):
            return False
        self._unread = head.length
        protocol.drop_body()
        return bool(received)

    def drop(self, protocol: "HttpProtocol", received: bytearray, *, ended: bool) -> bool:
        """Drop what has come of an unwanted body; whether another step may be possible."""
        dropped = min(self._unread, len(received))
        del received[:dropped]
        self._unread -= dropped
        if self._unread:
            if ended:
                protocol.link.finish()
            return False
        protocol.next_request()
        return bool(received) or ended or protocol.draining

    async def _answer_get(self, protocol: "HttpProtocol", asked: WholeRequest) -> WholeAnswer:
        """The answer to what changes nothing: it takes turns, and may be made again where there is no room.

        It is not kept while it waits for room. One that found none lately waits before it is made.
        """
        turns, unsent = protocol.link.turns, protocol.link.unsent
        if turns.spent:
            await turns.next()
        size = unsent.expected(asked.path, asked.query)
        if not size or protocol.link.has_room(size):
            began = perf_counter()
            answer = await self._route.answer(asked)
            turns.spend(perf_counter() - began)
            size = len(answer.body)
            if size <= SEPARATE or protocol.link.has_room(size):
                return answer
            unsent.expect(asked.path, asked.query, size)
            del answer
        async with unsent.room(protocol.link.address, size) as found:
            if found:
                answer = await self._route.answer(asked)
                unsent.expect(asked.path, asked.query, 0)
                if len(answer.body) <= size or protocol.link.has_room(len(answer.body) - size):
                    return answer
        protocol.counts.unsent_refused += 1
        return self._route.busy(asked)

    def _head_of(self, protocol: "HttpProtocol", answer: WholeAnswer) -> bytes:
        """The answer's head as it goes over the wire; raises `ValueError` for one that cannot."""
        self._last = protocol.draining or self.head.last
        return answer_head(answer, close=self._last, asked=self.head.last)

    async def _send(
        self,
        protocol: "HttpProtocol",
        answer: WholeAnswer | None,
        written_head: bytes,
        started: float,
        client: str | None,
    ) -> bool:
        """Write and log an answer, or one for the application, which failed to make it; whether the
        connection goes on.
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
            fields=answer.fields,
        )
        if self._last:
            protocol.link.finish()
        return not self._last

    def answered_by_listener(self, status: int, *, size: int = 0, seconds: float, client: str | None) -> None:
        """Write it down: the listener has answered this request, the application has not."""
        log_request(
            self.head.method,
            self.head.path,
            status,
            size=size,
            seconds=seconds,
            client=client,
            fields=(),
        )

    async def _fail(self, protocol: "HttpProtocol", seconds: float, client: str | None) -> None:
        """Answer for the application, which has failed."""
        refused = RefusedRequest(500, "The server failed.", code="internal_error")
        _, body = closing_answer(refused)
        await protocol.link.write(closing_answer_bytes(refused, *protocol.config.response_headers("h11")))
        self.answered_by_listener(refused.status, size=len(body), seconds=seconds, client=client)
        protocol.link.finish()

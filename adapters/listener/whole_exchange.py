"""One whole request on its connection: its body is awaited, it is answered by one call, and logged."""

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import trio

from adapters.listener.answers import NOT_WELL_FORMED, Refused, closing_answer, closing_answer_bytes
from adapters.listener.boundary import Boundary
from adapters.listener.config import ListenerConfig
from adapters.listener.logs import log_request
from adapters.listener.whole_requests import (
    MAX_BODY,
    Answerer,
    Head,
    WholeRequest,
    WholeRequests,
    answer_bytes,
)

if TYPE_CHECKING:
    from adapters.listener.http_protocol import HttpProtocol


def begin_whole(head: Head, offered: WholeRequests | None, limits: ListenerConfig) -> "WholeExchange | None":
    """Begin, if the application answers this request without ASGI."""
    if offered is None:
        return None
    if head.length > min(MAX_BODY, limits.body_bytes, offered.body_bytes):
        return None
    answerer = offered.answerer(head.method, head.path)
    return None if answerer is None else WholeExchange(head, answerer)


class WholeExchange:
    """A request that is answered by one call; advanced by the connection's reader, as its streams are.

    It is given the protocol at each step and does not keep it: the two would be garbage that only the
    collector finds, once a request.
    """

    __slots__ = ("_answerer", "head")

    def __init__(self, head: Head, answerer: Answerer) -> None:
        self._answerer = answerer
        self.head = head

    async def step(self, protocol: "HttpProtocol", received: bytearray, *, ended: bool) -> bool:
        """Answer, once the body is the first of what was `received`; whether another step may be possible."""
        head = self.head
        if len(received) < head.length:
            if ended:
                raise Refused(400, NOT_WELL_FORMED)
            return False
        body = bytes(received[: head.length])
        del received[: head.length]
        client = "" if protocol.client is None else protocol.client[0]
        asked = WholeRequest(head.method, head.path, head.query, head.fields, body, client)
        started = perf_counter()
        answer, last, data = None, True, b""
        with Boundary(partial(protocol.task_group.report, head.path)):
            answer = await self._answerer(asked)
            last = protocol.draining or head.last
            data = answer_bytes(answer, close=last, asked=head.last)
        if answer is None or not data:
            await self._fail(protocol, perf_counter() - started, client or None)
            return False
        await protocol.link.write(data)
        log_request(
            head.method,
            head.path,
            answer.status,
            size=len(answer.body),
            seconds=perf_counter() - started,
            client=client or None,
            fields=answer.fields,
        )
        if last:
            protocol.link.finish()
            return False
        protocol.next_request()
        if received:
            await trio.lowlevel.checkpoint()  # who sends requests in one go must let others run
            return True
        return ended or protocol.draining

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
        refused = Refused(500, "The server failed.", code="internal_error")
        _, body = closing_answer(refused)
        await protocol.link.write(closing_answer_bytes(refused, *protocol.config.response_headers("h11")))
        self.answered_by_listener(refused.status, size=len(body), seconds=seconds, client=client)
        protocol.link.finish()

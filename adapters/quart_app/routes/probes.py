"""Probes for orchestrators and load balancers: is the process alive, and is it ready for requests."""

from attrs import frozen

from adapters.quart_app.endpoints import Auth, Endpoint, Handles, HttpAnswer, HttpRequest
from adapters.quart_app.problems import unavailable
from adapters.quart_app.wire import encode
from adapters.runtime import Messaging


@frozen
class CheckHealth:
    pass


@frozen
class CheckReadiness:
    pass


@frozen(slots=False)
class Status:
    status: str


async def health(command: CheckHealth, request: HttpRequest, messaging: Messaging) -> HttpAnswer:
    del command, request, messaging
    return HttpAnswer(200, encode(Status("ok")))


async def readiness(command: CheckReadiness, request: HttpRequest, messaging: Messaging) -> HttpAnswer:
    del command
    if messaging.hub.draining:
        detail = "The server is shutting down. Send requests elsewhere."
        return unavailable(detail, code="draining", request_id=request.request_id, retry_after=10)
    trouble = None if messaging.relay is None else messaging.relay.trouble
    if trouble is not None:
        return unavailable(trouble, code="bus_unavailable", request_id=request.request_id, retry_after=2)
    await messaging.check_storage()
    return HttpAnswer(200, encode(Status("ready")))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/health",
        summary="Is the process alive",
        command=CheckHealth,
        does=Handles(health),
        answers=Status,
        unavailable=(),
        auth=Auth.NONE,
        limits=(),
    ),
    Endpoint(
        method="GET",
        path="/ready",
        summary="Is the process ready for requests: storage and bus respond, and it is not shutting down",
        command=CheckReadiness,
        does=Handles(readiness),
        answers=Status,
        unavailable=("draining", "bus_unavailable", "storage_unavailable"),
        auth=Auth.NONE,
        limits=(),
    ),
)

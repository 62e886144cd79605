"""Probes for orchestrators and load balancers: is the process alive, and is it ready for requests."""

from attrs import frozen

from adapters.http_api.endpoints import Auth, Endpoint, Handles
from adapters.http_api.exchange import HttpRequest, HttpResponse, json_response
from adapters.http_api.problems import Unavailable
from adapters.http_api.views import View
from adapters.http_api.wire import encode
from adapters.runtime import Messaging


@frozen
class CheckHealth:
    pass


@frozen
class CheckReadiness:
    pass


class StatusJson(View, frozen=True, gc=False):
    status: str


async def health(command: CheckHealth, request: HttpRequest, messaging: Messaging) -> HttpResponse:
    del command, request, messaging
    return json_response(200, encode(StatusJson("ok")))


async def readiness(command: CheckReadiness, request: HttpRequest, messaging: Messaging) -> HttpResponse:
    del command, request
    if messaging.hub.draining:
        detail = "The server is shutting down. Send requests elsewhere."
        raise Unavailable(detail, code="draining", retry_after=10)
    trouble = None if messaging.relay is None else messaging.relay.trouble
    if trouble is not None:
        raise Unavailable(trouble, code="bus_unavailable", retry_after=2)
    await messaging.check_storage()
    return json_response(200, encode(StatusJson("ready")))


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/health",
        summary="Is the process alive",
        command=CheckHealth,
        does=Handles(health),
        response=StatusJson,
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
        response=StatusJson,
        unavailable=("draining", "bus_unavailable", "storage_unavailable"),
        auth=Auth.NONE,
        limits=(),
    ),
)

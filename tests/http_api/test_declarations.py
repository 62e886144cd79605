"""The table of endpoints is complete: what one does not declare, these tests demand."""

from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
from attrs import evolve, frozen

from adapters.http_api.endpoints import Auth, Endpoint, Handles, Limit, Per, Reads, ReadsInParts, Writes
from adapters.http_api.exchange import HttpRequest, HttpResponse
from adapters.http_api.routes import ENDPOINTS
from adapters.runtime import Messaging
from messaging_core.limits import Limits, Rate

OPEN = ("/api/v1/auth/", "/health", "/ready")
"""Paths that need no token."""
UNLIMITED = ("/health", "/ready")


def undeclared(endpoint: Endpoint) -> Iterator[str]:
    """What the declaration lacks or contradicts."""
    if not endpoint.summary:
        yield "a summary"
    if endpoint.method not in {"GET", "POST", "PUT", "PATCH", "DELETE"}:
        yield "a method"
    if not 200 <= endpoint.status < 300:
        yield "a status of success"
    if (endpoint.response is None) != (endpoint.status == 204):
        yield "the type of its response's body, or 204"
    if endpoint.auth is not Auth.SESSION and not endpoint.path.startswith(OPEN):
        yield "who may call it"
    if not endpoint.limits and endpoint.path not in UNLIMITED:
        yield "how often it may be called"
    if not all(isinstance(getattr(Limits(), each.rate, None), Rate) for each in endpoint.limits):
        yield "a rate that exists"
    if endpoint.auth is Auth.NONE and any(each.per is Per.USER for each in endpoint.limits):
        yield "a limit that does not need a user"
    if shown(endpoint) not in (endpoint.response, Any):
        yield "the type that its response is shown as"


def shown(endpoint: Endpoint) -> Any:
    """The type that the response is shown as; `Any` where the endpoint builds its response itself."""
    match endpoint.does:
        case Writes(show=None):
            return None
        case Reads(show=show) | Writes(show=show) | ReadsInParts(small=Reads(show=show)):
            return get_type_hints(show)["return"]
        case _:
            return Any


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_declarations_are_complete(endpoint: Endpoint) -> None:
    """An endpoint declares who may call it, how often, its response, and a summary."""
    assert list(undeclared(endpoint)) == []


@frozen
class DoNothing:
    """A command."""


async def nothing(command: DoNothing, request: HttpRequest, messaging: Messaging) -> HttpResponse:
    raise NotImplementedError


def test_an_endpoint_that_declares_nothing_is_found() -> None:
    """Each rule above finds the endpoint that breaks it."""
    bare = Endpoint(
        method="BREW",
        path="/api/v1/nothing",
        summary="",
        command=DoNothing,
        does=Handles(nothing),
        status=300,
        response=None,
        auth=Auth.NONE,
        limits=(),
    )
    assert list(undeclared(bare)) == [
        "a summary",
        "a method",
        "a status of success",
        "the type of its response's body, or 204",
        "who may call it",
        "how often it may be called",
    ]
    limited = evolve(bare, limits=(Limit("no_such_rate", Per.ADDRESS), Limit("message_rate", Per.USER)))
    assert {"a rate that exists", "a limit that does not need a user"} <= set(undeclared(limited))


def test_names_are_unique() -> None:
    """An endpoint's name is that of its command, so a command belongs to one endpoint."""
    names = [endpoint.name for endpoint in ENDPOINTS]
    assert len(names) == len(set(names))

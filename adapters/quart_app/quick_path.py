"""The declared endpoints without the framework's cost, for a listener that hands over whole requests.

The same declarations through the same dispatcher: what differs is who makes the `HttpRequest`. Everything
else, such as documentation, the client, preflights and unknown paths, is the framework's.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple, Protocol

from adapters.quart_app.cors import Cors
from adapters.quart_app.dispatch import Dispatcher
from adapters.quart_app.endpoints import Endpoint, HttpRequest, request_id


class Asked(Protocol):
    """A whole request, as the listener gives it."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def query(self) -> bytes: ...

    @property
    def fields(self) -> Mapping[str, str]: ...

    @property
    def body(self) -> bytes: ...

    @property
    def client(self) -> str: ...


class Answered(NamedTuple):
    """What the listener writes."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes


class QuickPath:
    """Answers whole requests for endpoints with at most one variable in their path: digits, at its end."""

    def __init__(
        self, dispatcher: Dispatcher, endpoints: Iterable[Endpoint], cors: Cors, *, body_bytes: int
    ) -> None:
        self.body_bytes = body_bytes
        self._dispatcher = dispatcher
        self._cors = cors
        self._routes: dict[tuple[str, str], Endpoint] = {}
        """Those without a variable, by method and path."""
        self._variables: dict[tuple[str, str], Endpoint] = {}
        """Those with one, by method and the path before it."""
        for endpoint in endpoints:
            parent = endpoint.path.rpartition("/")[0]
            if not endpoint.path_names:
                self._routes[endpoint.method, endpoint.path] = endpoint
            elif "{" not in parent and endpoint.path_digits:
                self._variables[endpoint.method, parent] = endpoint

    def answerer(self, method: str, path: str) -> Callable[[Asked], Awaitable[Answered]] | None:
        """Who answers this route, or None where it is no endpoint's."""
        endpoint = self._routes.get((method, path))
        if endpoint is not None:
            return partial(self._answer, endpoint, {})
        parent, _, value = path.rpartition("/")
        endpoint = self._variables.get((method, parent))
        if endpoint is None or not value.isdigit():
            return None
        return partial(self._answer, endpoint, {endpoint.path_names[0]: value})

    async def _answer(self, endpoint: Endpoint, path_values: dict[str, str], asked: Asked) -> Answered:
        request = HttpRequest(
            asked.method,
            asked.path,
            path_values,
            asked.query,
            asked.fields,
            asked.body,
            asked.client,
            request_id(asked.fields.get("x-request-id")),
        )
        answer = await self._dispatcher.answer(endpoint, request)
        added = self._cors.fields(asked.fields.get("origin") or None)
        return Answered(answer.status, (*answer.fields(request.request_id), *added), answer.body)

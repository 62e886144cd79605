"""The declared endpoints without the framework's cost, for a listener that hands over whole requests.

The same declarations through the same dispatcher: what differs is who makes the `HttpRequest`. Everything
else, such as documentation, the client, preflights and unknown paths, is the framework's.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from adapters.quart_app.cors import Cors
from adapters.quart_app.dispatch import Dispatcher
from adapters.quart_app.endpoints import Endpoint, HttpAnswer, HttpRequest, request_id
from adapters.quart_app.problems import too_much_unsent


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


class Route:
    """One endpoint on one path."""

    __slots__ = ("_cors", "_dispatcher", "_endpoint", "_path_values", "body_bytes")

    def __init__(
        self,
        dispatcher: Dispatcher,
        endpoint: Endpoint,
        cors: Cors,
        body_bytes: int,
        path_values: dict[str, str],
    ) -> None:
        self._dispatcher = dispatcher
        self._endpoint = endpoint
        self._cors = cors
        self._path_values = path_values
        self.body_bytes = body_bytes

    def with_value(self, value: str) -> "Route":
        """The same on a path with this value in place of the endpoint's one variable."""
        path_values = {self._endpoint.path_names[0]: value}
        return Route(self._dispatcher, self._endpoint, self._cors, self.body_bytes, path_values)

    async def refusal(self, head: Asked) -> Answered | None:
        """What the request is answered whatever its body holds, or None."""
        request = self._request(head)
        answer = await self._dispatcher.refusal(self._endpoint, request)
        return None if answer is None else self._answered(answer, request)

    async def answer(self, asked: Asked) -> Answered:
        request = self._request(asked)
        return self._answered(await self._dispatcher.answer(self._endpoint, request), request)

    def busy(self, asked: Asked) -> Answered:
        """The answer where this one's own is too large to wait for a slow reader beside the others."""
        request = self._request(asked)
        return self._answered(too_much_unsent(request_id=request.request_id), request)

    def _request(self, asked: Asked) -> HttpRequest:
        return HttpRequest(
            asked.method,
            asked.path,
            self._path_values,
            asked.query,
            asked.fields,
            asked.body,
            asked.client,
            request_id(asked.fields.get("x-request-id")),
        )

    def _answered(self, answer: HttpAnswer, request: HttpRequest) -> Answered:
        added = self._cors.fields(request.headers.get("origin") or None)
        return Answered(answer.status, (*answer.fields(request.request_id), *added), answer.body)


class QuickPath:
    """Answers whole requests for endpoints with at most one variable in their path: digits, at its end."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        endpoints: Iterable[Endpoint],
        cors: Cors,
        *,
        largest_body: Callable[[Endpoint], int],
    ) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        """Those without a variable, by method and path."""
        self._variables: dict[tuple[str, str], Route] = {}
        """Those with one, by method and the path before it."""
        for endpoint in endpoints:
            parent = endpoint.path.rpartition("/")[0]
            route = Route(dispatcher, endpoint, cors, largest_body(endpoint), {})
            if not endpoint.path_names:
                self._routes[endpoint.method, endpoint.path] = route
            elif "{" not in parent and endpoint.path_digits:
                self._variables[endpoint.method, parent] = route

    def route(self, method: str, path: str) -> Route | None:
        """The endpoint's, or None where the path is none's."""
        route = self._routes.get((method, path))
        if route is not None:
            return route
        parent, _, value = path.rpartition("/")
        route = self._variables.get((method, parent))
        return None if route is None or not value.isdigit() else route.with_value(value)

"""The quick path: answers whole requests from the listener, past ASGI and the framework.

Both paths use the same declarations and the same dispatcher; they differ only in how they build the
`HttpRequest`. The framework serves everything else: documentation, the client, preflights, unknown paths.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from adapters.quart_app.cors import Cors
from adapters.quart_app.dispatch import Dispatcher
from adapters.quart_app.endpoints import Endpoint, HttpAnswer, HttpRequest, request_id
from adapters.quart_app.problems import too_much_unsent


class QuickRequest(Protocol):
    """The fields of a whole request that the quick path reads; the listener's `WholeRequest` has them."""

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


class QuickAnswer(NamedTuple):
    """An answer for the listener to write; satisfies the listener's `WholeAnswer`."""

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
        """The route for a path with this value in place of the endpoint's one variable."""
        path_values = {self._endpoint.path_names[0]: value}
        return Route(self._dispatcher, self._endpoint, self._cors, self.body_bytes, path_values)

    async def refusal(self, head: QuickRequest) -> QuickAnswer | None:
        """The answer that the head alone decides; None if the body must be read."""
        request = self._http_request(head)
        answer = await self._dispatcher.refusal(self._endpoint, request)
        return None if answer is None else self._quick_answer(answer, request)

    async def answer(self, whole: QuickRequest) -> QuickAnswer:
        request = self._http_request(whole)
        return self._quick_answer(await self._dispatcher.answer(self._endpoint, request), request)

    def busy(self, whole: QuickRequest) -> QuickAnswer:
        """The answer where the request's own is too large for the memory of unsent answers."""
        request = self._http_request(whole)
        return self._quick_answer(too_much_unsent(request_id=request.request_id), request)

    def _http_request(self, whole: QuickRequest) -> HttpRequest:
        return HttpRequest(
            whole.method,
            whole.path,
            self._path_values,
            whole.query,
            whole.fields,
            whole.body,
            whole.client,
            request_id(whole.fields.get("x-request-id")),
        )

    def _quick_answer(self, answer: HttpAnswer, request: HttpRequest) -> QuickAnswer:
        added = self._cors.fields(request.headers.get("origin") or None)
        return QuickAnswer(answer.status, (*answer.fields(request.request_id), *added), answer.body)


class QuickPath:
    """Answers whole requests for endpoints whose path has no variable, or one integer at its end."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        endpoints: Iterable[Endpoint],
        cors: Cors,
        *,
        largest_body: Callable[[Endpoint], int],
    ) -> None:
        self._routes: dict[tuple[str, str], Route] = {}
        """Routes without a variable, by method and path."""
        self._variables: dict[tuple[str, str], Route] = {}
        """Routes with a variable, by method and the path before it."""
        for endpoint in endpoints:
            parent = endpoint.path.rpartition("/")[0]
            route = Route(dispatcher, endpoint, cors, largest_body(endpoint), {})
            if not endpoint.path_names:
                self._routes[endpoint.method, endpoint.path] = route
            elif "{" not in parent and endpoint.path_digits:
                self._variables[endpoint.method, parent] = route

    def route(self, method: str, path: str) -> Route | None:
        """The route for a path; None where the framework answers."""
        route = self._routes.get((method, path))
        if route is not None:
            return route
        parent, _, value = path.rpartition("/")
        route = self._variables.get((method, parent))
        return None if route is None or not value.isdigit() else route.with_value(value)

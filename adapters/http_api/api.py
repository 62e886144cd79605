"""The API of one process: finds the route of a request, and responds to it."""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from adapters.http_api.config import ApiConfig
from adapters.http_api.cors import Cors, preflight_fields
from adapters.http_api.dispatch import Dispatcher
from adapters.http_api.endpoints import Endpoint
from adapters.http_api.exchange import Headers, HttpRequest, HttpResponse
from adapters.http_api.problems import body_too_large, too_much_unsent, without_endpoint
from adapters.http_api.request_ids import request_id
from adapters.http_api.router import NO_VALUES, Router
from adapters.http_api.routes import ENDPOINTS
from adapters.http_api.sockets import SocketCommands
from adapters.runtime import Messaging
from adapters.runtime.throttles import Throttles

OPTIONS = "OPTIONS"

_HAS_BODY = frozenset({"content-length", "transfer-encoding"})

ReadBody = Callable[[int], Awaitable[bytes | None]]
"""Reads a request's body; returns None as soon as it is larger than the argument, in bytes."""


class Route:
    """One endpoint on one path."""

    __slots__ = ("_cors", "_dispatcher", "_endpoint", "_path_values", "body_bytes")

    def __init__(
        self,
        dispatcher: Dispatcher,
        endpoint: Endpoint,
        cors: Cors,
        body_bytes: int,
        path_values: Mapping[str, str] = NO_VALUES,
    ) -> None:
        self._dispatcher = dispatcher
        self._endpoint = endpoint
        self._cors = cors
        self._path_values = path_values
        self.body_bytes = body_bytes
        """The largest body that it accepts."""

    def at(self, path_values: Mapping[str, str]) -> "Route":
        """The route for a path with these values of the endpoint's variables."""
        return Route(self._dispatcher, self._endpoint, self._cors, self.body_bytes, path_values)

    async def refusal(self, head: HttpRequest) -> HttpResponse | None:
        """The response that the head alone decides; None if the body must be read."""
        id_ = request_id(head.headers.get("x-request-id"))
        response = await self._dispatcher.refusal(self._endpoint, head, request_id=id_)
        return None if response is None else complete(response, head, id_, self._cors)

    async def respond(self, request: HttpRequest) -> HttpResponse:
        """The response to a whole request; it may be called twice for a GET."""
        id_ = request_id(request.headers.get("x-request-id"))
        response = await self._dispatcher.respond(self._endpoint, request, self._path_values, request_id=id_)
        return complete(response, request, id_, self._cors)

    async def respond_after(self, head: HttpRequest, read_body: ReadBody) -> HttpResponse:
        """The response to a request whose body is read only if its head does not decide."""
        id_ = request_id(head.headers.get("x-request-id"))
        response = None
        request = head
        if not _HAS_BODY.isdisjoint(head.headers):
            response = await self._dispatcher.refusal(self._endpoint, head, request_id=id_)
            if response is None:
                body = await read_body(self.body_bytes)
                if body is None:
                    response = body_too_large(self.body_bytes, request_id=id_)
                else:
                    request = head._replace(body=body)
        if response is None:
            response = await self._dispatcher.respond(
                self._endpoint, request, self._path_values, request_id=id_
            )
        return complete(response, head, id_, self._cors)

    def busy(self, request: HttpRequest) -> HttpResponse:
        """The response where the request's own is too large for the memory of unsent responses."""
        id_ = request_id(request.headers.get("x-request-id"))
        return complete(too_much_unsent(request_id=id_), request, id_, self._cors)


def complete(response: HttpResponse, head: HttpRequest, id_: str, cors: Cors) -> HttpResponse:
    """The response with the fields that each response has."""
    added = cors.fields(head.headers.get("origin") or None)
    return HttpResponse(response.status, response.body, (*response.headers, ("x-request-id", id_), *added))


class HttpApi:
    """The API over `messaging`; `clock`, in seconds, is the time of the rate limits."""

    def __init__(
        self,
        messaging: Messaging,
        config: ApiConfig,
        clock: Callable[[], float],
        endpoints: Iterable[Endpoint] = ENDPOINTS,
    ) -> None:
        self.cors = Cors(config.cors_origins)
        dispatcher = Dispatcher(messaging, Throttles(clock) if config.rate_limits else None)
        messaging.hub.carry_out = SocketCommands(dispatcher).carry_out
        messaging.hub.admits = dispatcher.admits_message
        messaging.catch_up.charge = dispatcher.charge_resumption
        self._router = Router(
            (endpoint, Route(dispatcher, endpoint, self.cors, config.largest_body(endpoint)))
            for endpoint in endpoints
        )

    def route(self, method: str, path: str) -> Route | None:
        """The route of an endpoint for a method and a path without percent-escapes; None where none is."""
        found = self._router.find(method, path)
        if found is None:
            return None
        route, path_values = found
        return route.at(path_values) if path_values else route

    async def respond(
        self,
        head: HttpRequest,
        read_body: ReadBody,
        *,
        raw_path: bytes,
        is_page: Callable[[str], bool] = lambda _: False,
    ) -> HttpResponse:
        """The response to any request: an endpoint's, a preflight's, a redirect, or a refusal.

        `raw_path` is the path as the client has sent it, without the query; `is_page` knows the paths that
        the caller serves itself, to which a path with a slash too many is redirected as well. To a HEAD the
        server sends the response's head only.
        """
        headers = head.headers
        if head.method == OPTIONS and "access-control-request-method" in headers:
            fields = preflight_fields(headers.get("access-control-request-headers"))
            return self._completed(HttpResponse(204, b"", fields), head)
        route = self.route("GET" if head.method == "HEAD" else head.method, head.path)
        if route is not None:
            return await route.respond_after(head, read_body)
        if methods := self._router.methods(head.path):
            allowed = methods | {OPTIONS} | ({"HEAD"} if "GET" in methods else set())
            allow = ("allow", ", ".join(sorted(allowed)))
            if head.method == OPTIONS:
                return self._completed(HttpResponse(200, b"", (allow,)), head)
            return self.refuse(head, 405, (allow,))
        if raw_path.endswith(b"/") and self._is_known_without_slash(head.path, is_page):
            target = raw_path[:-1] + (b"?" + head.query if head.query else b"")
            return self._completed(HttpResponse(308, b"", (("location", target.decode("latin-1")),)), head)
        return self.refuse(head, 404)

    def refuse(
        self, head: HttpRequest, status: int, headers: Headers = (), *, detail: str | None = None
    ) -> HttpResponse:
        """The response to a request that reaches no endpoint; `detail` is not used for 404 and 405."""
        id_ = request_id(head.headers.get("x-request-id"))
        response = without_endpoint(status, detail, request_id=id_, headers=headers)
        return complete(response, head, id_, self.cors)

    def _completed(self, response: HttpResponse, head: HttpRequest) -> HttpResponse:
        return complete(response, head, request_id(head.headers.get("x-request-id")), self.cors)

    def _is_known_without_slash(self, path: str, is_page: Callable[[str], bool]) -> bool:
        # A browser reads a target with two slashes as a host, and the redirect must stay on this server.
        if path == "/" or "//" in path:
            return False
        return bool(self._router.methods(path[:-1])) or is_page(path[:-1])

"""The application: every endpoint's route, the socket, the documentation, and CORS around it all."""

from functools import partial
from http import HTTPStatus

import structlog
import trio
from attrs import field, frozen
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, InternalServerError

from adapters.quart_app.client_page import client_page
from adapters.quart_app.cors import ANY_ORIGIN, Cors
from adapters.quart_app.dispatch import Dispatcher
from adapters.quart_app.docs import documentation
from adapters.quart_app.endpoints import Endpoint, HttpAnswer, HttpRequest, request_id
from adapters.quart_app.problems import problem
from adapters.quart_app.quick_path import QuickPath
from adapters.quart_app.routes import ENDPOINTS
from adapters.quart_app.socket import PATH as SOCKET_PATH
from adapters.quart_app.socket import SocketEndpoint
from adapters.runtime import Messaging
from adapters.runtime.throttles import Throttles

log = structlog.get_logger(__name__)


@frozen(kw_only=True)
class HttpConfig:
    """How the application faces its callers."""

    cors_origins: tuple[str, ...] = (ANY_ORIGIN,)
    """Origins whose pages may call, such as `https://app.example`; `*` is any."""
    rate_limits: bool = True
    """Whether requests are limited; off for load tests only."""
    body_bytes: int = field(default=1_048_576)
    """The largest request body; a larger one is a 413 and is not read."""
    docs: bool = True
    """Whether `/docs` and `/openapi.json` are served."""
    client: bool = True
    """Whether the reference client is served at `/`."""


class Application:
    """An ASGI application, and the part of it that a listener may ask without ASGI."""

    def __init__(self, pages: ASGIFramework, socket: SocketEndpoint, quick_path: QuickPath) -> None:
        self._pages = pages
        self._socket = socket
        self.quick_path = quick_path

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "websocket" and scope["path"] == SOCKET_PATH:
            await self._socket(scope, receive, send)
        else:
            await self._pages(scope, receive, send)


def create_app(messaging: Messaging, config: HttpConfig) -> Application:
    """The application over `messaging`, whose housekeeping runs for as long as the application does."""
    app = QuartTrio(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = config.body_bytes
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = True
    throttles = Throttles(trio.current_time) if config.rate_limits else None
    dispatcher = Dispatcher(messaging, throttles)
    for endpoint in ENDPOINTS:
        app.add_url_rule(
            endpoint.path.replace("{", "<").replace("}", ">"),
            endpoint=endpoint.name,
            view_func=partial(_view, dispatcher, endpoint),
            methods=[endpoint.method],
        )
    if config.docs:
        app.register_blueprint(documentation(ENDPOINTS, messaging.limits))
    if config.client:
        app.register_blueprint(client_page())
    app.register_error_handler(HTTPException, _http_error)

    @app.before_serving
    async def start_housekeeping() -> None:
        app.nursery.start_soon(messaging.keep_house)

    cors = Cors(app, config.cors_origins)
    return Application(
        cors,
        SocketEndpoint(messaging, config.cors_origins),
        QuickPath(dispatcher, ENDPOINTS, cors, body_bytes=config.body_bytes),
    )


async def _view(dispatcher: Dispatcher, endpoint: Endpoint, **path_values: str) -> Response:
    asked = await _asked(path_values)
    return _response(await dispatcher.answer(endpoint, asked), asked.request_id)


async def _asked(path_values: dict[str, str]) -> HttpRequest:
    # The body first, whatever the answer will be: what is left unread would be taken for the next request.
    body = await request.get_data(cache=False, as_text=False, parse_form_data=False)
    scope = request.scope
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        told = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {told}" if key in headers else told
    return HttpRequest(
        method=request.method,
        path=request.path,
        path_values=path_values,
        query=scope["query_string"],
        headers=headers,
        body=body,
        address=request.remote_addr or "",
        request_id=request_id(headers.get("x-request-id")),
    )


def _response(answer: HttpAnswer, id_: str) -> Response:
    response = Response(answer.body, answer.status)
    del response.headers["Content-Type"]
    if answer.status == HTTPStatus.NO_CONTENT:
        del response.headers["Content-Length"]  # RFC 9110, 8.6
    response.headers.extend(answer.fields(id_))
    return response


CODES = {
    404: ("not_found", "There is nothing at this path."),
    405: ("method_not_allowed", "This path does not take this method; see the header Allow."),
    408: ("request_timeout", "The body took too long to arrive."),
    413: ("body_too_large", "The body is larger than this server takes."),
}


async def _http_error(error: HTTPException) -> Response:
    """What the framework refuses before an endpoint is reached, in the same form as every other error."""
    id_ = request_id(request.headers.get("X-Request-ID"))
    status = error.code or 500
    if isinstance(error, InternalServerError):
        log.error(
            "A request failed outside its endpoint", path=request.path, exc_info=error.original_exception
        )
    kept = tuple((name, value) for name, value in error.get_headers() if name in {"Allow", "Retry-After"})
    close = (("Connection", "close"),) if status == 413 else ()
    fault = ("internal_error", "The server failed at this request. It has been logged under this request_id.")
    refusal = ("bad_request", error.description or "The request cannot be answered.")
    code, detail = CODES.get(status, fault if status >= 500 else refusal)
    answer = problem(
        status,
        code,
        detail,
        request_id=id_,
        headers=(*kept, *close),
    )
    return _response(answer, id_)

"""The framework's application: binds the API, and serves the documentation and the client."""

from functools import partial
from http import HTTPStatus

import structlog
from quart import Quart, Response, has_request_context, request, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound
from werkzeug.routing import RequestRedirect

from adapters.http_api.api import HttpApi
from adapters.http_api.exchange import HttpRequest, HttpResponse
from adapters.http_api.problems import without_endpoint
from adapters.http_api.request_ids import request_id
from adapters.http_api.routes import ENDPOINTS
from adapters.quart_app.client_page import client_page
from adapters.quart_app.config import HttpConfig
from adapters.quart_app.docs import documentation
from messaging_core.avatars import AvatarHosts
from messaging_core.limits import Limits

log = structlog.get_logger(__name__)


def make_framework(api: HttpApi, config: HttpConfig, limits: Limits, avatar_hosts: AvatarHosts) -> QuartTrio:
    """The ASGI application for everything except sockets; it needs no lifespan.

    Its own routes are the pages. The API responds to each request that is for no page.
    """
    app = QuartTrio(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = None  # each endpoint bounds its own
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = True
    app.url_map.merge_slashes = False
    pages = []
    if config.docs:
        pages.append(documentation(ENDPOINTS, limits, socket_profile=config.socket_profile))
    if config.client:
        pages.append(client_page(avatar_hosts))
    for page in pages:
        page.after_request(partial(_complete, api))
        app.register_blueprint(page)
    app.before_request(partial(_respond_by_api, app, api))
    app.register_error_handler(HTTPException, partial(_http_error, api))
    return app


async def _respond_by_api(app: Quart, api: HttpApi) -> Response | None:
    """The API's response; None where the request is for a page."""
    preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    doubled = "//" in request.scope["path"]  # which werkzeug would drop at the start of a path
    if not (preflight or doubled or isinstance(request.routing_exception, NotFound)):
        return None
    raw_path = request.scope["raw_path"]
    return _response(
        await api.respond(_head(), _read_body, raw_path=raw_path, is_page=partial(_is_page, app))
    )


def _is_page(app: Quart, path: str) -> bool:
    try:
        app.url_map.bind("").match(path)
    except MethodNotAllowed:
        return True
    except (NotFound, RequestRedirect):
        return False
    return True


async def _read_body(most_bytes: int) -> bytes | None:
    """The request's body; None as soon as it is too large."""
    if (request.content_length or 0) > most_bytes:
        return None
    body = bytearray()
    async for part in request.body:
        body += part
        if len(body) > most_bytes:
            return None
    return bytes(body)


def _head() -> HttpRequest:
    scope = request.scope
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    client = request.remote_addr or ""
    return HttpRequest(request.method, scope["path"], scope["query_string"], headers, client=client)


def _response(ours: HttpResponse) -> Response:
    response = Response(ours.body, ours.status)
    del response.headers["Content-Type"]
    if ours.status == HTTPStatus.NO_CONTENT:
        del response.headers["Content-Length"]  # RFC 9110, 8.6
    response.headers.extend(ours.headers)
    return response


async def _complete(api: HttpApi, response: Response) -> Response:
    """Add to a page's response what the API's responses have: the request's id, and the fields of CORS."""
    if "X-Request-ID" not in response.headers:
        response.headers.extend(api.cors.fields(request.headers.get("Origin") or None))
        response.headers["X-Request-ID"] = request_id(request.headers.get("X-Request-ID"))
    return response


async def _http_error(api: HttpApi, error: HTTPException) -> Response:
    """A refusal by the framework, in the form of every other error."""
    status = error.code or 500
    if isinstance(error, InternalServerError):
        path = (request if has_request_context() else websocket).path
        log.error("A request failed outside its endpoint", path=path, exc_info=error.original_exception)
    if not has_request_context():  # a handshake on a path without a socket; browsers apply no CORS to it
        id_ = request_id(websocket.headers.get("X-Request-ID"))
        refusal = without_endpoint(status, error.description, request_id=id_)
        return _response(refusal._replace(headers=(*refusal.headers, ("x-request-id", id_))))
    headers = tuple((name.lower(), text) for name, text in error.get_headers() if name in _PASSED_ON)
    return _response(api.refuse(_head(), status, headers, detail=error.description))


_PASSED_ON = {"Allow", "Retry-After"}
"""The fields of the framework's refusals that its responses keep."""

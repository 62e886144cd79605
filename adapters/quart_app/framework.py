"""The framework's application: the endpoints' routes again, the documentation, and the client."""

from functools import partial
from http import HTTPStatus

import structlog
from attrs import evolve
from quart import Response, current_app, has_request_context, request, websocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound
from werkzeug.routing import BaseConverter, RequestRedirect

from adapters.quart_app.client_page import client_page
from adapters.quart_app.config import HttpConfig
from adapters.quart_app.dispatch import Dispatcher
from adapters.quart_app.docs import documentation
from adapters.quart_app.endpoints import Endpoint, HttpAnswer, HttpRequest, request_id
from adapters.quart_app.problems import FAULT, body_too_large, problem
from adapters.quart_app.routes import ENDPOINTS
from messaging_core.avatars import AvatarHosts
from messaging_core.limits import Limits

log = structlog.get_logger(__name__)


def make_framework(
    dispatcher: Dispatcher, config: HttpConfig, limits: Limits, avatar_hosts: AvatarHosts
) -> QuartTrio:
    """The ASGI application for everything except sockets; it needs no lifespan."""
    app = QuartTrio(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = None  # each view bounds its own
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = True
    app.url_map.converters["digits"] = Digits
    for endpoint in ENDPOINTS:
        app.add_url_rule(
            _rule(endpoint),
            endpoint=endpoint.name,
            view_func=partial(_view, dispatcher, endpoint, config.largest_body(endpoint)),
            methods=[endpoint.method],
        )
    if config.docs:
        app.register_blueprint(documentation(ENDPOINTS, limits))
    if config.client:
        app.register_blueprint(client_page(avatar_hosts))
    app.before_request(_refuse_double_slashes)
    app.register_error_handler(HTTPException, _http_error)
    return app


class Digits(BaseConverter):
    """An integer in a path, as text: werkzeug's `int` accepts digits of every script, and fails on many."""

    regex = "[0-9]+"


def _rule(endpoint: Endpoint) -> str:
    """The endpoint's path in the syntax of the framework's router."""
    path = endpoint.path
    for name in endpoint.path_names:
        converter = "digits" if name in endpoint.path_digits else "default"
        path = path.replace(f"{{{name}}}", f"<{converter}:{name}>")
    return path


async def _refuse_double_slashes() -> None:
    # Werkzeug merges them: silently at the start of a path, elsewhere by a redirect in HTML.
    if "//" in request.scope["path"]:
        raise NotFound


async def _view(dispatcher: Dispatcher, endpoint: Endpoint, most_bytes: int, **path_values: str) -> Response:
    head = _head(path_values)
    return _response(await _answer(dispatcher, endpoint, most_bytes, head), head.request_id)


async def _answer(
    dispatcher: Dispatcher, endpoint: Endpoint, most_bytes: int, head: HttpRequest
) -> HttpAnswer:
    """Answers a request that its head alone refuses before the body is read; the listener drops the body."""
    if head.headers.keys().isdisjoint({"content-length", "transfer-encoding"}):
        return await dispatcher.answer(endpoint, head)
    refusal = await dispatcher.refusal(endpoint, head)
    if refusal is not None:
        return refusal
    body = await _body(most_bytes)
    if body is None:
        return body_too_large(most_bytes, request_id=head.request_id)
    return await dispatcher.answer(endpoint, evolve(head, body=body))


async def _body(most_bytes: int) -> bytes | None:
    """The request's body; None as soon as it is too large."""
    if (request.content_length or 0) > most_bytes:
        return None
    body = bytearray()
    async for part in request.body:
        body += part
        if len(body) > most_bytes:
            return None
    return bytes(body)


def _head(path_values: dict[str, str]) -> HttpRequest:
    scope = request.scope
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return HttpRequest(
        method=request.method,
        path=request.path,
        path_values=path_values,
        query_string=scope["query_string"],
        headers=headers,
        body=b"",
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
    404: ("not_found", "There is nothing at this path. An id in a path is a whole number."),
    405: ("method_not_allowed", "This path does not allow this method; see the header Allow."),
}


async def _http_error(error: HTTPException) -> Response:
    """A refusal by the framework before it reaches an endpoint, in the form of every other error."""
    current = request if has_request_context() else websocket  # a handshake on a path without a socket
    id_ = request_id(current.headers.get("X-Request-ID"))
    status = error.code or 500
    if status == HTTPStatus.NOT_FOUND and has_request_context() and (target := _without_slash()) is not None:
        moved = HttpAnswer(HTTPStatus.PERMANENT_REDIRECT, headers=(("Location", target),))
        return _response(moved, id_)
    if isinstance(error, InternalServerError):
        log.error(
            "A request failed outside its endpoint", path=current.path, exc_info=error.original_exception
        )
    headers = tuple((name, value) for name, value in error.get_headers() if name in {"Allow", "Retry-After"})
    refusal = ("bad_request", error.description or "The request cannot be answered.")
    code, detail = CODES.get(status, FAULT if status >= 500 else refusal)
    answer = problem(
        status,
        code,
        detail,
        request_id=id_,
        headers=headers,
    )
    return _response(answer, id_)


def _without_slash() -> str | None:
    """The request's target without the slash at its path's end; None where that is no route.

    The redirect stays on this server: a browser reads a path with two slashes as a host, so such paths are
    excluded.
    """
    path, raw_path = request.scope["path"], request.scope["raw_path"]
    if request.url_rule is not None or path == "/" or "//" in path or not raw_path.endswith(b"/"):
        return None
    try:
        current_app.url_map.bind("").match(path[:-1])
    except MethodNotAllowed:
        pass
    except (NotFound, RequestRedirect):
        return None
    query = request.scope["query_string"]
    return str((raw_path[:-1] + (b"?" + query if query else b"")).decode("ascii"))

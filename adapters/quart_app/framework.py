"""The framework's application: the endpoints' routes once more, the documentation, and the client."""

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
    """Everything that is answered over ASGI but sockets; it needs no lifespan."""
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
    app.before_request(_take_two_slashes_for_two)
    app.register_error_handler(HTTPException, _http_error)
    return app


class Digits(BaseConverter):
    """A whole number in a path, as text: werkzeug's `int` takes digits of every script, and fails on many."""

    regex = "[0-9]+"


def _rule(endpoint: Endpoint) -> str:
    """The endpoint's path as the framework's router writes it."""
    path = endpoint.path
    for name in endpoint.path_names:
        converter = "digits" if name in endpoint.path_digits else "default"
        path = path.replace(f"{{{name}}}", f"<{converter}:{name}>")
    return path


async def _take_two_slashes_for_two() -> None:
    # Werkzeug takes them for one: at the start of a path without a word, inside it with a redirect in HTML.
    if "//" in request.scope["path"]:
        raise NotFound


async def _view(dispatcher: Dispatcher, endpoint: Endpoint, most_bytes: int, **path_values: str) -> Response:
    head = _head(path_values)
    return _response(await _answer(dispatcher, endpoint, most_bytes, head), head.request_id)


async def _answer(
    dispatcher: Dispatcher, endpoint: Endpoint, most_bytes: int, head: HttpRequest
) -> HttpAnswer:
    """What is refused by its head alone is answered before its body has come, which the listener drops."""
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
    """The request's body, or None as soon as it is known to be too large."""
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
        told = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {told}" if key in headers else told
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
    404: ("not_found", "There is nothing at this path. Where a path has an id, it is a whole number."),
    405: ("method_not_allowed", "This path does not take this method; see the header Allow."),
}


async def _http_error(error: HTTPException) -> Response:
    """What the framework refuses before an endpoint is reached, in the same form as every other error."""
    asked = request if has_request_context() else websocket  # the handshake of one, where none is served
    id_ = request_id(asked.headers.get("X-Request-ID"))
    status = error.code or 500
    if status == HTTPStatus.NOT_FOUND and has_request_context() and (place := _without_slash()) is not None:
        moved = HttpAnswer(HTTPStatus.PERMANENT_REDIRECT, headers=(("Location", place),))
        return _response(moved, id_)
    if isinstance(error, InternalServerError):
        log.error("A request failed outside its endpoint", path=asked.path, exc_info=error.original_exception)
    kept = tuple((name, value) for name, value in error.get_headers() if name in {"Allow", "Retry-After"})
    refusal = ("bad_request", error.description or "The request cannot be answered.")
    code, detail = CODES.get(status, FAULT if status >= 500 else refusal)
    answer = problem(
        status,
        code,
        detail,
        request_id=id_,
        headers=kept,
    )
    return _response(answer, id_)


def _without_slash() -> str | None:
    """The request's target without the one slash too many at its path's end; None where no route is there.

    It stays on this server: what begins with two slashes, which a browser takes for a host, is no route.
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

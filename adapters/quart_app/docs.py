"""`/openapi.json` and `/asyncapi.json`, and their pages under strict content security policies.

`/docs` is Swagger UI from local files; `/docs/socket` is rendered here.
"""

from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable

from quart import Blueprint, Response
from werkzeug.exceptions import NotFound

from adapters.http_api.asyncapi import describe_socket
from adapters.http_api.endpoints import Endpoint
from adapters.http_api.exchange import JSON
from adapters.http_api.openapi import describe
from adapters.http_api.wire import encode
from adapters.quart_app import socket_page
from messaging_core.limits import Limits

# Swagger UI writes style attributes and shows its icons as data.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>messaging-core: the API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

START = """SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
});
"""

ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}


CONTENT_TYPES = {**ASSETS, "socket.css": "text/css"}


def documentation(endpoints: Iterable[Endpoint], limits: Limits, *, socket_profile: str) -> Blueprint:
    """The routes of the documentation; the descriptions are built once."""
    description = encode(describe(endpoints, limits))
    socket = describe_socket(limits, default_profile=socket_profile)
    socket_description, socket_html = encode(socket), socket_page.render(socket)
    directory: Traversable = files("flask_swagger_ui") / "dist"
    # Read once: all responses share the same bytes, which the listener does not copy for slow readers.
    assets = {name: (directory / name).read_bytes() for name in ASSETS}
    assets["socket.css"] = (socket_page.FILES / "socket.css").read_bytes()
    blueprint = Blueprint("documentation", __name__)

    @blueprint.get("/openapi.json")
    async def openapi() -> Response:
        return Response(description, content_type=JSON)

    @blueprint.get("/asyncapi.json")
    async def asyncapi() -> Response:
        return Response(socket_description, content_type=JSON)

    @blueprint.get("/docs")
    async def page() -> Response:
        return _html(PAGE, CONTENT_SECURITY_POLICY)

    @blueprint.get("/docs/socket")
    async def page_of_socket() -> Response:
        return _html(socket_html, socket_page.CONTENT_SECURITY_POLICY)

    @blueprint.get("/docs/<name>")
    async def asset(name: str) -> Response:
        if name == "start.js":
            headers = {"X-Content-Type-Options": "nosniff"}
            return Response(START, content_type="text/javascript; charset=utf-8", headers=headers)
        if name not in assets:
            raise NotFound
        headers = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}
        return Response(assets[name], content_type=CONTENT_TYPES[name], headers=headers)

    return blueprint


def _html(page: str, content_security_policy: str) -> Response:
    headers = {"Content-Security-Policy": content_security_policy, "X-Content-Type-Options": "nosniff"}
    return Response(page, content_type="text/html; charset=utf-8", headers=headers)

"""`/openapi.json`, and `/docs`: Swagger UI from local files, under a strict content security policy."""

from collections.abc import Iterable
from importlib.resources import files
from importlib.resources.abc import Traversable

from quart import Blueprint, Response
from werkzeug.exceptions import NotFound

from adapters.http_api.endpoints import Endpoint
from adapters.http_api.exchange import JSON
from adapters.http_api.openapi import describe
from adapters.http_api.wire import encode
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


def documentation(endpoints: Iterable[Endpoint], limits: Limits) -> Blueprint:
    """The routes of the documentation; the description is built once."""
    description = encode(describe(endpoints, limits))
    directory: Traversable = files("flask_swagger_ui") / "dist"
    # Read once: all responses share the same bytes, which the listener does not copy for slow readers.
    assets = {name: (directory / name).read_bytes() for name in ASSETS}
    blueprint = Blueprint("documentation", __name__)

    @blueprint.get("/openapi.json")
    async def openapi() -> Response:
        return Response(description, content_type=JSON)

    @blueprint.get("/docs")
    async def page() -> Response:
        headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "X-Content-Type-Options": "nosniff"}
        return Response(PAGE, content_type="text/html; charset=utf-8", headers=headers)

    @blueprint.get("/docs/<name>")
    async def asset(name: str) -> Response:
        if name == "start.js":
            headers = {"X-Content-Type-Options": "nosniff"}
            return Response(START, content_type="text/javascript; charset=utf-8", headers=headers)
        if name not in assets:
            raise NotFound
        headers = {"Cache-Control": "public, max-age=86400", "X-Content-Type-Options": "nosniff"}
        return Response(assets[name], content_type=ASSETS[name], headers=headers)

    return blueprint

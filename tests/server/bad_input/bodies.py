"""The endpoints that take a body, and JSON that is nested in one."""

from adapters.quart_app.routes import ENDPOINTS

WITH_BODY = [endpoint for endpoint in ENDPOINTS if endpoint.has_body]


def nested(levels: int, opening: str = "[", closing: str = "]", innermost: str = "") -> str:
    return opening * levels + innermost + closing * levels

"""The endpoints with a body, and nested JSON."""

from adapters.http_api.endpoints import Endpoint
from adapters.http_api.routes import ENDPOINTS
from adapters.quart_app.config import HttpConfig

WITH_BODY = [endpoint for endpoint in ENDPOINTS if endpoint.has_body]


def is_too_large(endpoint: Endpoint, body: bytes) -> bool:
    """Whether the body exceeds the endpoint's bound."""
    return len(body) > HttpConfig().largest_body(endpoint)


def nested(levels: int, opening: str = "[", closing: str = "]", innermost: str = "") -> str:
    return opening * levels + innermost + closing * levels

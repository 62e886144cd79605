"""The HTTP and WebSocket transport: translates requests to commands and results to answers only."""

from adapters.quart_app.app import create_app
from adapters.quart_app.config import HttpConfig

__all__ = ["HttpConfig", "create_app"]

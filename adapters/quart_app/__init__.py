"""The HTTP and WebSocket transport: translates requests to commands and results to answers, and no more."""

from adapters.quart_app.app import HttpConfig, create_app

__all__ = ["HttpConfig", "create_app"]

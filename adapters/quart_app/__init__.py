"""The binding of the API to Quart, the socket, the documentation's pages and the web client."""

from adapters.quart_app.app import create_app
from adapters.quart_app.config import HttpConfig

__all__ = ["HttpConfig", "create_app"]

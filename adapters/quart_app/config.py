"""The application's configuration."""

from attrs import frozen

from adapters.http_api.config import ApiConfig


@frozen(kw_only=True)
class HttpConfig(ApiConfig):
    """The configuration of the API, of its socket and of its pages."""

    handshake_time: float = 10.0
    """Seconds within which a socket's handshake must have its response."""
    socket_profile: str = "1"
    """The profile of sockets that name none."""
    docs: bool = True
    """Whether `/docs`, `/openapi.json` and `/asyncapi.json` are served."""
    client: bool = True
    """Whether the reference client is served at `/`."""

"""The application's configuration."""

from attrs import frozen

from adapters.quart_app.cors import ANY_ORIGIN
from adapters.quart_app.endpoints import Auth, Endpoint


@frozen(kw_only=True)
class HttpConfig:
    """The application's configuration."""

    cors_origins: tuple[str, ...] = (ANY_ORIGIN,)
    """Origins whose pages may call, such as `https://app.example`; `*` is any."""
    rate_limits: bool = True
    """Whether requests are limited; off for load tests only."""
    body_bytes: int = 1_048_576
    """The largest request body; a larger one is refused with 413 and not read."""
    body_bytes_without_token: int = 65_536
    """The largest request body of an endpoint without authentication, to which anybody may send."""
    handshake_time: float = 10.0
    """Seconds within which a socket's handshake must be answered."""
    docs: bool = True
    """Whether `/docs` and `/openapi.json` are served."""
    client: bool = True
    """Whether the reference client is served at `/`."""

    def largest_body(self, endpoint: Endpoint) -> int:
        """Bytes of the largest body that this endpoint accepts."""
        if endpoint.auth is Auth.NONE:
            return min(self.body_bytes, self.body_bytes_without_token)
        return self.body_bytes

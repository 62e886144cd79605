"""How the application faces its callers."""

from attrs import frozen

from adapters.quart_app.cors import ANY_ORIGIN
from adapters.quart_app.endpoints import Auth, Endpoint


@frozen(kw_only=True)
class HttpConfig:
    """How the application faces its callers."""

    cors_origins: tuple[str, ...] = (ANY_ORIGIN,)
    """Origins whose pages may call, such as `https://app.example`; `*` is any."""
    rate_limits: bool = True
    """Whether requests are limited; off for load tests only."""
    body_bytes: int = 1_048_576
    """The largest request body; a larger one is a 413 and is not read."""
    body_bytes_without_token: int = 65_536
    """The same where no token is needed, so that anybody may send it."""
    handshake_time: float = 10.0
    """Seconds within which a socket's handshake must be answered."""
    docs: bool = True
    """Whether `/docs` and `/openapi.json` are served."""
    client: bool = True
    """Whether the reference client is served at `/`."""

    def largest_body(self, endpoint: Endpoint) -> int:
        """Bytes of the largest body that this endpoint takes."""
        if endpoint.auth is Auth.NONE:
            return min(self.body_bytes, self.body_bytes_without_token)
        return self.body_bytes

"""The API's configuration."""

from attrs import frozen

from adapters.http_api.cors import ANY_ORIGIN
from adapters.http_api.endpoints import Auth, Endpoint


@frozen(kw_only=True)
class ApiConfig:
    """The API's configuration."""

    cors_origins: tuple[str, ...] = (ANY_ORIGIN,)
    """Origins whose pages may call, such as `https://app.example`; `*` is any."""
    rate_limits: bool = True
    """Whether requests are limited; off for load tests only."""
    body_bytes: int = 1_048_576
    """The largest request body; a larger one is refused with 413 and not read."""
    body_bytes_without_token: int = 65_536
    """The largest request body of an endpoint without authentication, to which anybody may send."""

    def largest_body(self, endpoint: Endpoint) -> int:
        """Bytes of the largest body that this endpoint accepts."""
        if endpoint.auth is Auth.NONE:
            return min(self.body_bytes, self.body_bytes_without_token)
        return self.body_bytes

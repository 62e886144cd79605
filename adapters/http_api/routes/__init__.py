"""Every endpoint of the API, a resource a file, in the order of the documentation."""

from adapters.http_api.endpoints import Endpoint
from adapters.http_api.routes import auth, chats, groups, messages, presence, probes, users

ENDPOINTS: tuple[Endpoint, ...] = (
    *auth.ENDPOINTS,
    *users.ENDPOINTS,
    *chats.ENDPOINTS,
    *groups.ENDPOINTS,
    *messages.ENDPOINTS,
    *presence.ENDPOINTS,
    *probes.ENDPOINTS,
)

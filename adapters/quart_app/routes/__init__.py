"""Every endpoint of the API, a resource a file, in the order of the documentation."""

from adapters.quart_app.endpoints import Endpoint
from adapters.quart_app.routes import auth, chats, messages, probes, users

ENDPOINTS: tuple[Endpoint, ...] = (
    *auth.ENDPOINTS,
    *users.ENDPOINTS,
    *chats.ENDPOINTS,
    *messages.ENDPOINTS,
    *probes.ENDPOINTS,
)

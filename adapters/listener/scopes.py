"""What the scopes of requests and of WebSockets have in common (ASGI 3.0)."""

from typing import TypedDict
from urllib.parse import unquote

from hypercorn.typing import ConnectionState

from adapters.listener.head import Fields
from adapters.listener.http1 import Http1
from adapters.listener.peer import Peer


class CommonScope(TypedDict):
    """The keys that have the same meaning in both kinds of scope."""

    path: str
    raw_path: bytes
    query_string: bytes
    root_path: str
    headers: Fields
    client: tuple[str, int] | None
    server: tuple[str, int | None] | None
    state: ConnectionState


def common_scope(target: bytes, fields: Fields, http: Http1, peer: Peer) -> CommonScope:
    """The common keys for a request with this target and these header fields."""
    path, _, query = target.partition(b"?")
    return {
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": peer.shared.hypercorn.root_path,
        "headers": fields,
        "client": http.heads.client,
        "server": peer.server,
        "state": ConnectionState(peer.shared.state.copy()),
    }

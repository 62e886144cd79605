"""What the listener has seen since its start, for metrics."""

from attrs import define


@define
class Counts:
    """Numbers that only grow, but for the two that are `open`; plain integers, one thread."""

    accepted: int = 0
    """Connections that were served."""
    refused: int = 0
    """Connections that got a 503 because of a limit."""
    open_connections: int = 0
    open_sockets: int = 0
    """WebSockets, from accept to close; they are among the open connections."""
    requests: int = 0
    """Request heads that reached the application, WebSocket handshakes included."""
    bad_requests: int = 0
    """Requests that the listener itself refused."""
    timeouts: int = 0
    """Heads, bodies and handshakes that took too long; an idle connection's end is none."""
    write_timeouts: int = 0
    """Peers that did not read and were reset."""
    pings_unanswered: int = 0
    """Peers that were gone."""
    protocol_errors: int = 0
    """WebSockets closed with 1002, 1007 or 1009."""
    application_errors: int = 0
    """Exceptions that left the application."""
    faults: int = 0
    """Exceptions of the listener itself, each the end of one connection. Any is a bug."""

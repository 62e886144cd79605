"""What the listener has seen since its start, for metrics."""

from attrs import define


@define
class ListenerCounts:
    """Numbers that only grow, but for bytes and what is `open`; plain integers, one thread."""

    accepted: int = 0
    """Connections that were served."""
    refused: int = 0
    """Connections that got a 503 because of a limit."""
    unread_bytes: int = 0
    """Of requests that have come and are not answered yet, as far as they had to be waited for."""
    unsent_bytes: int = 0
    """Of answers that wait for slow readers."""
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
    unread_shed: int = 0
    """Requests that were given up, with 503, because too much had come of all that were not answered yet."""
    unsent_shed: int = 0
    """Slow readers that were reset because too many answers waited for their peers."""
    unsent_refused: int = 0
    """Large answers for which there was no room: they were a 503 instead."""
    pings_unanswered: int = 0
    """Peers that were gone."""
    protocol_errors: int = 0
    """WebSockets closed with 1002, 1007 or 1009."""
    application_errors: int = 0
    """Exceptions that left the application."""
    faults: int = 0
    """Exceptions of the listener itself, each the end of one connection. Any is a bug."""

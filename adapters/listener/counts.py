"""The listener's counters, for metrics."""

from attrs import define


@define
class ListenerCounts:
    """Counters since the start; bytes and `open_…` are gauges. Plain integers, for one thread."""

    accepted: int = 0
    """Connections served."""
    refused: int = 0
    """Connections refused with 503 because of a limit."""
    unread_bytes: int = 0
    """Of requests without a response, except those that arrived in one piece."""
    unsent_bytes: int = 0
    """Of responses that wait for peers that read slowly."""
    open_connections: int = 0
    open_sockets: int = 0
    """WebSockets, from accept to close; included in the open connections."""
    requests: int = 0
    """Request heads that reached the application, WebSocket handshakes included."""
    bad_requests: int = 0
    """Requests that the listener refused itself."""
    timeouts: int = 0
    """Heads, bodies and handshakes that took too long; the idle timeout of a connection does not count."""
    write_timeouts: int = 0
    """Peers reset because they did not read."""
    unread_shed: int = 0
    """Requests refused with 503 because the unread requests of all peers exceeded a bound."""
    unsent_shed: int = 0
    """Slow readers reset because the unsent responses of all peers exceeded a bound."""
    unsent_refused: int = 0
    """Large responses replaced by a 503 because there was no room for them."""
    pings_without_pong: int = 0
    """Half-open connections that a ping detected."""
    protocol_errors: int = 0
    """WebSockets closed with 1002, 1007 or 1009."""
    application_errors: int = 0
    """Exceptions that the application did not catch."""
    faults: int = 0
    """Exceptions of the listener itself, each of which ended one connection. Each is a bug."""

"""Every number of the listener: its unit, its default, and the reason for it."""

from attrs import field, frozen
from attrs.validators import ge, gt

from adapters.listener.proxies import NO_PROXIES, TrustedProxies


@frozen(kw_only=True)
class ListenerConfig:
    """Where to listen, and the limits for peers; sizes are bytes, times are seconds.

    Raises `ValueError` for a number below its minimum.
    """

    host: str = "127.0.0.1"
    """An address, or a name: the listener listens on each address of a name."""
    port: int = field(default=8000, validator=ge(0))
    """0 chooses a free port, which `serve` reports."""
    inherited: tuple[int, ...] = ()
    """Descriptors of listening sockets that the process has inherited, in place of `host` and `port`."""
    backlog: int = field(default=1024, validator=gt(0))
    """Connections that the kernel may hold until they are accepted: after a restart all clients reconnect at
    once."""

    connections: int = field(default=10_000, validator=gt(0))
    """Open connections; one more gets a 503. Each needs a file descriptor: set `ulimit -n` above this."""
    connections_per_address: int = field(default=500, validator=gt(0))
    """Of these, for one IPv4 address or IPv6 /64: enough for a campus behind one address, and one attacker
    cannot use up all."""
    uncounted_addresses: frozenset[str] = frozenset({"127.0.0.1", "::1"})
    """Addresses to which only the total limit applies: behind a proxy on this machine all clients have its
    address."""
    trusted_proxies: TrustedProxies = NO_PROXIES
    """Addresses and networks of the proxies in front, separated by spaces: 127.0.0.1 10.0.0.0/8. The
    listener reads X-Forwarded-For and X-Forwarded-Proto of their requests only, and of the limits on
    connections only the total applies to them."""

    head_bytes: int = field(default=16_384, validator=gt(0))
    """Request line and headers; 431 (414 if it is the line) beyond. Browsers send 1 to 8 KiB."""
    head_fields: int = field(default=100, validator=gt(0))
    """Header fields in a request; 431 beyond, as in Apache's LimitRequestFields."""
    head_time: float = field(default=10.0, validator=gt(0))
    """For a complete head, from its first byte, however slowly it arrives; 408 beyond."""
    idle_time: float = field(default=75.0, validator=gt(0))
    """How long a keep-alive connection may wait for its next request: longer than the 60 s after which common
    proxies close theirs, because the close of the side that closes first can cross the next request."""
    body_bytes: int = field(default=1_048_576, validator=gt(0))
    """A request's body. The application receives one byte more, so that it can respond with 413 itself; if it
    does not within `refusal_time`, the listener responds with 413."""
    body_idle_time: float = field(default=15.0, validator=gt(0))
    """Between two segments of a body; 408 beyond."""
    body_time: float = field(default=120.0, validator=gt(0))
    """For a complete body, however slowly it arrives: 1 MiB at 9 KB/s; 408 beyond."""
    refusal_time: float = field(default=1.0, validator=gt(0))
    """How long the application may take for its own response to a body that is too large."""

    unread_bytes: int = field(default=8_388_608, validator=gt(0))
    """Bytes of all requests without a response: partial heads and bodies, and the parts that the
    application has received. Beyond it the connection with the most gets a 503. Room for eight bodies of the
    largest size, or about a thousand of the usual one, at a time."""
    unread_bytes_per_address: int = field(default=4_194_304, validator=gt(0))
    """Of these, for one IPv4 address or IPv6 /64."""
    unsent_bytes: int = field(default=33_554_432, validator=gt(0))
    """Bytes of all responses that the kernel does not accept because their peers read slowly. A large
    response to a GET starts only if it leaves half of the free room free, and waits up to `unsent_wait` for
    that; beyond the bound the connection with the most is reset. A file counts once, however many peers
    read it."""
    unsent_bytes_per_address: int = field(default=16_777_216, validator=gt(0))
    """Of these, for one IPv4 address or IPv6 /64: the largest page of history is 12 MB."""
    unsent_wait: float = field(default=5.0, validator=ge(0))
    """How long the response to a GET waits for room among these, before a 503 with Retry-After."""

    write_time: float = field(default=20.0, validator=gt(0))
    """For each 64 KiB, until the kernel has accepted it; a peer that reads more slowly is reset. It is also
    the longest time for which a send of the application can resist its cancellation."""
    linger_time: float = field(default=2.0, validator=gt(0))
    """How long after the last byte or a close frame the listener reads and drops the peer's bytes: to close
    at once would reset the connection, and the response or the close code would be lost."""

    inbox_messages: int = field(default=64, validator=gt(0))
    """Messages or body segments that wait for the application; at the limit the listener stops reading."""
    inbox_bytes: int = field(default=131_072, validator=gt(0))
    """The same limit in bytes: two WebSocket messages of the largest size."""

    message_bytes: int = field(default=65_536, validator=gt(0))
    """A WebSocket message, all fragments together, before decoding; 1009 beyond."""
    handshake_time: float = field(default=10.0, validator=gt(0))
    """For the application, from the upgrade request until it accepts or refuses; 503 beyond."""
    ping_interval: float = field(default=25.0, validator=gt(0))
    """Between two pings: below the 30 to 60 s after which proxies and mobile networks forget a connection. A
    peer that sends nothing between two pings is reset: a half-open connection ends within twice this."""
    stall_time: float = field(default=10.0, validator=gt(0))
    """How long an application may receive nothing from a full inbox before its socket closes with 1011."""
    abandon_time: float = field(default=30.0, validator=gt(0))
    """How long an application's task may run after its connection's end before it is cancelled."""

    quick_path: bool = True
    """Whether whole requests, and frames that are encoded once for many sockets, bypass ASGI and the web
    framework where the application supports it. Without it the responses are the same, and slower."""

    refusal_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Header fields of the listener's own refusals, which bypass the application: CORS, for example."""

    drain_time: float = field(default=10.0, validator=gt(0))
    """From the start of the shutdown until the remaining connections are reset and their tasks cancelled."""
    drain_socket_time: float = field(default=1.0, validator=ge(0))
    """Of that, for the application to close its sockets itself; then the listener does, with 1012. A new
    connection has as long for its first request."""
    startup_time: float = field(default=60.0, validator=gt(0))
    """For the application's lifespan startup, which may run migrations."""
    shutdown_time: float = field(default=10.0, validator=gt(0))
    """For the application's lifespan shutdown, after the drain."""

"""Every number of the listener: its unit, its default, and why it is that."""

from attrs import field, frozen
from attrs.validators import ge, gt
from hypercorn.config import Config

from adapters.listener.logs import StructlogLogger
from adapters.listener.proxies import NO_PROXIES, TrustedProxies


@frozen(kw_only=True)
class ListenerConfig:
    """Where to listen and what to bear from a peer; sizes are bytes, times are seconds.

    A number below its bound is refused with `ValueError`.
    """

    host: str = "127.0.0.1"
    """An address or a name; a name is listened on at each of its addresses."""
    port: int = field(default=8000, validator=ge(0))
    """0 takes a free one: `serve` reports which."""
    inherited: tuple[int, ...] = ()
    """Descriptors of listening sockets that the process was given, in place of `host` and `port`."""
    backlog: int = field(default=1024, validator=gt(0))
    """Connections that the kernel may hold until they are accepted; a reconnecting crowd comes at once."""

    connections: int = field(default=10_000, validator=gt(0))
    """Connections at a time; one more gets a 503. Each takes a file descriptor: `ulimit -n` above this."""
    connections_per_address: int = field(default=500, validator=gt(0))
    """Of these, for one IPv4 address or IPv6 /64: a campus behind one address fits, one attacker does not
    take all."""
    uncounted_addresses: frozenset[str] = frozenset({"127.0.0.1", "::1"})
    """Addresses that only the limit in all holds for: everybody's, when a proxy on this machine forwards."""
    trusted_proxies: TrustedProxies = NO_PROXIES
    """Addresses and networks of the proxies in front, separated by spaces: 127.0.0.1 10.0.0.0/8. What they
    say of a request in X-Forwarded-For and X-Forwarded-Proto is believed, what others say is not, and of the
    limits of connections only the one in all holds for them."""

    head_bytes: int = field(default=16_384, validator=gt(0))
    """Request line and headers; 431 (414 if it is the line) beyond. Browsers send 1 to 8 KiB."""
    head_fields: int = field(default=100, validator=gt(0))
    """Header fields in a request; 431 beyond, as in Apache's LimitRequestFields."""
    head_time: float = field(default=10.0, validator=gt(0))
    """For a whole head, from its first byte, however it drips; 408 beyond."""
    idle_time: float = field(default=75.0, validator=gt(0))
    """A keep-alive connection may wait so long for its next request, longer than the 60 s after which common
    proxies let go of theirs: the side that closes first races with the next request."""
    body_bytes: int = field(default=1_048_576, validator=gt(0))
    """A request's body. One byte more reaches the application, so that its own 413 can come; without one
    within `refusal_time` the listener answers 413."""
    body_idle_time: float = field(default=15.0, validator=gt(0))
    """Between two segments of a body; 408 beyond."""
    body_time: float = field(default=120.0, validator=gt(0))
    """For a whole body, however it drips: 1 MiB at 9 KB/s; 408 beyond."""
    refusal_time: float = field(default=1.0, validator=gt(0))
    """How long the application may take over its own answer to a body that is too large."""

    unread_bytes: int = field(default=8_388_608, validator=gt(0))
    """What of requests has come and is not answered yet, in all: heads and bodies that are still coming, and
    what the application has of them. Beyond it the connection with the most is answered 503. Eight bodies of
    the largest size, or some thousand of the usual one, at a time."""
    unread_bytes_per_address: int = field(default=4_194_304, validator=gt(0))
    """Of these, for one IPv4 address or IPv6 /64."""
    unsent_bytes: int = field(default=33_554_432, validator=gt(0))
    """Answers, in all, that the kernel does not take because their peers read slowly. A large answer to a GET
    is begun only if it leaves half of the room free, or waits for `unsent_wait`; beyond the bound the
    connection with the most is reset. Files are counted once, however many read them."""
    unsent_bytes_per_address: int = field(default=16_777_216, validator=gt(0))
    """Of these, for one IPv4 address or IPv6 /64: the largest page of history is 12 MB."""
    unsent_wait: float = field(default=5.0, validator=ge(0))
    """How long the answer to a GET waits for room among these, before it is a 503 with Retry-After."""

    write_time: float = field(default=20.0, validator=gt(0))
    """For each 64 KiB, until the kernel has taken it; a peer that reads slower is cut off (reset). It is also
    the longest that a send of the application can resist its cancellation."""
    linger_time: float = field(default=2.0, validator=gt(0))
    """After the last byte or a close frame, we read and drop what the peer still sends: closing at once would
    reset the connection, and the answer or the close code would be lost."""

    inbox_messages: int = field(default=64, validator=gt(0))
    """Messages or body segments that wait for the application; at the bound the listener stops reading."""
    inbox_bytes: int = field(default=131_072, validator=gt(0))
    """The same bound in bytes: two of the largest socket messages."""

    message_bytes: int = field(default=65_536, validator=gt(0))
    """A WebSocket message, its fragments together, before they are decoded; 1009 beyond."""
    handshake_time: float = field(default=10.0, validator=gt(0))
    """For the application, from the upgrade request to its accept or refusal; 503 beyond."""
    ping_interval: float = field(default=25.0, validator=gt(0))
    """Between two pings: below the 30 to 60 s after which proxies and mobile networks forget a connection. A
    peer from which nothing comes between two pings is dropped: gone within twice this."""
    stall_time: float = field(default=10.0, validator=gt(0))
    """An application that takes nothing from a full inbox for so long has its socket closed with 1011."""
    abandon_time: float = field(default=30.0, validator=gt(0))
    """An application's task that goes on so long after its connection's end is cancelled."""

    quick_path: bool = True
    """Whether whole requests and frames that are made once go past ASGI and the web framework, where the
    application can do without; if not, every answer is the same, and slower."""

    refusal_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Header fields of the listener's own refusals, which no layer of the application sees: CORS, say."""

    drain_time: float = field(default=10.0, validator=gt(0))
    """From the shutdown's trigger until connections that are left are reset and their tasks cancelled."""
    drain_socket_time: float = field(default=1.0, validator=ge(0))
    """Of that, for the application to close its sockets itself; then the listener does, with 1012. Who has
    just come has as long for the first request."""
    startup_time: float = field(default=60.0, validator=gt(0))
    """For the application's lifespan startup: migrations may run in it."""
    shutdown_time: float = field(default=10.0, validator=gt(0))
    """For the application's lifespan shutdown, after the drain."""


def hypercorn_config(config: ListenerConfig) -> Config:
    """The same for Hypercorn's own code: no Server header, no pings or keep-alive timers of its own."""
    told = Config()
    told.logger_class = StructlogLogger
    told.include_server_header = False
    told.h11_max_incomplete_size = config.head_bytes
    told.websocket_max_message_size = config.message_bytes
    told.startup_timeout = config.startup_time
    told.shutdown_timeout = config.shutdown_time
    return told

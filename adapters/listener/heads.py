"""The heads on one connection: when each is complete, how long it may take, and whom it comes from."""

from math import inf

from attrs import define, field

from adapters.listener.config import ListenerConfig
from adapters.listener.head import has_begun, take_head
from adapters.listener.proxies import parse_address, request_source
from adapters.listener.refused_request import RefusedRequest

SOON = ((b"retry-after", b"10"),)


@define(eq=False, weakref_slot=False)
class HeadReader:
    """Finds the next head in the received bytes."""

    _limits: ListenerConfig
    client: tuple[str, int] | None
    """Who has sent the request: the peer, or the client that a trusted proxy names."""
    secure: bool = field(init=False, default=False)
    """Whether that client uses TLS."""
    fresh: bool = field(init=False, default=True)
    """No request has arrived yet: at shutdown a new connection still gets its first response."""
    deadline: float = field(init=False, default=inf)
    """When a begun head must be complete."""
    _proxy: str = field(init=False, default="")
    """The peer's address if it is a trusted proxy, otherwise empty."""

    def __attrs_post_init__(self) -> None:
        trusted = self._limits.trusted_proxies
        if trusted and self.client is not None and parse_address(self.client[0]) in trusted:
            self._proxy = self.client[0]

    @property
    def begun(self) -> bool:
        """Whether a part of a head has been received."""
        return self.deadline < inf

    def next(self, received: bytearray, now: float, *, ended: bool, closing: bool) -> bytes | None:
        """Remove and return one complete head; None if bytes are missing, nothing if no head is awaited.

        None is awaited after the end of the peer's side, or while the server is `closing`. Raises
        `RefusedRequest`.
        """
        limits = self._limits
        if self._proxy:
            self.client = (self._proxy, 0)  # the client is unknown until the head has been read
        head = take_head(received, max_bytes=limits.head_bytes, max_fields=limits.head_fields)
        if head is None:
            return self._await(received, now, ended=ended, closing=closing)
        self.fresh, self.deadline = False, inf
        if self._proxy:
            source = request_source(head, self._proxy, limits.trusted_proxies)
            self.client, self.secure = (source.client, 0), source.secure
        return head

    def _await(self, received: bytearray, now: float, *, ended: bool, closing: bool) -> bytes | None:
        begun = has_begun(received)
        if begun and ended:
            raise RefusedRequest(400, "The request ended before its head did.")
        if ended or closing:
            self.fresh = False
            if begun:
                raise RefusedRequest(503, "The server is shutting down.", code="draining", headers=SOON)
            return b""
        if begun and not self.begun:
            self.deadline = now + self._limits.head_time
        return None

"""The unread requests of one connection, those without a response, among those of all connections."""

from adapters.listener.http1 import Http1, HttpPhase
from adapters.listener.peer import Peer
from messaging_core.addresses import network_of


class UnreadRequests:
    """Counts the bytes of a connection's requests that have no response; drops them in favour of others."""

    __slots__ = ("_http", "_peer", "_receiving", "counted", "dropped")

    def __init__(self, http: Http1, peer: Peer) -> None:
        self._http = http
        self._peer = peer
        self.counted = 0
        """Bytes, as last reported to the ledger of all connections."""
        self.dropped = False
        """Whether the ledger has shed these requests: the reader must refuse them."""
        self._receiving = False
        """Whether the reader is counting, and looks at `dropped` afterwards."""

    @property
    def address(self) -> str:
        """The key of the client in limits for each address."""
        client = self._http.heads.client
        return "" if client is None else network_of(client[0])

    def count(self, *, receiving: bool = False) -> None:
        """Count the bytes of unread requests, here and with the application.

        Beyond a bound this may shed connections, this one too if its reader is `receiving`.
        """
        size = self._peer.machine.unread
        if size != self.counted and not self.dropped:
            self.counted = size
            self._receiving = receiving
            self._peer.shared.unread.record(self, self.address, size)
            self._receiving = False

    def forget(self) -> None:
        """The connection has ended."""
        self._peer.shared.unread.record(self, self.address, 0)

    def shed(self) -> bool:
        """Drop these requests, the largest of all; false if the only one may be committed by now."""
        if self.dropped:
            return False
        phase = self._http.phase
        if phase in _INCOMPLETE and (self._receiving or self._peer.idle):
            self.dropped = True
            self._http.take_rest()
            self._peer.wake()
        elif phase not in {HttpPhase.HEAD, HttpPhase.BODY} and self._peer.machine.buffered:
            self._peer.abort()  # it pipelines requests without reading the responses
        else:
            return False
        self._peer.shared.counts.unread_shed += 1
        return True


_INCOMPLETE = frozenset({HttpPhase.HEAD, HttpPhase.WHOLE, HttpPhase.BODY})

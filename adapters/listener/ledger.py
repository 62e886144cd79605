"""Bounds the bytes that connections hold in memory, and chooses which of them to shed.

Beyond a bound the connection that holds the most is shed, never the newest: the peer that fills the memory
loses its connection, and another peer's small request is served.
"""

from collections.abc import Callable, Container, Hashable
from typing import Generic, TypeVar

import trio
from attrs import define

Holder = TypeVar("Holder", bound=Hashable)


def ignore_total(total: int) -> None:
    """The default gauge."""


@define
class _Entry:
    address: str
    size: int
    since: float


class MemoryLedger(Generic[Holder]):
    """The bytes that each connection holds, bounded in total and for each address.

    Each connection of an `uncounted` address, such as that of a proxy on this machine, counts separately.
    `shed` frees a holder's bytes and returns whether it could. `gauge` receives each new total.
    """

    def __init__(
        self,
        limit: int,
        limit_per_address: int,
        uncounted: Container[str],
        shed: Callable[[Holder], bool],
        gauge: Callable[[int], None] = ignore_total,
    ) -> None:
        self.limit = limit
        self.total = 0
        """Bytes of all holders."""
        self._limit_per_address = limit_per_address
        self._uncounted = uncounted
        self._shed = shed
        self._gauge = gauge
        self._entries: dict[Holder, _Entry] = {}
        """Oldest first."""
        self._of_address: dict[str, int] = {}

    def record(self, holder: Holder, address: str, size: int) -> None:
        """Set the bytes that a holder has, 0 for none; sheds holders until all bounds hold again."""
        entry = self._entries.get(holder)
        before = 0 if entry is None else entry.size
        if entry is not None:
            self._add(entry.address, -entry.size)
        if not size:
            self._entries.pop(holder, None)
            return
        self._entries[holder] = _Entry(address, size, trio.current_time() if entry is None else entry.since)
        self._add(address, size)
        if size > before:
            self._enforce_limits(address)

    def share(self, address: str) -> int:
        """Bytes of an address; 0 for an uncounted address, whose holders count separately."""
        return 0 if address in self._uncounted else self._of_address.get(address, 0)

    def fits(self, address: str, size: int) -> bool:
        """Whether `size` bytes more stay within the bound of an address; its only ones always do."""
        share = self.share(address)
        return not share or share + size <= self._limit_per_address

    def displace(self, address: str, size: int, *, age: float) -> bool:
        """Shed one holder in favour of `size` bytes of `address`; returns whether there was one to shed.

        Its address must hold more than `address` would, and the holder must be at least `age` seconds old.
        """
        above, latest = self.share(address) + size, trio.current_time() - age
        heavy = {
            holder: weight
            for holder, entry in self._entries.items()
            if entry.since <= latest and (weight := self._weight(entry))[0] > above
        }
        return self._shed_heaviest(heavy)

    def _enforce_limits(self, address: str) -> None:
        while not self.fits(address, 0) and self._shed_heaviest(self._weights(address)):
            pass
        while self.total > self.limit and self._shed_heaviest(self._weights()):
            pass

    def _weights(self, address: str | None = None) -> dict[Holder, tuple[int, int]]:
        return {
            holder: self._weight(entry)
            for holder, entry in self._entries.items()
            if address in {None, entry.address}
        }

    def _weight(self, entry: _Entry) -> tuple[int, int]:
        return self.share(entry.address) or entry.size, entry.size

    def _shed_heaviest(self, weights: dict[Holder, tuple[int, int]]) -> bool:
        """Shed the largest holder of the address with the largest share, the oldest among equals.

        A holder that cannot be shed now is skipped.
        """
        while weights:
            heaviest = max(weights, key=weights.__getitem__)
            if self._shed(heaviest):
                self.record(heaviest, "", 0)
                return True
            del weights[heaviest]
        return False

    def _add(self, address: str, size: int) -> None:
        self.total += size
        self._gauge(self.total)
        share = self._of_address.get(address, 0) + size
        if share:
            self._of_address[address] = share
        else:
            self._of_address.pop(address, None)

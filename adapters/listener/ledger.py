"""How many bytes connections make the process keep, and who gives way at a bound.

Beyond a bound the connection that keeps the most gives way, never the one that comes last: whoever fills the
memory is let go, and a stranger's small request is served.
"""

from collections.abc import Callable, Container, Hashable
from typing import Generic, TypeVar

import trio
from attrs import define

Holder = TypeVar("Holder", bound=Hashable)


def nothing(total: int) -> None:
    """For whoever does not want to know."""


@define
class _Entry:
    address: str
    size: int
    since: float


class MemoryLedger(Generic[Holder]):
    """What each connection keeps, bounded in all and for an address.

    Of `uncounted` addresses, such as that of a proxy on this machine, each connection counts for itself.
    `give_way` frees a holder's bytes, and says whether it could; `gauge` is told the total when it changes.
    """

    def __init__(
        self,
        most: int,
        most_per_address: int,
        uncounted: Container[str],
        give_way: Callable[[Holder], bool],
        gauge: Callable[[int], None] = nothing,
    ) -> None:
        self.most = most
        self.total = 0
        """Bytes that are kept in all."""
        self._most_per_address = most_per_address
        self._uncounted = uncounted
        self._give_way = give_way
        self._gauge = gauge
        self._entries: dict[Holder, _Entry] = {}
        """In the order of their beginning."""
        self._of_address: dict[str, int] = {}

    def keep(self, holder: Holder, address: str, size: int) -> None:
        """Note what a holder keeps from now on, 0 for nothing, and bring all back within the bounds."""
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
            self._come_within_bounds(address)

    def share(self, address: str) -> int:
        """Bytes that an address keeps; of an uncounted one none, where a holder counts for itself."""
        return 0 if address in self._uncounted else self._of_address.get(address, 0)

    def fits(self, address: str, size: int) -> bool:
        """Whether so many bytes more stay within the bound of their address; what is alone does."""
        share = self.share(address)
        return not share or share + size <= self._most_per_address

    def displace(self, address: str, size: int, *, age: float) -> bool:
        """Have one holder give way to so many bytes of an address; false if nobody must.

        That is one whose address would still keep more than this one, for at least `age` seconds.
        """
        above, latest = self.share(address) + size, trio.current_time() - age
        heavy = {
            holder: weight
            for holder, entry in self._entries.items()
            if entry.since <= latest and (weight := self._weight(entry))[0] > above
        }
        return self._free_heaviest(heavy)

    def _come_within_bounds(self, address: str) -> None:
        while not self.fits(address, 0) and self._free_heaviest(self._weights(address)):
            pass
        while self.total > self.most and self._free_heaviest(self._weights()):
            pass

    def _weights(self, address: str | None = None) -> dict[Holder, tuple[int, int]]:
        return {
            holder: self._weight(entry)
            for holder, entry in self._entries.items()
            if address in {None, entry.address}
        }

    def _weight(self, entry: _Entry) -> tuple[int, int]:
        return self.share(entry.address) or entry.size, entry.size

    def _free_heaviest(self, weights: dict[Holder, tuple[int, int]]) -> bool:
        """Of the address with the largest share the largest holder, of equal ones the oldest, if it can."""
        while weights:
            heaviest = max(weights, key=weights.__getitem__)
            if self._give_way(heaviest):
                self.keep(heaviest, "", 0)
                return True
            del weights[heaviest]
        return False

    def _add(self, address: str, size: int) -> None:
        self.total += size
        self._gauge(self.total)
        kept = self._of_address.get(address, 0) + size
        if kept:
            self._of_address[address] = kept
        else:
            self._of_address.pop(address, None)

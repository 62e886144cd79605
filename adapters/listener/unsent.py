"""Bounds the responses that wait in memory because their peers read slowly.

Only responses that the kernel does not accept at once are counted, so a peer that reads costs nothing here.
An object that several connections send, such as a file, is in memory once and is counted once.
"""

from collections.abc import AsyncIterator, Callable, Container, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, TypeVar

import trio

from adapters.listener.ledger import MemoryLedger, ignore_total

Holder = TypeVar("Holder", bound=Hashable)

GRACE = 5.0
"""Seconds before a slow reader can be shed in favour of an address that holds less."""
REFUSED_SIZES = 256
"""Sizes that are noted of responses that found no room, so that none is built only to be dropped."""


class UnsentResponses(Generic[Holder]):
    """The responses in transmission; a response counts in full until its last byte is with the kernel."""

    def __init__(
        self,
        limit: int,
        limit_per_address: int,
        uncounted: Container[str],
        shed: Callable[[Holder], bool],
        gauge: Callable[[int], None] = ignore_total,
        *,
        wait_time: float,
    ) -> None:
        self._ledger: MemoryLedger[Holder] = MemoryLedger(limit, limit_per_address, uncounted, shed, gauge)
        self._wait_time = wait_time
        self._senders: dict[int, dict[Holder, str]] = {}
        """By an object's identity, its senders and their addresses; the first sender is charged for it."""
        self._refused_sizes: dict[Hashable, int] = {}
        """By request: the response to the same path differs between callers."""
        self._reserved = 0
        """Bytes reserved for responses that are being built again."""
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def total(self) -> int:
        """Bytes of all responses."""
        return self._ledger.total

    @contextmanager
    def counting(self, holder: Holder, address: str, response: bytes) -> Iterator[None]:
        """Count a response inside the block; beyond a bound a holder is shed, possibly this one."""
        senders = self._senders.setdefault(id(response), {})
        senders[holder] = address
        if len(senders) == 1:
            self._ledger.record(holder, address, len(response))
        try:
            yield
        finally:
            charged = next(iter(senders)) is holder
            del senders[holder]
            if not senders:
                del self._senders[id(response)]
            if charged:
                self._ledger.record(holder, address, 0)
                for heir, of_heir in senders.items():
                    self._ledger.record(heir, of_heir, len(response))
                    break
                self._waiting.unpark_all()
                if not self._ledger.total:
                    self._refused_sizes.clear()

    def has_room(self, address: str, size: int) -> bool:
        """Whether a response of this size may start: it must leave half of the free room free.

        So the largest responses, which are few, never displace smaller ones (Choudhury and Hahne, Dynamic
        queue length thresholds for shared-memory packet switches, 1998). The only response always may. Slow
        readers of addresses that hold more are shed after their `GRACE`.
        """
        while not self._fits(address, size):
            if not self._ledger.displace(address, size, age=GRACE):
                return False
        return True

    def refused_size(self, request: Hashable) -> int:
        """The size of a response that found no room recently, otherwise 0."""
        return self._refused_sizes.get(request, 0) if self._refused_sizes else 0

    def note_refused_size(self, request: Hashable, size: int) -> None:
        """Note the size of a response that found no room; 0 deletes the note."""
        if not size:
            self._refused_sizes.pop(request, None)
        elif len(self._refused_sizes) < REFUSED_SIZES:
            self._refused_sizes[request] = size

    @asynccontextmanager
    async def reserve(self, address: str, size: int) -> AsyncIterator[bool]:
        """Wait for room and reserve it inside the block; yields whether there was room before the timeout."""
        found = False
        with trio.move_on_after(self._wait_time):
            while not self.has_room(address, size):
                await self._waiting.park()
            found = True
        self._reserved += size * found
        try:
            yield found
        finally:
            self._reserved -= size * found

    def _fits(self, address: str, size: int) -> bool:
        used = self._ledger.total + self._reserved
        if used and size > (self._ledger.limit - used) // 2:
            return False
        return self._ledger.fits(address, size)

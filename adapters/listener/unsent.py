"""Answers that wait in memory because their peers read them slowly: what of them is kept, and for whom.

Only what the kernel does not take at once comes here, so that an answer that is read costs nothing. One
object that several connections send, such as a file, is memory once, and is counted once.
"""

from collections.abc import AsyncIterator, Callable, Container, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, TypeVar

import trio

from adapters.listener.ledger import MemoryLedger, nothing

Holder = TypeVar("Holder", bound=Hashable)

GRACE = 5.0
"""Seconds that a slow reader has before it gives way to somebody whose address keeps less."""
EXPECTED = 256
"""Answers whose sizes are noted until there is room for all, so that none is made only to be dropped."""


class UnsentAnswers(Generic[Holder]):
    """The answers that are being sent; all of an answer is kept until its last byte is."""

    def __init__(
        self,
        most: int,
        most_per_address: int,
        uncounted: Container[str],
        give_way: Callable[[Holder], bool],
        gauge: Callable[[int], None] = nothing,
        *,
        patience: float,
    ) -> None:
        self._ledger: MemoryLedger[Holder] = MemoryLedger(most, most_per_address, uncounted, give_way, gauge)
        self._patience = patience
        self._sharers: dict[int, dict[Holder, str]] = {}
        """By the identity of an object, who sends it, and from which address; the first is charged for it."""
        self._expected: dict[tuple[str, bytes], int] = {}
        self._reserved = 0
        """Bytes of room that was found, of answers that are being made again."""
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def total(self) -> int:
        """Bytes that are kept in all."""
        return self._ledger.total

    @contextmanager
    def keeping(self, holder: Holder, address: str, answer: bytes) -> Iterator[None]:
        """Count an answer while the block lasts; beyond a bound somebody gives way, perhaps this holder."""
        sharers = self._sharers.setdefault(id(answer), {})
        sharers[holder] = address
        if len(sharers) == 1:
            self._ledger.keep(holder, address, len(answer))
        try:
            yield
        finally:
            charged = next(iter(sharers)) is holder
            del sharers[holder]
            if not sharers:
                del self._sharers[id(answer)]
            if charged:
                self._ledger.keep(holder, address, 0)
                for heir, of_heir in sharers.items():
                    self._ledger.keep(heir, of_heir, len(answer))
                    break
                self._waiting.unpark_all()
                if not self._ledger.total:
                    self._expected.clear()

    def has_room(self, address: str, size: int) -> bool:
        """Whether an answer of this size may be begun: with it half of the room that there was stays free.

        So the largest answers, which only few ask for, never keep out smaller ones (Choudhury and Hahne,
        Dynamic queue length thresholds for shared-memory packet switches, 1998). One alone always may.
        Slow readers of addresses that keep more give way, once they have had their `GRACE`.
        """
        while not self._fits(address, size):
            if not self._ledger.displace(address, size, age=GRACE):
                return False
        return True

    def expected(self, path: str, query: bytes) -> int:
        """The size of an answer for which there was no room lately, otherwise 0."""
        return self._expected.get((path, query), 0) if self._expected else 0

    def expect(self, path: str, query: bytes, size: int) -> None:
        """Note the size of an answer for which there is no room; 0: there has been."""
        if not size:
            self._expected.pop((path, query), None)
        elif len(self._expected) < EXPECTED:
            self._expected[path, query] = size

    @asynccontextmanager
    async def room(self, address: str, size: int) -> AsyncIterator[bool]:
        """Wait for room, which is reserved while the block lasts: whether any was found in time."""
        found = False
        with trio.move_on_after(self._patience):
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
        if used and size > (self._ledger.most - used) // 2:
            return False
        return self._ledger.fits(address, size)

"""Memory that is no longer used goes back to the system, where the C library is glibc.

glibc takes a block of 128 KiB or more from the system by itself and gives it back when it is freed, but each
such block raises that size, up to 32 MiB: after the first large answers all others come from the heap. Of the
heap it gives back only what is free at the end. So a siege of slow readers would be kept as holes for good.
"""

import ctypes

import trio

M_MMAP_THRESHOLD = -3
"""Of mallopt(3). To set it is to turn the raising off."""
LARGE = 131_072
"""Bytes: the value that glibc begins with. What is read at a time is smaller, and is used again at once."""

LOOK_EVERY = 5.0
"""Seconds."""
WORTH = 8_388_608
"""Bytes that must have become free since the heap was last trimmed: 10 MB take a millisecond."""


class _Heap(ctypes.Structure):
    """`struct mallinfo2`."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )

    fordblks: int
    """Bytes that are free in the heap, those included whose pages the system has back."""


class Memory:
    """The memory of this process; does nothing where the C library is not glibc 2.33 or newer."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None)
        self._trimmed_at = 0
        self.is_glibc = hasattr(self._libc, "mallinfo2") and hasattr(self._libc, "malloc_trim")
        if self.is_glibc:
            self._libc.mallinfo2.restype = _Heap
            self._libc.malloc_trim.argtypes = [ctypes.c_size_t]

    async def keep_trimmed(self) -> None:
        """For ever: give back what has become free."""
        if self.is_glibc:
            self._libc.mallopt(M_MMAP_THRESHOLD, LARGE)
            while True:
                await trio.sleep(LOOK_EVERY)
                self.trim()

    def trim(self) -> bool:
        """Give back what is free, if that is worth it; whether it was."""
        free = int(self._libc.mallinfo2().fordblks)
        if free < self._trimmed_at + WORTH:
            self._trimmed_at = min(self._trimmed_at, free)
            return False
        self._libc.malloc_trim(0)
        self._trimmed_at = free
        return True

"""Returns unused memory to the system, where the C library is glibc.

glibc maps a block of 128 KiB or more separately and unmaps it when it is freed, but each freed block raises
that threshold, up to 32 MiB: after the first large responses all others are allocated on the heap. glibc
returns only the free memory at the heap's end, so a siege of slow readers would leave holes in the heap for
good.
"""

import ctypes

import trio

M_MMAP_THRESHOLD = -3
"""The parameter of mallopt(3). Setting it stops the threshold from rising."""
LARGE = 131_072
"""Bytes: glibc's initial threshold. Read buffers are smaller, and are reused at once."""

LOOK_EVERY = 5.0
"""Seconds."""
WORTH = 8_388_608
"""Bytes that must become free before the heap is trimmed again: trimming 10 MB takes a millisecond."""


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
    """Free bytes in the heap, including those whose pages were returned to the system."""


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
        """Run until cancelled: return free memory to the system."""
        if self.is_glibc:
            self._libc.mallopt(M_MMAP_THRESHOLD, LARGE)
            while True:
                await trio.sleep(LOOK_EVERY)
                self.trim()

    def trim(self) -> bool:
        """Return free memory to the system, if it is at least `WORTH`; whether it was."""
        free = int(self._libc.mallinfo2().fordblks)
        if free < self._trimmed_at + WORTH:
            self._trimmed_at = min(self._trimmed_at, free)
            return False
        self._libc.malloc_trim(0)
        self._trimmed_at = free
        return True

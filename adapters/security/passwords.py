"""Hashes passwords with argon2id (RFC 9106), in a few threads and never on the event loop.

The network with the fewest recent requests goes first, and of those with as few, one whose user has given the
right password, then one of a site with few recent requests: see `messaging_core.fair_queue`.
"""

from functools import partial
from typing import TypeVar

import trio
from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from messaging_core.addresses import site_of
from messaging_core.fair_queue import FairQueue
from messaging_core.ports import PasswordHasherBusy

T = TypeVar("T")

MEMORY_KIB = 19 * 1024
ITERATIONS = 2
LANES = 1
"""OWASP's minimum (Password Storage Cheat Sheet): 19 MiB, 2 iterations, 1 lane; about 21 ms here."""

QUEUE = 64
"""Passwords that may wait: 1.3 s of work at 21 ms each, for about as long as a person is willing to wait."""
QUEUE_OF_NETWORK = 32
"""Of these, passwords from one network: enough for an office whose people log in at the same time."""


class _Waiter:
    """A caller that waits for a thread."""

    def __init__(self) -> None:
        self.over = trio.Event()
        self.granted = False
        """Once `over` is set: whether the caller has a thread; otherwise the queue refused or evicted it."""

    def end(self, *, granted: bool) -> None:
        self.granted = granted
        self.over.set()


class Argon2Hasher:
    """Hashes at most `threads` passwords at a time, each in 19 MiB; at most 64 more wait in a fair queue.

    Work continues after its caller is cancelled: a thread cannot be stopped.
    """

    def __init__(self, threads: int = 1) -> None:
        self._argon2 = PasswordHasher(ITERATIONS, MEMORY_KIB, LANES, type=Type.ID)
        self._limiter = trio.CapacityLimiter(threads)  # never full: `_idle` counts the same threads
        self._idle = threads
        self._queue: FairQueue[_Waiter] = FairQueue(
            of_flow=QUEUE_OF_NETWORK, in_all=QUEUE, source_of=lambda network: site_of(str(network))
        )
        # The hash of no password: verifying it costs the same work as any other hash, creating it none.
        self._decoy = f"$argon2id$v=19$m={MEMORY_KIB},t={ITERATIONS},p={LANES}${'A' * 22}${'A' * 43}"

    async def hash(self, password: str, *, network: str) -> str:
        return await self._in_thread(network, partial(self._argon2.hash, password))

    async def matches(self, password_hash: str | None, password: str, *, network: str) -> bool:
        work = partial(self._verify, password_hash or self._decoy, password)
        verdict = await self._in_thread(network, work) and password_hash is not None
        if verdict:
            self._queue.credit(network)
        return verdict

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._argon2.verify(password_hash, password)
        except (VerifyMismatchError, UnicodeEncodeError):
            return False
        except (InvalidHashError, VerificationError) as error:
            raise RuntimeError("a stored password hash is damaged; its owner cannot log in") from error

    async def _in_thread(self, network: str, work: partial[T]) -> T:
        await self._acquire(network)
        try:
            return await trio.to_thread.run_sync(work, limiter=self._limiter)
        finally:
            self._release()

    async def _acquire(self, network: str) -> None:
        """Wait for a thread, which `_release` returns; raises `PasswordHasherBusy`."""
        if self._idle:
            self._idle -= 1
            return
        waiter = _Waiter()
        for refused in self._queue.push(network, waiter):
            refused.end(granted=False)
        try:
            await waiter.over.wait()
        except BaseException:
            self._queue.discard(network, waiter)
            if waiter.granted:
                self._release()
            raise
        if not waiter.granted:
            raise PasswordHasherBusy

    def _release(self) -> None:
        """Give the thread to the next caller, or mark it as idle."""
        if len(self._queue):
            self._queue.pop().end(granted=True)
        else:
            self._idle += 1

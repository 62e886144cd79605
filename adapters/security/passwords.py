"""Passwords as argon2id hashes (RFC 9106), made in a few threads and never on the event loop."""

from functools import partial
from typing import TypeVar

import trio
from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from messaging_core.ports import PasswordHasherBusy

T = TypeVar("T")

MEMORY_KIB = 19 * 1024
ITERATIONS = 2
LANES = 1
"""OWASP's minimum (Password Storage Cheat Sheet): 19 MiB, 2 iterations, 1 lane; about 21 ms here."""

QUEUE = 64
"""Passwords that may wait; at 21 ms each, the last one waits for about as long as a person does."""


class Argon2Hasher:
    """Hashes at most `threads` passwords at a time, each in 19 MiB; with more than 64 waiting it is busy.

    The work is not abandoned when its caller is cancelled: a thread cannot be stopped.
    """

    def __init__(self, threads: int = 1) -> None:
        self._argon2 = PasswordHasher(ITERATIONS, MEMORY_KIB, LANES, type=Type.ID)
        self._limiter = trio.CapacityLimiter(threads)
        # Of no password: it takes the work of any other to find that out, and none to make it.
        self._decoy = f"$argon2id$v=19$m={MEMORY_KIB},t={ITERATIONS},p={LANES}${'A' * 22}${'A' * 43}"

    async def hash(self, password: str) -> str:
        return await self._in_thread(partial(self._argon2.hash, password))

    async def matches(self, password_hash: str | None, password: str) -> bool:
        verdict = await self._in_thread(partial(self._verify, password_hash or self._decoy, password))
        return verdict and password_hash is not None

    def _verify(self, password_hash: str, password: str) -> bool:
        try:
            return self._argon2.verify(password_hash, password)
        except (VerifyMismatchError, UnicodeEncodeError):
            return False
        except (InvalidHashError, VerificationError) as error:
            raise RuntimeError("a stored password hash is damaged; its owner cannot log in") from error

    async def _in_thread(self, work: partial[T]) -> T:
        if self._limiter.statistics().tasks_waiting >= QUEUE:
            raise PasswordHasherBusy
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

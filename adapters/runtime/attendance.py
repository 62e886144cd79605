"""Keeps in the storage who has a socket in this process, by a lease that it renews."""

import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import structlog
import trio

from messaging_core import operations
from messaging_core.ids import UserId
from messaging_core.limits import Limits
from messaging_core.operations import Operation
from messaging_core.ports import StorageUnavailable
from messaging_core.presence import RENEW_AFTER, Attendance

log = structlog.get_logger(__name__)

RETRY_SECONDS = 5.0
"""Pause after a failed attempt to store."""
GATHER_SECONDS = 1.0
"""Pause before changes are stored, in which further ones gather: a socket that reopens changes nothing."""


class Attendant:
    """Stores the changes of an `Attendance`; `execute` carries out an operation durably."""

    def __init__(
        self,
        execute: Callable[[Operation[bool]], Awaitable[Any]],
        now: Callable[[], datetime],
        limits: Limits,
    ) -> None:
        self._execute = execute
        self._now = now
        self._limits = limits
        self._attendance = Attendance()
        self._holder: str | None = None
        """The name of the lease; None where there is none."""
        self._work = trio.Event()
        self._fails = False

    def come(self, user_id: UserId) -> None:
        """A user has opened a socket."""
        self._attendance.come(user_id)
        if self._attendance.has_changed:
            self._work.set()

    def go(self, user_id: UserId) -> None:
        """A user's last socket has closed."""
        self._attendance.go(user_id)
        self._work.set()

    async def run(self) -> None:
        """Store what changes, and renew the lease, until cancelled.

        The lease is left to expire: until then its users count as being there, as others who leave do.
        """
        while True:
            if self._attendance.is_empty:
                await self._work.wait()
            else:
                with trio.move_on_after(RENEW_AFTER.total_seconds()):
                    await self._work.wait()
            await trio.sleep(GATHER_SECONDS)
            self._work = trio.Event()
            try:
                await self.store()
                self._fails = False
            except StorageUnavailable as error:
                if not self._fails:  # once for an outage
                    log.warning("Presence cannot be stored; it is tried again", error=str(error))
                await self._try_again()
            except Exception:
                log.exception("Presence cannot be stored; it is tried again")
                await self._try_again()

    async def _try_again(self) -> None:
        self._fails = True
        self._work.set()
        await trio.sleep(RETRY_SECONDS)

    async def store(self) -> None:
        """Store all changes, and renew the lease; raises `StorageUnavailable`."""
        attendance = self._attendance
        while not attendance.is_empty:
            changes = attendance.changes()
            holder = self._holder or secrets.token_hex(8)
            operation = operations.keep_lease(
                holder, changes, is_new=self._holder is None, now=self._now(), limits=self._limits
            )
            if await self._execute(operation):
                self._holder = holder
                attendance.stored(changes)
                if not attendance.has_changed:
                    return
            else:
                self._holder = None
                attendance.begin_anew()

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
            except StorageUnavailable as error:
                log.warning("Presence could not be stored; it is tried again", error=str(error))
            except Exception:
                log.exception("Presence could not be stored; it is tried again")
            if self._attendance.has_changed:
                self._work.set()

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

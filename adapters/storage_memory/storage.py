"""The reference storage of the core behind the asynchronous port, on trio."""

import secrets
from collections.abc import Callable
from typing import TypeVar

import trio

from messaging_core.ports import Reader, Transaction
from messaging_core.world import World

T = TypeVar("T")


class MemoryStorage:
    """A `messaging_core.ports.Storage` that is lost with the process; for tests, and as an example."""

    trouble: str | None = None

    def __init__(self) -> None:
        self.world = World()
        self.incarnation = secrets.token_hex(8)

    async def transact(
        self, operation: Callable[[Transaction], T], *, committed: Callable[[T], None] | None = None
    ) -> T:
        """Run the operation on the event loop; the only point of cancellation comes before it."""
        await trio.lowlevel.checkpoint()
        result = self.world.transact(operation)
        if committed is not None:
            committed(result)
        return result

    async def read(self, query: Callable[[Reader], T]) -> T:
        await trio.lowlevel.checkpoint()
        return self.world.read(query)

    async def replaced(self) -> str:
        """Never returns: the storage is this object."""
        return await trio.sleep_forever()

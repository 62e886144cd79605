"""The test suite of every storage: each test is one rule of `messaging_core.ports`.

The test module of a storage derives from `StorageContract`, and has a fixture that opens an empty storage,
which the last rule compares with a `messaging_core.world.World`:

    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    import pytest

    from adapters.storage_memory import MemoryStorage
    from messaging_core.ports import Storage
    from messaging_core.testing.storage_contract import OpenStorage, StorageContract

    @asynccontextmanager
    async def open_memory_storage() -> AsyncIterator[Storage]:
        yield MemoryStorage()

    class TestMemoryStorage(StorageContract):
        @pytest.fixture
        def open_storage(self) -> OpenStorage:
            return open_memory_storage      # open your own storage here

Import `OpenStorage` and `StorageContract` only. The other modules hold the rules by subject, and may change.
"""

from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings

from messaging_core.ports import Storage
from messaging_core.testing.storage_contract.atomicity import AtomicityRules
from messaging_core.testing.storage_contract.committed import CommittedRules
from messaging_core.testing.storage_contract.marks import MarkRules
from messaging_core.testing.storage_contract.members import MemberRules
from messaging_core.testing.storage_contract.messages import MessageRules
from messaging_core.testing.storage_contract.people_and_chats import PeopleAndChatsRules
from messaging_core.testing.storage_contract.presence import PresenceRules
from messaging_core.testing.storage_contract.races import RaceRules
from messaging_core.testing.storage_contract.stored_responses import StoredResponseRules
from messaging_core.testing.storage_contract.values import ValueRules
from messaging_core.testing.storage_programs import OpenStorage, ProgramTransaction, compare, programs

__all__ = ["OpenStorage", "StorageContract"]


# pytest runs the rules of the last base first, so the rules that others build on come last here.
class StorageContract(
    RaceRules,
    CommittedRules,
    AtomicityRules,
    ValueRules,
    StoredResponseRules,
    PresenceRules,
    MarkRules,
    MessageRules,
    MemberRules,
    PeopleAndChatsRules,
):
    """Derive from this, name the class `Test…`, and add the fixture `open_storage`, an `OpenStorage`."""

    programs = 100
    """How many programs the model-based test runs; each opens a new storage."""

    @pytest.fixture
    async def storage(self, open_storage: OpenStorage) -> AsyncIterator[Storage]:
        async with open_storage() as storage:
            yield storage

    def test_like_the_model(self, open_storage: OpenStorage) -> None:
        """After any program of transactions, committed or rolled back, every read agrees with a `World`'s."""

        # Shrinking opens a storage for each attempt, and explaining would open as many again.
        @settings(
            deadline=None,
            max_examples=self.programs,
            phases=set(Phase) - {Phase.explain},
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(programs)
        def check(program: list[ProgramTransaction]) -> None:
            trio.run(compare, open_storage, program)

        check()

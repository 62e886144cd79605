"""The one suite that every storage passes: what `messaging_core.ports` says, a rule a test.

A storage's own test module derives from `StorageContract` and says how a fresh, empty storage is opened,
and how one that serves as the model is, the memory storage usually:

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
            return open_memory_storage      # here: how your own is opened

        @pytest.fixture
        def open_model(self) -> OpenStorage:
            return open_memory_storage

`OpenStorage` and `StorageContract` are what others import. The rules lie in the modules beside, by subject:
parts of the one suite, which may be divided anew.
"""

from collections.abc import AsyncIterator

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings

from messaging_core.ports import Storage
from messaging_core.testing.storage_contract.atomicity import AtomicityRules
from messaging_core.testing.storage_contract.committed import CommittedRules
from messaging_core.testing.storage_contract.messages import MessageRules
from messaging_core.testing.storage_contract.people_and_chats import PeopleAndChatsRules
from messaging_core.testing.storage_contract.races import RaceRules
from messaging_core.testing.storage_contract.stored_responses import StoredResponseRules
from messaging_core.testing.storage_contract.values import ValueRules
from messaging_core.testing.storage_programs import OpenStorage, ProgramTransaction, compare, programs

__all__ = ["OpenStorage", "StorageContract"]


# pytest runs the rules of the last of these first: what the others build on.
class StorageContract(
    RaceRules,
    CommittedRules,
    AtomicityRules,
    ValueRules,
    StoredResponseRules,
    MessageRules,
    PeopleAndChatsRules,
):
    """Derive, name the class `Test…`, and give it two fixtures that return an `OpenStorage`.

    `open_storage` says how the storage under test is opened, `open_model` how the one that it is compared
    with is.
    """

    programs = 100
    """How many programs the model-based test tries; each opens the storage anew."""

    @pytest.fixture
    async def storage(self, open_storage: OpenStorage) -> AsyncIterator[Storage]:
        async with open_storage() as storage:
            yield storage

    def test_like_the_model(self, open_storage: OpenStorage, open_model: OpenStorage) -> None:
        """After any program of transactions, committed or rolled back, every read agrees with the model's."""

        # Shrinking opens a storage per attempt; explaining would open as many again.
        @settings(
            deadline=None,
            max_examples=self.programs,
            phases=set(Phase) - {Phase.explain},
            suppress_health_check=[HealthCheck.too_slow],
        )
        @given(programs)
        def check(program: list[ProgramTransaction]) -> None:
            trio.run(compare, open_storage, open_model, program)

        check()

"""Whatever happens, a client that folds what it receives shows what a client that fetches afresh shows.

People act through two processes while devices connect, lose their connections and come back to either
process, and the bus loses, repeats and delays signals. `tests/storage/test_sql_convergence.py` plays such
programs on databases.
"""

from collections.abc import Sequence
from functools import partial
from random import Random

import trio
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from messaging_core.events import EVENTS
from messaging_core.testing.memory_bus import Faults
from tests.bus.world import SlowStorage
from tests.runtime.stage import EVERY_KIND, Step, play, steps

SETTLING_SECONDS = 20.0
"""Within this time, of a clock that does not wait, every signal that was lost is repaired by comparison."""

faults = st.builds(
    Faults,
    loss=st.sampled_from([0.0, 0.2]),
    duplication=st.sampled_from([0.0, 0.3]),
    delay=st.sampled_from([0.0, 2.0]),
    reference=st.sampled_from([0.0, 0.5]),
)


def play_in_memory(program: Sequence[Step], seed: int, faults: Faults | None = None) -> set[str]:
    """Play a program over a storage that takes its time, on a clock that does not wait."""
    random = Random(seed)
    storage = SlowStorage(random)
    played = partial(
        play, [storage, storage], program, random, faults, waits=(0.01, 0.3, 3.0), within=SETTLING_SECONDS
    )
    names: set[str] = trio.run(played, clock=MockClock(autojump_threshold=0))
    return names


@settings(max_examples=100, deadline=None)
@given(program=st.lists(steps, max_size=60), seed=st.integers(0, 2**16), faults=faults)
def test_old_state_and_events_are_fresh_state(program: list[Step], seed: int, faults: Faults) -> None:
    """For every action, under any schedule of disconnects, duplicates, devices and processes."""
    play_in_memory(program, seed, faults)


@settings(max_examples=1, database=None, phases=[Phase.generate], deadline=None)
@given(seed=st.just(0))
def test_every_kind_takes_part(seed: int) -> None:
    """Each event of the table but `typing` reaches a device in this program, so none is left out of the rule.

    Hypothesis seeds the order in which trio runs tasks that are ready, so each run is the same.
    """
    names = play_in_memory(EVERY_KIND, seed)
    assert {kind.name for kind in EVENTS if kind.name not in (None, "typing")} <= names
    assert "chat.resync" in names

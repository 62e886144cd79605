"""Whether a process receives the others' signals, and when it must assume that it has missed one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.liveness import BEAT_SECONDS, REBUILD_SECONDS, SILENCE_SECONDS, Liveness
from messaging_core.signals import Envelope

OWN, OTHER = "own", "other"


@pytest.fixture
def liveness() -> Liveness:
    """The liveness at 10 s, when its first heartbeat has just come back."""
    liveness = Liveness(OWN, now=0.0)
    assert beat(liveness, 10.0, 1) is None
    return liveness


def beat(liveness: Liveness, now: float, number: int | None, name: str = OWN, delay: float = 0) -> str | None:
    return liveness.heard(Envelope(name, number, now - delay, ()), now=now)


def test_nothing_is_trusted_before_the_first_heartbeat_is_back() -> None:
    """A connection is not trusted until the first heartbeat has come back over it, whatever its number."""
    liveness = Liveness(OWN, now=0.0)
    assert not liveness.is_trusted(now=0.0)
    assert beat(liveness, 0.0, 1, OTHER) is None
    assert not liveness.is_alive(now=0.1)
    assert not liveness.is_trusted(now=0.1)
    assert beat(liveness, 0.2, 5) is None
    assert liveness.is_alive(now=0.2)
    assert liveness.is_trusted(now=0.2)


def test_a_process_without_its_own_heartbeats_is_deaf(liveness: Liveness) -> None:
    """A deaf process reports it after a while, and again after each while, because a rebuild may fail."""
    assert liveness.is_alive(now=10.0 + SILENCE_SECONDS - 0.01)
    assert not liveness.is_alive(now=10.0 + SILENCE_SECONDS)
    assert not liveness.is_trusted(now=10.0 + SILENCE_SECONDS)
    assert not liveness.is_deaf(now=10.0 + REBUILD_SECONDS - 0.01)
    assert liveness.is_deaf(now=10.0 + REBUILD_SECONDS)
    assert not liveness.is_deaf(now=10.1 + REBUILD_SECONDS)
    assert liveness.is_deaf(now=10.1 + 2 * REBUILD_SECONDS)


def test_the_age_of_a_heartbeat_counts_from_its_sending(liveness: Liveness) -> None:
    """A slow bus is as bad as a silent one: the end of a session since the sending may be unknown."""
    beat(liveness, 12.0, 2, delay=SILENCE_SECONDS)
    assert not liveness.is_alive(now=12.0)
    assert not liveness.is_trusted(now=12.0)


@pytest.mark.parametrize("name", [OWN, OTHER])
def test_a_gap_in_the_numbers_is_a_missed_signal(liveness: Liveness, name: str) -> None:
    """A gap counts once; a duplicate, late or next number is no gap."""
    beat(liveness, 10.0, 1, name)
    assert beat(liveness, 10.1, 2, name) is None
    assert beat(liveness, 10.2, 5, name) is not None
    for number in (5, 3, 4, 6):
        assert beat(liveness, 10.3, number, name) is None
    assert beat(liveness, 10.4, 8, name) is not None


def test_an_envelope_to_some_processes_proves_nothing(liveness: Liveness) -> None:
    """An envelope to some processes has no number to miss, and may arrive where no other does."""
    beat(liveness, 10.0, 1, OTHER)
    for now in (10.5, 11.0):
        assert beat(liveness, now, None, OTHER) is None
        assert beat(liveness, now, None) is None
    assert not liveness.is_alive(now=11.0)


def test_a_publisher_first_heard_later_may_have_sent_signals_before(liveness: Liveness) -> None:
    """If the first envelope from a publisher has a number above 1, its earlier signals may be missing."""
    assert beat(liveness, 10.0, 1, OTHER) is None
    assert beat(liveness, 10.0, 2, "a third") is not None
    assert liveness.others == 2


def test_a_silent_publisher_may_have_died_before_its_signal(liveness: Liveness) -> None:
    """A silence is reported once; a publisher that returns is new; nothing is trusted until then."""
    beat(liveness, 10.0, 1, OTHER)
    late = 10.0 + SILENCE_SECONDS
    beat(liveness, late - 0.1, 2)
    assert liveness.is_trusted(now=late - 0.01)
    assert liveness.silent(now=late - 0.01) == ()
    assert not liveness.is_trusted(now=late)
    assert liveness.silent(now=late) == (OTHER,)
    assert liveness.silent(now=late) == ()
    beat(liveness, late + 0.1, 3)
    assert liveness.is_trusted(now=late + 0.2)
    assert liveness.others == 0
    assert beat(liveness, late + 0.3, 9, OTHER) is not None


def test_a_publisher_with_a_last_envelope_has_sent_everything(liveness: Liveness) -> None:
    """A publisher after its last envelope is not missed, unless an earlier signal was lost."""
    beat(liveness, 10.0, 1, OTHER)
    farewell = Envelope(OTHER, 2, 10.1, (), is_last=True)
    assert liveness.heard(farewell, now=10.1) is None
    assert liveness.others == 0
    beat(liveness, 10.6, 2)
    assert liveness.is_trusted(now=10.1 + SILENCE_SECONDS)
    assert liveness.silent(now=10.1 + SILENCE_SECONDS) == ()
    beat(liveness, 10.6, 1, "a third")
    assert liveness.heard(Envelope("a third", 3, 10.7, (), is_last=True), now=10.7) is not None


def test_a_deaf_process_reports_no_silence_of_others(liveness: Liveness) -> None:
    """A deaf process knows nothing of the others, and gives them time after it receives again."""
    beat(liveness, 10.0, 1, OTHER)
    assert liveness.silent(now=15.0) == ()
    assert beat(liveness, 15.0, 9) is not None
    assert liveness.silent(now=15.1) == ()
    beat(liveness, 15.7, 10)
    assert liveness.silent(now=15.0 + SILENCE_SECONDS) == (OTHER,)


@given(st.lists(st.floats(0.01, BEAT_SECONDS * 2), min_size=1, max_size=40))
def test_heartbeats_keep_a_process_alive(waits: list[float]) -> None:
    """Irregular heartbeats keep a process alive as long as no two in a row are missing."""
    liveness, now = Liveness(OWN, now=0.0), 0.0
    for number, wait in enumerate(waits, 1):
        beat(liveness, now, number)
        beat(liveness, now, number, OTHER)
        now += wait
        assert liveness.is_trusted(now=now)
        assert liveness.silent(now=now) == ()
        assert not liveness.is_deaf(now=now)

"""Whether a process hears the others, and when it must take it that it has missed something."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_core.liveness import BEAT_SECONDS, REBUILD_SECONDS, SILENCE_SECONDS, Liveness
from messaging_core.signals import Envelope

OWN, OTHER = "own", "other"


@pytest.fixture
def liveness() -> Liveness:
    """At 10 s, when its first heartbeat has just come back."""
    liveness = Liveness(OWN, now=0.0)
    assert beat(liveness, 10.0, 1) is None
    return liveness


def beat(liveness: Liveness, now: float, number: int | None, name: str = OWN, delay: float = 0) -> str | None:
    return liveness.heard(Envelope(name, number, now - delay, ()), now=now)


def test_nothing_is_trusted_before_the_first_heartbeat_is_back() -> None:
    """A connection that was made is not yet one that is heard by."""
    liveness = Liveness(OWN, now=0.0)
    assert beat(liveness, 0.0, 1, OTHER) is None
    assert not liveness.is_alive(now=0.1)
    assert not liveness.is_trusted(now=0.1)
    beat(liveness, 0.2, 1)
    assert liveness.is_alive(now=0.2)
    assert liveness.is_trusted(now=0.2)


def test_who_does_not_hear_its_own_heartbeats_is_deaf(liveness: Liveness) -> None:
    """It says so after a while, and again after that while, for each attempt may fail."""
    assert liveness.is_alive(now=10.0 + SILENCE_SECONDS - 0.01)
    assert not liveness.is_alive(now=10.0 + SILENCE_SECONDS)
    assert not liveness.is_trusted(now=10.0 + SILENCE_SECONDS)
    assert not liveness.is_deaf(now=10.0 + REBUILD_SECONDS - 0.01)
    assert liveness.is_deaf(now=10.0 + REBUILD_SECONDS)
    assert not liveness.is_deaf(now=10.1 + REBUILD_SECONDS)
    assert liveness.is_deaf(now=10.1 + 2 * REBUILD_SECONDS)


def test_a_heartbeat_is_as_old_as_when_it_was_sent(liveness: Liveness) -> None:
    """A bus that is slow is as bad as one that is silent: what ended since then has not been heard of."""
    beat(liveness, 12.0, 2, delay=SILENCE_SECONDS)
    assert not liveness.is_alive(now=12.0)
    assert not liveness.is_trusted(now=12.0)


@pytest.mark.parametrize("name", [OWN, OTHER])
def test_a_number_that_is_left_out_was_missed(liveness: Liveness, name: str) -> None:
    """Once; one that comes twice, late, or in its turn says nothing new."""
    beat(liveness, 10.0, 1, name)
    assert beat(liveness, 10.1, 2, name) is None
    assert beat(liveness, 10.2, 5, name) is not None
    for number in (5, 3, 4, 6):
        assert beat(liveness, 10.3, number, name) is None
    assert beat(liveness, 10.4, 8, name) is not None


def test_what_is_sent_to_some_only_proves_nothing(liveness: Liveness) -> None:
    """It has no number that could be missed, and it may come where nothing else does."""
    beat(liveness, 10.0, 1, OTHER)
    for now in (10.5, 11.0):
        assert beat(liveness, now, None, OTHER) is None
        assert beat(liveness, now, None) is None
    assert not liveness.is_alive(now=11.0)


def test_who_was_not_heard_from_its_beginning_may_have_told_something_before(liveness: Liveness) -> None:
    """And who begins now has not."""
    assert beat(liveness, 10.0, 1, OTHER) is None
    assert beat(liveness, 10.0, 7, "a third") is not None
    assert liveness.others == 2


def test_who_falls_silent_may_have_died_before_telling(liveness: Liveness) -> None:
    """It is told once, and counts as new when it speaks again; till then nothing is to be trusted."""
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


def test_who_says_that_it_ends_has_told_everything(liveness: Liveness) -> None:
    """Nobody waits for it, or looks for what it has left; unless something before that was lost."""
    beat(liveness, 10.0, 1, OTHER)
    farewell = Envelope(OTHER, 2, 10.1, (), is_last=True)
    assert liveness.heard(farewell, now=10.1) is None
    assert liveness.others == 0
    beat(liveness, 10.6, 2)
    assert liveness.is_trusted(now=10.1 + SILENCE_SECONDS)
    assert liveness.silent(now=10.1 + SILENCE_SECONDS) == ()
    beat(liveness, 10.6, 1, "a third")
    assert liveness.heard(Envelope("a third", 3, 10.7, (), is_last=True), now=10.7) is not None


def test_the_deaf_blame_nobody_else(liveness: Liveness) -> None:
    """Who hears nothing knows nothing of the others, and gives them time when it hears again."""
    beat(liveness, 10.0, 1, OTHER)
    assert liveness.silent(now=15.0) == ()
    assert beat(liveness, 15.0, 9) is not None
    assert liveness.silent(now=15.1) == ()
    beat(liveness, 15.7, 10)
    assert liveness.silent(now=15.0 + SILENCE_SECONDS) == (OTHER,)


@given(st.lists(st.floats(0.01, BEAT_SECONDS * 2), min_size=1, max_size=40))
def test_heartbeats_keep_it_alive(waits: list[float]) -> None:
    """However irregular they are, as long as no two in a row are missing."""
    liveness, now = Liveness(OWN, now=0.0), 0.0
    for number, wait in enumerate(waits, 1):
        beat(liveness, now, number)
        beat(liveness, now, number, OTHER)
        now += wait
        assert liveness.is_trusted(now=now)
        assert liveness.silent(now=now) == ()
        assert not liveness.is_deaf(now=now)

"""Memberships as ranges: one function decides what a reader may see."""

from hypothesis import given
from hypothesis import strategies as st

from messaging_core.positions import FOUNDER, Range, Reach, ended, first_seen, furthest, joining, may_see

LAST = 12
numbers = st.integers(1, LAST)


@st.composite
def memberships(draw: st.DrawFn) -> Range:
    """Ranges, some of which have ended, within a short log."""
    first = draw(numbers)
    last = draw(st.none() | st.integers(first, LAST))
    return Range(first, draw(st.integers(1, first)), last)


@given(memberships(), numbers, numbers)
def test_what_a_reader_may_see(membership: Range, fact: int, created: int) -> None:
    """A member sees the facts of their range, both ends included, about what `reads_from` does not hide."""
    within = range(membership.first, (membership.last or LAST) + 1)
    assert may_see(membership, fact, created) == (fact in within and created >= membership.reads_from)


@given(numbers, numbers)
def test_a_founder_sees_everything(fact: int, created: int) -> None:
    """The range that is known at sight covers what its numbers say."""
    assert may_see(FOUNDER, fact, created)
    assert may_see(Range(FOUNDER.first, FOUNDER.reads_from), fact, created)


@given(numbers, numbers, numbers, st.booleans())
def test_a_new_member_sees_their_own_joining_and_removal(
    first: int, fact: int, created: int, reads_all: bool
) -> None:
    """A range begins with the joining; `reads_all` opens what was created before, not earlier facts."""
    joined = joining(first, reads_all=reads_all)
    assert may_see(joined, first, first)
    assert may_see(joined, fact, created) == (fact >= first and (reads_all or created >= first))
    over = ended(joined, first + 3)
    assert may_see(over, first + 3, first)
    assert not may_see(over, first + 4, first)


@given(st.lists(memberships(), max_size=4), st.integers(0, LAST))
def test_the_first_number_that_somebody_sees(ranges: list[Range], after: int) -> None:
    """It is the least number beyond a position that any of the ranges contains."""
    seen = [
        number
        for number in range(after + 1, 2 * LAST)
        if any(may_see(each, number, number) for each in ranges)
    ]
    assert first_seen(ranges, after) == min(seen, default=None)


def test_memberships_of_several_people() -> None:
    """Together people reach as far as the furthest of them; the chat is open if it is open to one of them."""
    over, lasts = Reach(9, is_open=False), Reach(5, is_open=True)
    assert furthest(over, None) == over
    assert furthest(over, lasts) == furthest(lasts, over) == Reach(9, is_open=True)

"""Read marks move forward only."""

from hypothesis import given
from hypothesis import strategies as st

from messaging_core.ids import MessageId, UserId
from messaging_core.marks import NOTHING_READ, Mark, Marks, marks_by, merged

ALICE, BOB, CAROL = UserId(1), UserId(2), UserId(3)
read = st.integers(1, 9).map(lambda number: Mark(MessageId(10 * number), number))
marks: st.SearchStrategy[Marks] = st.just(()) | st.tuples(read, read)


@given(marks, marks)
def test_merging(some: Marks, others: Marks) -> None:
    """Each person keeps the further mark; who has read nothing takes the other one."""
    found = merged(some, others)
    assert found == merged(others, some) == merged(found, some)
    assert found == (some or others if not some or not others else tuple(map(max, some, others)))


def test_one_person_has_read() -> None:
    """The other one has read nothing; a stranger, and who has read nothing, leave no mark."""
    mark = Mark(MessageId(7), 3)
    assert marks_by(ALICE, mark, (ALICE, BOB)) == (mark, NOTHING_READ)
    assert marks_by(BOB, mark, (ALICE, BOB)) == (NOTHING_READ, mark)
    assert marks_by(CAROL, mark, (ALICE, BOB)) == marks_by(BOB, NOTHING_READ, (ALICE, BOB)) == ()

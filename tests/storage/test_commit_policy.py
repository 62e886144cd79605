"""The commit policy's cases: when a transaction begins, where it commits, when a checkpoint is due."""

from collections.abc import Sequence

import pytest

from adapters.storage_sql.sqlite.commit_policy import (
    CHECKPOINT_ROWS,
    HICCUP_AFTER,
    LARGE_COMMIT,
    MAX_BATCH,
    MAX_BATCH_SECONDS,
    MAX_GATHERING_TURNS,
    MAX_LOG_BYTES,
    QUICK_COMMITS_NEEDED,
    ROWS_A_COMMIT,
    SIZE_CHECK_ROWS,
    SLOW_COMMIT,
    CommitPolicy,
)

QUICK, SLOW = SLOW_COMMIT, 1.01 * SLOW_COMMIT


@pytest.mark.parametrize(
    ("operations", "loop_was_idle", "at_once"),
    [(1, True, True), (1, False, False), (2, True, False), (0, True, False), (2, False, False)],
)
def test_only_a_lone_call_begins_at_once(operations: int, loop_was_idle: bool, at_once: bool) -> None:
    """A transaction begins at once after an idle turn, if the last transaction had one operation."""
    policy = CommitPolicy(0)
    assert policy.begins_at_once(loop_was_idle=True), "the first call is alone"
    policy.batch_ended(operations)
    assert policy.begins_at_once(loop_was_idle=loop_was_idle) is at_once


@pytest.mark.parametrize(
    ("operations", "seconds", "has_room"),
    [
        (0, 0.0, True),
        (MAX_BATCH - 1, 0.0, True),
        (MAX_BATCH, 0.0, False),
        (1, 0.99 * MAX_BATCH_SECONDS, True),
        (1, MAX_BATCH_SECONDS, False),
    ],
)
def test_a_batch_is_bounded_in_operations_and_time(operations: int, seconds: float, has_room: bool) -> None:
    """A batch takes no more operations than its bound, and none after its time."""
    assert CommitPolicy(0).batch_has_room(operations, seconds) is has_room


Commits = Sequence[tuple[int, float]]
"""Pairs of a number of commits and their duration in seconds, in order."""
TO_THREAD: Commits = [(2, SLOW)]


@pytest.mark.parametrize(
    ("commits", "in_thread"),
    [
        pytest.param([], False, id="the loop commits first"),
        pytest.param([(1_000, QUICK)], False, id="a quick disk"),
        pytest.param([(1, SLOW)], False, id="the first slow commit may be a hiccup"),
        pytest.param(TO_THREAD, True, id="two slow commits are a slow disk"),
        pytest.param(
            [(1, SLOW), (HICCUP_AFTER - 1, QUICK), (1, SLOW)], True, id="two hiccups close together"
        ),
        pytest.param([(1, SLOW), (HICCUP_AFTER, QUICK), (1, SLOW)], False, id="two hiccups far apart"),
        pytest.param([*TO_THREAD, (QUICK_COMMITS_NEEDED - 1, QUICK)], True, id="not yet quick for long"),
        pytest.param([*TO_THREAD, (QUICK_COMMITS_NEEDED, QUICK)], False, id="quick again"),
        pytest.param([*TO_THREAD, (5, QUICK), (1, SLOW), (15, QUICK)], True, id="a slow one costs one more"),
        pytest.param([*TO_THREAD, (5, QUICK), (1, SLOW), (16, QUICK)], False, id="and no more than one"),
        pytest.param([*TO_THREAD, (500, SLOW), (QUICK_COMMITS_NEEDED, QUICK)], False, id="bounded"),
        pytest.param([*TO_THREAD, (QUICK_COMMITS_NEEDED, QUICK), (1, SLOW)], True, id="slow again"),
    ],
)
def test_the_thread_commits_while_the_disk_is_slow(commits: Commits, in_thread: bool) -> None:
    """The thread commits after a second slow commit, until quick commits outnumber slow ones by 20."""
    policy = CommitPolicy(0)
    for count, seconds in commits:
        for _ in range(count):
            policy.commit_ended(seconds)
    assert policy.commit_begins(total_changes=0) is in_thread
    assert policy.gathering_turns() == (0 if in_thread else MAX_GATHERING_TURNS)


@pytest.mark.parametrize(("rows", "in_thread"), [(0, False), (LARGE_COMMIT, False), (LARGE_COMMIT + 1, True)])
def test_the_thread_carries_out_large_commits(rows: int, in_thread: bool) -> None:
    """A commit of very many rows runs in the thread, and its time says nothing of the disk."""
    policy = CommitPolicy(total_changes=100)
    for _ in range(3):
        before = policy.total_changes
        assert policy.commit_begins(before + rows) is in_thread
        policy.commit_ended(SLOW if in_thread else QUICK)
        policy.rows_committed(before + rows)
        assert not policy.commit_begins(before + rows), "the next commit is small"


def test_rolled_back_rows_count_for_the_next_commit() -> None:
    """SQLite counts rolled-back changes too, so a commit after a large rollback may run in the thread."""
    policy = CommitPolicy(0)
    assert policy.commit_begins(LARGE_COMMIT + 1)
    policy.commit_ended(QUICK)
    assert policy.commit_begins(LARGE_COMMIT + 2)
    policy.rows_committed(LARGE_COMMIT + 2)
    assert not policy.commit_begins(LARGE_COMMIT + 3)


def _committed(*rows: int) -> CommitPolicy:
    policy = CommitPolicy(0)
    for number in rows:
        policy.rows_committed(policy.total_changes + number - ROWS_A_COMMIT)
    return policy


@pytest.mark.parametrize(
    ("rows", "log_size", "is_due", "size_checks"),
    [
        pytest.param((SIZE_CHECK_ROWS - 1,), 2 * MAX_LOG_BYTES, False, 0, id="too early to check the size"),
        pytest.param((SIZE_CHECK_ROWS,), MAX_LOG_BYTES, False, 1, id="small rows"),
        pytest.param((SIZE_CHECK_ROWS,), MAX_LOG_BYTES + 1, True, 1, id="large rows"),
        pytest.param((CHECKPOINT_ROWS - 1,), 0, False, 1, id="not enough rows"),
        pytest.param((CHECKPOINT_ROWS,), 0, True, 0, id="enough rows, whatever the size"),
        pytest.param((CHECKPOINT_ROWS // 2,) * 2, 0, True, 0, id="rows of several commits"),
        pytest.param((ROWS_A_COMMIT,) * 10, 0, False, 0, id="commits without rows"),
    ],
)
def test_a_checkpoint_is_due_by_rows_or_size(
    rows: tuple[int, ...], log_size: int, is_due: bool, size_checks: int
) -> None:
    """A checkpoint is due after a number of rows, or earlier if the log exceeds a number of bytes."""
    checks: list[None] = []

    def size() -> int:
        checks.append(None)
        return log_size

    assert _committed(*rows).checkpoint_is_due(size) is is_due
    assert len(checks) == size_checks


def test_the_size_is_checked_every_so_many_rows() -> None:
    """Between two checks of the size come `SIZE_CHECK_ROWS`; a checkpoint begins to count anew."""
    checks: list[int] = []
    policy = CommitPolicy(0)

    def size() -> int:
        checks.append(policy.logged_rows)
        return 0

    step = SIZE_CHECK_ROWS // 2
    for _ in range(2):
        for _ in range(CHECKPOINT_ROWS // step - 1):
            policy.rows_committed(policy.total_changes + step - ROWS_A_COMMIT)
            assert not policy.checkpoint_is_due(size)
        policy.rows_committed(policy.total_changes + step - ROWS_A_COMMIT)
        assert policy.checkpoint_is_due(size)
        policy.checkpoint_begins()
    assert checks == 2 * [*range(SIZE_CHECK_ROWS, CHECKPOINT_ROWS, SIZE_CHECK_ROWS)]


@pytest.mark.parametrize(
    ("before", "after", "rows"),
    [(0, 0, 0), (5, 8, 3), (2**31 - 2, -(2**31) + 1, 3), (-1, 2, 3)],
    ids=["none", "some", "beyond the greatest number", "from negative to positive"],
)
def test_rows_are_counted_across_the_wrap(before: int, after: int, rows: int) -> None:
    """SQLite's count of changes is a signed number of 32 bits that wraps around."""
    policy = CommitPolicy(before)
    policy.rows_committed(after)
    assert policy.logged_rows == rows + ROWS_A_COMMIT

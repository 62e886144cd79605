"""Decides when to begin a transaction, who shares it, where its commit runs, and when to checkpoint.

Times, sizes and counts are arguments: this module has no clock, no event loop and no database.

- An operation takes some 50 us, and a commit several times that, however many rows it has. So operations that
  wait share a transaction, and on a busy loop a transaction waits a few turns for more of them. After a
  transaction of a single operation and an idle turn of the loop, no other operation is to be expected: the
  next transaction begins at once.
- A commit waits for the disk. While the disk is quick, the event loop waits: handing the commit to a thread
  and back, and competing with that thread for the interpreter's lock, takes longer. While the disk is slow,
  the thread commits. The thread thereby probes the disk, so at most one slow commit in many blocks the loop.
  The thread also carries out large commits, which take long on any disk.
- A checkpoint copies the write-ahead log into the database. It is not part of a commit, which would then take
  ten times as long for its callers.
"""

from collections.abc import Callable

from attrs import define

MAX_BATCH = 256
"""Operations in one transaction."""
MAX_BATCH_SECONDS = 0.005
"""Seconds after which the event loop begins no more operations of a batch; the rest is the next batch."""
MAX_GATHERING_TURNS = 6
"""Turns of the loop for which a batch waits at most, while each turn adds an operation to it."""
SLOW_COMMIT = 0.004
"""Seconds of one commit for which the loop may block; a longer commit is slow."""
QUICK_COMMITS_NEEDED = 20
"""How many more quick commits than slow ones the thread does before the loop commits again."""
HICCUP_AFTER = 50
"""Quick commits before a slow one that make it a hiccup, and not a sign of a slow disk."""
LARGE_COMMIT = 4 * MAX_BATCH
"""Rows in a commit beyond which the thread commits in any case, and its time is not counted.

A group of a thousand people has more rows, a full batch of messages fewer. Such a commit writes megabytes, so
its time does not show how quick the disk is otherwise.
"""
CHECKPOINT_ROWS = 10_000
"""Rows, with `ROWS_A_COMMIT`, after which a checkpoint is due: 30 to 40 MB of log.

A checkpoint copies a page that was changed often once: twice as many rows make a pause half as long again.
"""
ROWS_A_COMMIT = 4
"""The pages that a commit writes besides those of its rows, such as the last page of a table, as rows."""
MAX_LOG_BYTES = 96 * 1024 * 1024
"""Bytes of log after which a checkpoint is due earlier, for large rows: a pause of a tenth of a second.

Greater than the file's `journal_size_limit`: after a checkpoint SQLite truncates the log to that, so the size
measures the log anew.
"""
SIZE_CHECK_ROWS = CHECKPOINT_ROWS // 20
"""Rows between two checks of the log's size: a long backup keeps the log large, and each commit would
check."""


@define
class CommitPolicy:
    """The rules, and the counts on which they decide."""

    total_changes: int
    """SQLite's count of changed rows, a signed number of 32 bits, after the last commit."""
    max_batch: int = MAX_BATCH
    max_batch_seconds: float = MAX_BATCH_SECONDS
    slow_commit: float = SLOW_COMMIT
    checkpoint_rows: int = CHECKPOINT_ROWS
    size_check_rows: int = SIZE_CHECK_ROWS
    max_log_bytes: int = MAX_LOG_BYTES
    last_was_single: bool = True
    """Whether the last transaction had one operation."""
    quick_commits_needed: int = 0
    """Quick commits that the thread must still do before the loop commits again; 0 while the loop commits."""
    quick_commits: int = HICCUP_AFTER
    """Quick commits on the loop since the last slow one."""
    is_large: bool = False
    """Whether the current commit, or the last one, is large."""
    logged_rows: int = 0
    """Rows since the last checkpoint, with `ROWS_A_COMMIT`."""
    rows_at_size_check: int = 0
    """`logged_rows` at the last check of the log's size."""

    def begins_at_once(self, *, loop_was_idle: bool) -> bool:
        """Whether a new operation begins its transaction now, without a wait for others to share it."""
        return loop_was_idle and self.last_was_single

    def gathering_turns(self) -> int:
        """Turns of the loop for which a batch may wait; operations gather by themselves during a thread's
        work.
        """
        return 0 if self.quick_commits_needed else MAX_GATHERING_TURNS

    def batch_has_room(self, operations: int, seconds: float) -> bool:
        """Whether a batch of `operations`, begun `seconds` ago, has room for another one."""
        return operations < self.max_batch and seconds < self.max_batch_seconds

    def batch_ended(self, operations: int) -> None:
        """Record that all operations of a batch have run."""
        self.last_was_single = operations == 1

    def commit_begins(self, total_changes: int) -> bool:
        """Whether the thread carries out the commit that begins, by SQLite's count before it."""
        self.is_large = self._new_rows(total_changes) > LARGE_COMMIT
        return self.is_large or self.quick_commits_needed > 0

    def commit_ended(self, seconds: float) -> None:
        """Record how long the commit took, successful or not, where `commit_begins` said."""
        is_quick = seconds <= self.slow_commit
        if self.is_large:
            pass
        elif not self.quick_commits_needed:
            if is_quick:
                self.quick_commits += 1
            else:
                self.quick_commits_needed = QUICK_COMMITS_NEEDED if self.quick_commits < HICCUP_AFTER else 0
                self.quick_commits = 0
        elif is_quick:
            self.quick_commits_needed -= 1
        else:
            # It may have waited for the interpreter's lock, not only for the disk: one step back, not all.
            self.quick_commits_needed = min(self.quick_commits_needed + 1, QUICK_COMMITS_NEEDED)

    def rows_committed(self, total_changes: int) -> None:
        """Record the rows of a successful commit, by SQLite's count after it."""
        self.logged_rows += self._new_rows(total_changes) + ROWS_A_COMMIT
        self.total_changes = total_changes

    def _new_rows(self, total_changes: int) -> int:
        """Rows that were changed since the last commit, rolled back ones included."""
        # The count has 32 bits: after 2,147,483,647 comes -2,147,483,648.
        return (total_changes - self.total_changes) % 2**32

    def checkpoint_is_due(self, log_size: Callable[[], int]) -> bool:
        """Whether to checkpoint now; calls `log_size`, which gives bytes, at most every `size_check_rows`."""
        if self.logged_rows >= self.checkpoint_rows:
            return True
        if self.logged_rows - self.rows_at_size_check < self.size_check_rows:
            return False
        self.rows_at_size_check = self.logged_rows
        return log_size() > self.max_log_bytes

    def checkpoint_begins(self) -> None:
        """Record that a checkpoint begins; the log counts from zero."""
        self.logged_rows = self.rows_at_size_check = 0

"""What both databases share about incarnations: their names, and the identifiers that follow a new one."""

import logging
import secrets

log = logging.getLogger(__name__)

STEP = 1_000_000
"""The least number of identifiers that a new incarnation skips."""
PER_SECOND = 10_000
"""More identifiers of a kind than any server draws in a second, on the average of a day."""


def draw_name() -> str:
    """A name that no other incarnation has."""
    return secrets.token_hex(8)


def lift(last: int, now: float) -> int:
    """The counter of identifiers in a new incarnation, which stood at `last` in the restored backup.

    `now` is the time in seconds. As time goes on, two incarnations that begin with the same backup continue
    from different numbers; a constant step would give the identifiers of the first one again in the second.
    """
    return max(last + STEP, int(now * PER_SECOND))


def report(database: str, name: str, reason: str) -> None:
    """Log that an existing database has a new incarnation."""
    log.warning(
        "the log of %s has a new incarnation, %s, because %s: clients start over, and new identifiers "
        "begin with a greater number (docs/deployment.md)",
        database,
        name,
        reason,
    )

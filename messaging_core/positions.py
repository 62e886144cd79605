"""What a reader may see of a chat: a membership is a range of numbers of the chat's log.

A range goes from the number of its `member.added`, or of the chat's creation, to the number of its
`member.removed` or of the chat's deletion, both included. The ranges of people who are added together begin
with the first one's `member.added`. `reads_from` is fixed when a range begins. A range that has ended stays,
and joining again begins another one.

`may_see` decides about live events, replayed ones and history alike. A fact has the number of its event; it
is about something with a creation number of its own, for a message's event the number of the message's
`message.created`. A page of history shows its messages as facts of the present.
"""

from collections.abc import Iterable
from typing import NamedTuple

from attrs import evolve, frozen


@frozen
class Range:
    """A membership, in numbers of its chat's log."""

    first: int
    """The number with which it begins; its member receives no earlier event."""
    reads_from: int
    """The least creation number that its member may read, at most `first`."""
    last: int | None = None
    """The number with which it ended, the last one that its member receives; None while it lasts."""


FOUNDER = Range(1, 1)
"""The range of the people with whom a chat begins: while it lasts, it covers everything."""


class Reach(NamedTuple):
    """How far somebody's memberships of a chat reach."""

    number: int
    """The last number of a range that has ended, or the chat's last number while one lasts."""
    is_open: bool
    """Whether one lasts."""


def furthest(one: Reach, other: Reach | None) -> Reach:
    """How far the memberships of two groups of people reach together, each as read at its own time."""
    if other is None:
        return one
    return Reach(max(one.number, other.number), one.is_open or other.is_open)


def joining(sequence: int, *, reads_all: bool) -> Range:
    """The range that begins with a `member.added` of this number; `reads_all` is for what was before it."""
    return Range(sequence, 1 if reads_all else sequence)


def ended(membership: Range, last: int) -> Range:
    """The range after its end at the number `last`."""
    return evolve(membership, last=last)


def may_see(membership: Range, fact: int, created: int) -> bool:
    """Whether the member may see a fact of the number `fact`, about something created with `created`."""
    if membership is FOUNDER:
        return True
    return (
        membership.first <= fact
        and membership.reads_from <= created
        and (membership.last is None or fact <= membership.last)
    )


def first_seen(memberships: Iterable[Range], after: int) -> int | None:
    """The least number greater than `after` in any of the ranges; None where there is none."""
    beyond = (each for each in memberships if each.last is None or each.last > after)
    return min((max(each.first, after + 1) for each in beyond), default=None)

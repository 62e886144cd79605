"""What is measured: rows, and the stages that share a server's life."""

from collections.abc import Callable, Mapping
from functools import partial

from attrs import frozen

from benchmarks.load import rows
from benchmarks.load.figures import Figures
from benchmarks.load.processes import Running

READS_SHARE = 0.3
"""Reads are many and alike: this share of a row's time shows as much."""
SENDERS = (1, 16, 64)
GROUP_SENDERS = ((100, 4), (1000, 4), (1000, 16))


@frozen
class Effort:
    """How much is done for each figure."""

    rounds: int
    seconds: float
    warm_up: float
    sockets: int
    histories: Mapping[str, int]
    """The lengths of history that are read from, by what rows call them."""
    settling: float
    """Seconds for which a server's memory must stay the same."""
    groups: int
    """How many of the groups' rows are measured."""
    starts: int


DEFAULT = Effort(
    rounds=3,
    seconds=4.0,
    warm_up=1.0,
    sockets=5000,
    histories={"one": 1, "thousand": 1000, "million": 1_000_000},
    starts=3,
    settling=1.0,
    groups=3,
)
QUICK = Effort(
    rounds=1,
    seconds=0.25,
    warm_up=0.05,
    sockets=300,
    histories={"one": 1, "million": 20_000},
    starts=1,
    settling=0.2,
    groups=2,
)


@frozen
class Row:
    key: str
    measure: Callable[[Running], Figures] | None
    """None for the start-up, which is measured from outside."""


@frozen
class Stage:
    """Rows in one life of a server, on a database with so many messages."""

    key: str
    messages: int
    writes: bool
    """Whether it needs a copy of the database for itself."""
    rows: tuple[Row, ...]


def stages(effort: Effort) -> list[Stage]:
    """Everything that can be measured, in order."""
    sends = partial(rows.sends, seconds=effort.seconds, warm_up=effort.warm_up)
    fanout = partial(rows.fanout, seconds=effort.seconds, warm_up=effort.warm_up / 2)
    talking = [
        *(Row(f"sends-{senders}", partial(sends, senders=senders)) for senders in SENDERS),
        *(
            Row(f"group-{people}-{senders}", partial(fanout, people=people, senders=senders))
            for people, senders in GROUP_SENDERS[: effort.groups]
        ),
    ]
    return [
        Stage("talk", 1000, True, tuple(talking)),
        Stage(
            "idle",
            1,
            True,
            (Row("idle", partial(rows.idle, sockets=effort.sockets, settling=effort.settling)),),
        ),
        *(_reading(name, messages, effort) for name, messages in effort.histories.items()),
        Stage("startup", 1000, True, (Row("startup", None),)),
    ]


def _reading(name: str, messages: int, effort: Effort) -> Stage:
    # A server that was just started gets the whole time to become warm, the rows after that the share.
    share = effort.seconds * READS_SHARE
    warm_ups = [effort.warm_up, *[effort.warm_up * READS_SHARE] * 3]
    kinds = [(what, connections) for what in ("messages", "chats") for connections in (16, 1)]
    return Stage(
        f"reads-{name}",
        messages,
        False,
        tuple(
            Row(
                f"{what}-{name}-{connections}",
                partial(
                    rows.reads,
                    what=what,
                    messages=messages,
                    connections=connections,
                    seconds=share,
                    warm_up=warm_up,
                ),
            )
            for (what, connections), warm_up in zip(kinds, warm_ups, strict=True)
        ),
    )

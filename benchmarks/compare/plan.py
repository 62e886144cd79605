"""The plan of the measurement: rows, grouped into stages that share one server process."""

from collections.abc import Callable, Mapping
from functools import partial

from attrs import frozen

from benchmarks.load import rows
from benchmarks.load.figures import Figures
from benchmarks.load.processes import RunningServer

READS_SHARE = 0.3
"""The share of a row's time for reads: they are many and alike, so the figures are as stable."""
SENDERS = (1, 16, 64)
GROUP_SENDERS = ((100, 4), (1000, 4), (1000, 16))


@frozen
class Effort:
    """How much is measured for each figure; `seconds` and `warm_up` are those of a row."""

    rounds: int
    seconds: float
    warm_up: float
    sockets: int
    histories: Mapping[str, int]
    """Lengths of history in messages, by their name in the rows' keys."""
    settling: float
    """Seconds for which a server's memory must be stable."""
    groups: int
    """How many of `GROUP_SENDERS` are measured."""
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
class BenchmarkRow:
    key: str
    measure: Callable[[RunningServer], Figures] | None
    """None for the start-up, which needs no running server."""


@frozen
class Stage:
    """Rows that share one server process."""

    key: str
    messages: int
    """Messages in the seeded database."""
    writes: bool
    """Whether the stage writes, and so needs its own copy of the database."""
    rows: tuple[BenchmarkRow, ...]


def stages(effort: Effort) -> list[Stage]:
    """All stages, in order."""
    sends = partial(rows.sends, seconds=effort.seconds, warm_up=effort.warm_up)
    fanout = partial(rows.fanout, seconds=effort.seconds, warm_up=effort.warm_up / 2)
    sending = [
        *(BenchmarkRow(f"sends-{senders}", partial(sends, senders=senders)) for senders in SENDERS),
        *(
            BenchmarkRow(f"group-{people}-{senders}", partial(fanout, people=people, senders=senders))
            for people, senders in GROUP_SENDERS[: effort.groups]
        ),
    ]
    return [
        Stage("talk", 1000, True, tuple(sending)),
        Stage(
            "idle",
            1,
            True,
            (BenchmarkRow("idle", partial(rows.idle, sockets=effort.sockets, settling=effort.settling)),),
        ),
        *(_reading(name, messages, effort) for name, messages in effort.histories.items()),
        Stage("startup", 1000, True, (BenchmarkRow("startup", None),)),
    ]


def _reading(name: str, messages: int, effort: Effort) -> Stage:
    # The first row of a new process has the full warm-up, the rows after it the share.
    share = effort.seconds * READS_SHARE
    warm_ups = [effort.warm_up, *[effort.warm_up * READS_SHARE] * 3]
    kinds = [(what, connections) for what in ("messages", "chats") for connections in (16, 1)]
    return Stage(
        f"reads-{name}",
        messages,
        False,
        tuple(
            BenchmarkRow(
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

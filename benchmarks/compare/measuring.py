"""Runs the rounds: every stage of every server in turn."""

import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

from attrs import define, evolve, field, frozen

from benchmarks.compare.agreement import Disagreement, disagreements, observe
from benchmarks.compare.contestants import OURS, SEEDERS, Contestant
from benchmarks.compare.plan import BenchmarkRow, Effort, Stage, stages
from benchmarks.load import rows
from benchmarks.load.client import Void
from benchmarks.load.figures import Figures
from benchmarks.load.processes import Cores, NotServing, RunningServer, free_port, running
from benchmarks.load.wire import Malformed


@define
class Results:
    """The figures of every round, and the reasons why a row is void, by row and contestant."""

    rounds: dict[str, dict[str, list[Figures]]] = field(
        factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    void: dict[str, dict[str, str]] = field(factory=lambda: defaultdict(dict))

    def medians(self, row: str, contestant: str) -> Figures | None:
        """Each figure's median over the rounds; None if a round was void, or without rounds."""
        measured = self.rounds.get(row, {}).get(contestant)
        if not measured or contestant in self.void.get(row, {}):
            return None
        return {name: median(figures[name] for figures in measured) for name in measured[0]}


@frozen
class Bench:
    """The settings that all stages share."""

    directory: Path
    cores: Cores
    effort: Effort
    ours_options: str

    def seeded(self, schema: str, messages: int) -> Path:
        """The path of a database with this many messages; the first call creates it."""
        people, path = self.directory / f"{schema}.db", self.directory / f"{schema}-{messages}.db"
        seed, fill = SEEDERS[schema]
        if not people.exists():
            seed(people)
        if not path.exists():
            shutil.copy(people, path)
            fill(path, messages)
        return path

    @contextmanager
    def serving(self, contestant: Contestant, messages: int, *, writes: bool) -> Iterator[RunningServer]:
        with self.database(contestant, messages, writes=writes) as database:
            port = free_port()
            with running(contestant.command(port, database, self.ours_options), port, self.cores) as server:
                yield server

    @contextmanager
    def database(self, contestant: Contestant, messages: int, *, writes: bool) -> Iterator[Path]:
        seeded = self.seeded(contestant.schema, messages)
        if not writes:
            yield seeded
            return
        with TemporaryDirectory(dir=self.directory) as directory:
            database = Path(directory) / "messaging.db"
            shutil.copy(seeded, database)
            os.sync()  # so that the kernel does not write the copy back during the measurement
            yield database


def disagreements_of(bench: Bench, contestants: Sequence[Contestant]) -> dict[str, list[Disagreement]]:
    """Each peer's disagreements with our server, by key."""
    with bench.serving(OURS, 1000, writes=True) as server:
        ours = observe(server)
    found = {}
    for contestant in contestants:
        if contestant is not OURS:
            with bench.serving(contestant, 1000, writes=True) as server:
                found[contestant.key] = disagreements(ours, observe(server))
    return found


def measure(bench: Bench, contestants: Sequence[Contestant], patterns: Sequence[str]) -> Results:
    """Run all rounds of the rows that match a pattern; each round begins with another contestant."""
    results = Results()
    began = perf_counter()
    for number in range(bench.effort.rounds):
        turn = number % len(contestants)
        for stage in stages(bench.effort):
            chosen = [row for row in stage.rows if any(fnmatch(row.key, pattern) for pattern in patterns)]
            for contestant in (*contestants[turn:], *contestants[:turn]) if chosen else ():
                _log(
                    f"{perf_counter() - began:5.0f} s  round {number + 1}  {stage.key:15} {contestant.label}"
                )
                _run(bench, stage, chosen, contestant, results)
    return results


def _run(
    bench: Bench, stage: Stage, chosen: Sequence[BenchmarkRow], contestant: Contestant, results: Results
) -> None:
    """Run one stage of one contestant; an error makes its row void, an ended server all remaining rows."""
    remaining = [row.key for row in chosen]
    try:
        if stage.key == "startup":
            results.rounds["startup"][contestant.key].append(_startup(bench, stage, contestant))
            return
        with bench.serving(contestant, stage.messages, writes=stage.writes) as server:
            for row in chosen:
                assert row.measure is not None
                try:
                    results.rounds[row.key][contestant.key].append(row.measure(server))
                except (Void, Malformed) as error:
                    _log(f"         void: {row.key}: {error}")
                    results.void[row.key][contestant.key] = str(error)
                remaining.remove(row.key)
    except NotServing as error:
        _log(f"         void: {', '.join(remaining)}: {error}")
        for key in remaining:
            results.void[key][contestant.key] = str(error)


def _startup(bench: Bench, stage: Stage, contestant: Contestant) -> Figures:
    with bench.database(contestant, stage.messages, writes=True) as database:
        return rows.startup(
            lambda port: contestant.command(port, database, bench.ours_options),
            free_port,
            bench.cores,
            bench.effort.starts,
        )


def ceiling(bench: Bench) -> dict[str, Figures]:
    """The figures of the load against a server that does almost nothing: the limit of the load itself."""
    figures = {}
    for row in stages(evolve(bench.effort, seconds=bench.effort.seconds / 2))[0].rows:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.load", "canned", "--port", str(port)]
        with running(command, port, bench.cores) as server:
            assert row.measure is not None
            figures[row.key] = row.measure(server)
    return figures


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""Writes the figures: a JSON file, the tables in two READMEs, and a plot."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from benchmarks.compare.contestants import CONTESTANTS, Contestant
from benchmarks.compare.measuring import Results
from benchmarks.compare.plan import Effort
from benchmarks.compare.plot import draw
from benchmarks.compare.table import ceiling_line, lines, render, short_lines
from benchmarks.load.figures import Figures

ROOT = Path(__file__).parents[2]
BEGIN = "<!-- benchmark: written by `make bench ARGS=--write-docs` -->"
END = "<!-- /benchmark -->"
PLOT = ROOT / "docs" / "benchmark.svg"


@frozen
class BenchmarkReport:
    """The results of one run, and its conditions."""

    machine: Mapping[str, str]
    rounds: int
    seconds: float
    large: int
    """Messages in the longest history."""
    results: Results
    ceiling: Mapping[str, Figures]

    @property
    def contestants(self) -> list[Contestant]:
        rows: list[Mapping[str, object]] = [*self.results.rounds.values(), *self.results.void.values()]
        measured = {key for row in rows for key in row}
        return [contestant for contestant in CONTESTANTS if contestant.key in measured]

    def table(self, *, short: bool = False) -> str:
        """The table, and below it the conditions of the measurement."""
        conditions = (
            "In brackets: messaging-core's figure divided by the peer's. Medians of "
            f"{self.rounds} round{'s' if self.rounds > 1 else ''} of {self.seconds:g} s a row, on "
            f"{self.machine['processor']}, {self.machine['system']}, {self.machine['sync']}; "
            f"{self.machine['date']}."
        )
        if short:
            return f"{render(self.results, self.contestants, short_lines(self.large))}\n\n{conditions}"
        below = [conditions, f"{self.machine['versions']}."]
        if self.ceiling:
            below.append(ceiling_line(self.ceiling))
        return "\n\n".join([render(self.results, self.contestants, lines(self.large)), *below])


def report_of(
    machine: Mapping[str, str], effort: Effort, results: Results, ceiling: Mapping[str, Figures]
) -> BenchmarkReport:
    return BenchmarkReport(
        machine, effort.rounds, effort.seconds, effort.histories["million"], results, ceiling
    )


def write_json(report: BenchmarkReport, path: Path) -> None:
    """Write every round's figures and their medians."""
    keys = sorted({*report.results.rounds, *report.results.void})
    document: dict[str, Any] = {
        "machine": dict(report.machine),
        "rounds": report.rounds,
        "seconds": report.seconds,
        "large": report.large,
        "ceiling": _rounded(report.ceiling),
        "void": {row: dict(reasons) for row, reasons in report.results.void.items()},
        "rows": {
            row: {
                contestant: {
                    "median": _rounded(report.results.medians(row, contestant)),
                    "rounds": _rounded(figures),
                }
                for contestant, figures in report.results.rounds.get(row, {}).items()
            }
            for row in keys
        },
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> BenchmarkReport:
    """The report in a file that `write_json` wrote."""
    document = json.loads(path.read_text(encoding="utf-8"))
    results = Results()
    for row, by_contestant in document["rows"].items():
        results.rounds[row] = defaultdict(
            list, {key: found["rounds"] for key, found in by_contestant.items()}
        )
    results.void.update(document["void"])
    return BenchmarkReport(
        document["machine"],
        document["rounds"],
        document["seconds"],
        document["large"],
        results,
        document["ceiling"],
    )


def write_docs(report: BenchmarkReport) -> Sequence[Path]:
    """Write the short table into README.md, the full one into benchmarks/README.md, and the plot."""
    readme, full = ROOT / "README.md", ROOT / "benchmarks" / "README.md"
    plot = f"![The same as bars]({PLOT.relative_to(ROOT)})"
    for path, table in ((readme, f"{report.table(short=True)}\n\n{plot}"), (full, report.table())):
        path.write_text(between_markers(path.read_text(encoding="utf-8"), table), encoding="utf-8")
    draw(report.results, report.contestants, PLOT)
    return readme, full, PLOT


def between_markers(text: str, content: str) -> str:
    """The text with new content between the markers. Raises `ValueError` for a text without them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{after}"


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.5g}")
        case Mapping():
            return {name: _rounded(item) for name, item in value.items()}
        case list():
            return [_rounded(item) for item in value]
        case _:
            return value

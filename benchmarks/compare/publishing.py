"""Where the figures go: a JSON file, the tables in two READMEs, and a plot."""

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
class Report:
    """Everything that one run found."""

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
        """The table, and below it what it was measured on."""
        told = (
            "In brackets: messaging-core's figure divided by the peer's. Medians of "
            f"{self.rounds} round{'s' if self.rounds > 1 else ''} of {self.seconds:g} s a row, on "
            f"{self.machine['processor']}, {self.machine['system']}, {self.machine['sync']}; "
            f"{self.machine['date']}."
        )
        if short:
            return f"{render(self.results, self.contestants, short_lines(self.large))}\n\n{told}"
        below = [told, f"{self.machine['versions']}."]
        if self.ceiling:
            below.append(ceiling_line(self.ceiling))
        return "\n\n".join([render(self.results, self.contestants, lines(self.large)), *below])


def report_of(
    machine: Mapping[str, str], effort: Effort, results: Results, ceiling: Mapping[str, Figures]
) -> Report:
    return Report(machine, effort.rounds, effort.seconds, effort.histories["million"], results, ceiling)


def write_json(report: Report, path: Path) -> None:
    """Every round's figures, and their medians."""
    keys = sorted({*report.results.rounds, *report.results.void})
    kept: dict[str, Any] = {
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
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> Report:
    """What `write_json` wrote."""
    kept = json.loads(path.read_text(encoding="utf-8"))
    results = Results()
    for row, by_contestant in kept["rows"].items():
        results.rounds[row] = defaultdict(
            list, {key: found["rounds"] for key, found in by_contestant.items()}
        )
    results.void.update(kept["void"])
    return Report(kept["machine"], kept["rounds"], kept["seconds"], kept["large"], results, kept["ceiling"])


def write_docs(report: Report) -> Sequence[Path]:
    """The short table in the README, the whole one beside the benchmarks, and the plot."""
    readme, whole = ROOT / "README.md", ROOT / "benchmarks" / "README.md"
    plotted = f"![The same as bars]({PLOT.relative_to(ROOT)})"
    for path, table in ((readme, f"{report.table(short=True)}\n\n{plotted}"), (whole, report.table())):
        path.write_text(between_markers(path.read_text(encoding="utf-8"), table), encoding="utf-8")
    draw(report.results, report.contestants, PLOT)
    return readme, whole, PLOT


def between_markers(text: str, content: str) -> str:
    """`text` with what lies between the two markers replaced; raises `ValueError` where they are not."""
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

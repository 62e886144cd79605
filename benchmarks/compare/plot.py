"""Draws one figure of the most important rows."""

from collections.abc import Sequence
from math import floor, log10
from pathlib import Path

from attrs import frozen

from benchmarks.compare.contestants import Contestant
from benchmarks.compare.measuring import Results


@frozen
class Panel:
    title: str
    bars: tuple[tuple[str, str, str], ...]
    """Row, figure, and the label below its bars."""
    scale: float = 1.0
    log: bool = False


PANELS = (
    Panel(
        "Messages per second",
        tuple((f"sends-{n}", "per_second", f"{n} sender{'s' if n > 1 else ''}") for n in (1, 16, 64)),
    ),
    Panel(
        "Answer p99, ms (less is better)",
        tuple((f"sends-{n}", "answer_p99_ms", f"{n} sender{'s' if n > 1 else ''}") for n in (1, 16, 64)),
        log=True,
    ),
    Panel(
        "Deliveries per second, 4 senders",
        tuple((f"group-{n}-4", "deliveries_per_second", f"group of {n:,}") for n in (100, 1000)),
    ),
    Panel(
        "Pages of history per second, by messages stored",
        tuple(
            (f"messages-{name}-16", "per_second", stored)
            for name, stored in (("one", "1"), ("thousand", "1,000"), ("million", "1,000,000"))
        ),
    ),
    Panel("Memory of an idle socket, KiB (less is better)", (("idle", "bytes_per_socket", ""),), 1 / 1024),
    Panel("Start-up, s (less is better)", (("startup", "seconds", ""),)),
)


def draw(results: Results, contestants: Sequence[Contestant], path: Path) -> None:
    """Write the figure, in the format of the path's suffix."""
    import matplotlib as mpl  # noqa: PLC0415 - takes half a second, and is not installed for the tests

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "benchmarks", "font.size": 9})
    figure, grid = plt.subplots(2, 3, figsize=(11, 6))
    width = 0.8 / len(contestants)
    for panel, axes in zip(PANELS, grid.flat, strict=True):
        shown: list[float] = []
        for place, contestant in enumerate(contestants):
            heights = []
            for row, name, _ in panel.bars:
                measured = results.medians(row, contestant.key)
                heights.append(0 if measured is None else measured[name] * panel.scale)
            at = [number + (place - (len(contestants) - 1) / 2) * width for number in range(len(panel.bars))]
            shown += [height for height in heights if height]
            axes.bar(at, heights, width * 0.92, color=contestant.colour, label=contestant.label)
        axes.set_title(panel.title, fontsize=9.5, loc="left")
        axes.set_xticks(range(len(panel.bars)), [label for _, _, label in panel.bars])
        axes.tick_params(length=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.4, color="#cccccc")
        axes.set_axisbelow(True)
        if panel.log:
            axes.set_yscale("log")
            axes.set_ylim(bottom=10 ** floor(log10(min(shown))) if shown else None)
        axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(contestants), frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)

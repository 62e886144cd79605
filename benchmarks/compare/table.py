"""The figures as Markdown: each server's figure, and ours divided by it."""

from collections.abc import Mapping, Sequence

from attrs import frozen

from benchmarks.compare.contestants import OURS, Contestant
from benchmarks.compare.measuring import Results
from benchmarks.compare.plan import GROUP_SENDERS, SENDERS

BUSY = 0.85
"""If the load uses more than this share of its core, the row may show the load's limit, not the server's."""
DISTURBED = 0.10
"""The share of the time above which other processes on one of the two cores disturb the row."""


MARKS = (("†", ("load_cpu",), BUSY), ("‡", ("load_waited", "server_others"), DISTURBED))


@frozen
class TableLine:
    """A line of the table, which shows one figure of one row."""

    row: str
    figure: str
    title: str
    higher_is_better: bool
    scale: float = 1.0

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"


def lines(large: int) -> list[TableLine]:
    """Every line in the table's order; `large` is the length of the longest history."""
    table: list[TableLine] = []
    for senders in SENDERS:
        row, among = f"sends-{senders}", f"{senders} sender{'s' if senders > 1 else ''}"
        table += [
            TableLine(row, "per_second", f"messages/s, {among}", True),
            TableLine(row, "answer_p50_ms", f"answer p50, ms, {among}", False),
            TableLine(row, "answer_p99_ms", f"answer p99, ms, {among}", False),
            TableLine(row, "delivery_p50_ms", f"delivery p50, ms, {among}", False),
            TableLine(row, "delivery_p99_ms", f"delivery p99, ms, {among}", False),
        ]
    for people, senders in GROUP_SENDERS:
        row, among = f"group-{people}-{senders}", f"group of {people:,}, {senders} senders"
        table += [
            TableLine(row, "deliveries_per_second", f"deliveries/s, {among}", True),
            TableLine(row, "delivery_p50_ms", f"delivery p50, ms, {among}", False),
            TableLine(row, "delivery_p99_ms", f"delivery p99, ms, {among}", False),
        ]
    table.append(TableLine("idle", "bytes_per_socket", "memory of an idle socket, KiB", False, 1 / 1024))
    table.append(TableLine("idle", "opened_per_second", "sockets opened/s", True))
    for what, title in (("messages", "pages of history"), ("chats", "lists of chats")):
        for name, stored in (("one", "1"), ("thousand", "1,000"), ("million", f"{large:,}")):
            for connections in (1, 16):
                row = f"{what}-{name}-{connections}"
                among = f"{stored} stored, {connections} connection{'s' if connections > 1 else ''}"
                table += [
                    TableLine(row, "per_second", f"{title}/s, {among}", True),
                    TableLine(row, "answer_p50_ms", f"{title} p50, ms, {among}", False),
                    TableLine(row, "answer_p99_ms", f"{title} p99, ms, {among}", False),
                ]
    table.append(TableLine("startup", "seconds", "start-up, s", False))
    return table


SHORT = {
    ("sends-1", "per_second"),
    ("sends-16", "per_second"),
    ("sends-16", "answer_p99_ms"),
    ("sends-64", "per_second"),
    ("sends-64", "delivery_p99_ms"),
    ("group-100-4", "deliveries_per_second"),
    ("group-1000-4", "deliveries_per_second"),
    ("group-1000-4", "delivery_p99_ms"),
    ("group-1000-16", "deliveries_per_second"),
    ("idle", "bytes_per_socket"),
    ("idle", "opened_per_second"),
    ("messages-thousand-16", "per_second"),
    ("messages-million-16", "per_second"),
    ("messages-million-16", "answer_p99_ms"),
    ("chats-million-16", "per_second"),
    ("startup", "seconds"),
}
"""The rows and figures of the short table."""


def short_lines(large: int) -> list[TableLine]:
    return [line for line in lines(large) if (line.row, line.figure) in SHORT]


def render(results: Results, contestants: Sequence[Contestant], shown: Sequence[TableLine]) -> str:
    """A Markdown table of the measured lines, and below it the meanings of its marks."""
    labels = [contestant.label for contestant in contestants]
    table = [_joined(["", *labels]), _joined(["---", *["---:"] * len(labels)])]
    marks: set[str] = set()
    for line in shown:
        if line.row not in results.rounds and line.row not in results.void:
            continue
        cells = [_cell(results, contestant, line, marks) for contestant in contestants]
        table.append(_joined([f"{line.title} {line.arrow}", *cells]))
    meanings = {
        "†": f"the load used more than {BUSY:.0%} of its core, so the server may be faster",
        "‡": f"other processes used one of the two cores for more than {DISTURBED:.0%} of the time",
        "void": "the server did not do what it must, or ended",
    }
    legend = [f"{mark}: {meaning}." for mark, meaning in meanings.items() if mark in marks]
    return "\n".join([*table, *(["", *legend] if legend else [])])


def _cell(results: Results, contestant: Contestant, line: TableLine, marks: set[str]) -> str:
    if contestant.key in results.void.get(line.row, {}):
        marks.add("void")
        return "void"
    figures = results.medians(line.row, contestant.key)
    if figures is None:
        return ""
    found = [mark for mark, shares, bound in MARKS if max(figures.get(share, 0) for share in shares) > bound]
    marks.update(found)
    value = figures[line.figure] * line.scale
    shown = number(value) + "".join(found)
    ours = results.medians(line.row, OURS.key)
    if contestant is OURS or ours is None or value == 0:
        return shown
    return f"{shown} ({ratio(ours[line.figure] * line.scale / value)})"


def number(value: float) -> str:
    """The number with at least three digits, in groups of three."""
    decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{decimals}f}"


def ratio(value: float) -> str:
    """The ratio with two or three digits: 0.43×, 3.4×, 120×."""
    decimals = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{value:.{decimals}f}×"


def ceiling_line(shown: Mapping[str, Mapping[str, float]]) -> str:
    """The limit of the load itself, in a sentence."""

    def figure_of(row: str, figure: str) -> str:
        return number(shown[row][figure])

    return (
        "The load by itself, against a server that does nothing: "
        f"{figure_of('sends-1', 'per_second')}, {figure_of('sends-16', 'per_second')} and "
        f"{figure_of('sends-64', 'per_second')} messages/s with 1, 16 and 64 senders, and "
        f"{figure_of('group-1000-4', 'deliveries_per_second')} and "
        f"{figure_of('group-1000-16', 'deliveries_per_second')} deliveries/s into a group of 1,000 "
        "with 4 and 16."
    )


def _joined(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

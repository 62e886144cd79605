"""Figures are medians of rounds; a table shows them, our figure divided by each peer's, and void rows."""

import json
from pathlib import Path

import pytest

from benchmarks.compare.contestants import CONTESTANTS, OURS
from benchmarks.compare.measuring import Results
from benchmarks.compare.plan import DEFAULT, stages
from benchmarks.compare.publishing import BEGIN, END, BenchmarkReport, between_markers, read_json, write_json
from benchmarks.compare.table import SHORT, TableLine, lines, number, ratio, render, short_lines
from benchmarks.load.client import Void
from benchmarks.load.figures import percentile, spread
from benchmarks.load.processes import PEERS

NODE = next(contestant for contestant in CONTESTANTS if contestant.key == "node")
RATE = TableLine("sends-1", "per_second", "messages/s", True)


def results(*, ours: list[float], node: list[float], **shares: float) -> Results:
    """Results with these rates of each round; every other figure of the row is 1."""
    measured = Results()
    others = {line.figure: 1.0 for line in lines(1000) if line.row == "sends-1"}
    for key, rates in (("ours", ours), ("node", node)):
        measured.rounds["sends-1"][key] = [{**others, "per_second": rate, **shares} for rate in rates]
    return measured


def rendered(measured: Results) -> list[str]:
    return render(measured, [OURS, NODE], [RATE]).splitlines()


@pytest.mark.parametrize(
    ("part", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.505, 51), (0.99, 99), (1.0, 100)]
)
def test_a_percentile_is_the_smallest_value_that_this_part_does_not_exceed(part: float, value: int) -> None:
    assert percentile(list(range(100, 0, -1)), part) == value


def test_a_percentile_without_values_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
    with pytest.raises(Void):
        spread("answer", [])


def test_spread_is_in_milliseconds() -> None:
    assert spread("answer", [0.001, 0.002]) == {"answer_p50_ms": 1.0, "answer_p99_ms": 2.0}


def test_a_cell_has_the_median_and_our_median_divided_by_it() -> None:
    table = rendered(results(ours=[900, 3000, 1000], node=[400, 500, 9000]))
    assert table == [
        "|  | messaging-core | Node.js |",
        "| --- | ---: | ---: |",
        "| messages/s ↑ | 1,000 | 500 (2.0×) |",
    ]


def test_a_row_with_one_void_round_is_void() -> None:
    measured = results(ours=[1000], node=[500])
    measured.void["sends-1"]["node"] = "a message was lost"
    assert rendered(measured)[2] == "| messages/s ↑ | 1,000 | void |"
    assert rendered(measured)[-1].startswith("void: ")


def test_without_our_figure_there_is_no_ratio() -> None:
    measured = results(ours=[1000], node=[500])
    measured.void["sends-1"]["ours"] = "a message was lost"
    assert rendered(measured)[2] == "| messages/s ↑ | void | 500 |"


def test_the_table_omits_a_row_that_was_not_measured() -> None:
    assert len(render(Results(), [OURS, NODE], [RATE]).splitlines()) == 2


@pytest.mark.parametrize(
    ("shares", "mark"),
    [({"load_cpu": 0.86}, "†"), ({"load_waited": 0.11}, "‡"), ({"server_others": 0.11}, "‡")],
)
def test_a_row_that_lacked_processor_time_has_a_mark(shares: dict[str, float], mark: str) -> None:
    table = rendered(results(ours=[1000], node=[500], **shares))
    assert table[2] == f"| messages/s ↑ | 1,000{mark} | 500{mark} (2.0×) |"
    assert table[-1].startswith(f"{mark}: ")


def test_numbers_have_at_least_three_digits() -> None:
    assert [number(value) for value in (0.123, 1.234, 12.34, 123.4, 12345.6)] == [
        "0.12",
        "1.23",
        "12.3",
        "123",
        "12,346",
    ]
    assert [ratio(value) for value in (0.123, 1.234, 12.34)] == ["0.12×", "1.2×", "12×"]


def test_each_contestant_has_its_own_name_program_and_colour() -> None:
    for trait in ("key", "label", "program", "colour"):
        assert len({getattr(contestant, trait) for contestant in CONTESTANTS}) == len(CONTESTANTS)
    for contestant in CONTESTANTS:
        assert contestant is OURS or (PEERS / str(contestant.program)).is_file()


def test_every_line_names_a_measured_row_and_every_row_has_a_line() -> None:
    measured = {row.key for stage in stages(DEFAULT) for row in stage.rows}
    assert {line.row for line in lines(1000)} == measured
    assert {(line.row, line.figure) for line in short_lines(1000)} == SHORT


def test_only_the_text_between_the_markers_is_replaced() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter"
    assert between_markers(text, "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter"
    assert between_markers(between_markers(text, "new"), "new") == between_markers(text, "new")
    with pytest.raises(ValueError, match="there is no"):
        between_markers("no markers", "new")


def test_the_json_file_gives_the_same_table(tmp_path: Path) -> None:
    measured = results(ours=[1000, 2000], node=[500, 600])
    measured.void["idle"]["node"] = "it ended"
    facts = dict.fromkeys(("date", "processor", "system", "sync", "versions"), "some")
    report = BenchmarkReport(facts, 2, 4.0, 1000, measured, {})
    write_json(report, tmp_path / "latest.json")
    document = json.loads((tmp_path / "latest.json").read_text(encoding="utf-8"))
    assert document["rows"]["sends-1"]["ours"]["median"]["per_second"] == 1500
    assert document["void"] == {"idle": {"node": "it ended"}}
    assert read_json(tmp_path / "latest.json").table() == report.table()

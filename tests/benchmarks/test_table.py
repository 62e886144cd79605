"""Figures are medians of rounds; a table shows them, ours divided by a peer's, and what does not count."""

import json
from pathlib import Path

import pytest

from benchmarks.compare.contestants import CONTESTANTS, OURS
from benchmarks.compare.measuring import Results
from benchmarks.compare.plan import DEFAULT, stages
from benchmarks.compare.publishing import BEGIN, END, Report, between_markers, read_json, write_json
from benchmarks.compare.table import SHORT, Line, lines, number, ratio, render, short_lines
from benchmarks.load.client import Void
from benchmarks.load.figures import percentile, spread
from benchmarks.load.processes import PEERS

NODE = next(contestant for contestant in CONTESTANTS if contestant.key == "node")
RATE = Line("sends-1", "per_second", "messages/s", True)


def results(*, ours: list[float], node: list[float], **shares: float) -> Results:
    """Rates of some rounds; every other figure of the row is 1."""
    made = Results()
    others = {line.figure: 1.0 for line in lines(1000) if line.row == "sends-1"}
    for key, rates in (("ours", ours), ("node", node)):
        made.rounds["sends-1"][key] = [{**others, "per_second": rate, **shares} for rate in rates]
    return made


def rendered(made: Results) -> list[str]:
    return render(made, [OURS, NODE], [RATE]).splitlines()


@pytest.mark.parametrize(
    ("part", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.505, 51), (0.99, 99), (1.0, 100)]
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(part: float, value: int) -> None:
    assert percentile(list(range(100, 0, -1)), part) == value


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
    with pytest.raises(Void):
        spread("answer", [])


def test_times_are_told_in_milliseconds() -> None:
    assert spread("answer", [0.001, 0.002]) == {"answer_p50_ms": 1.0, "answer_p99_ms": 2.0}


def test_a_cell_has_the_median_and_ours_divided_by_it() -> None:
    table = rendered(results(ours=[900, 3000, 1000], node=[400, 500, 9000]))
    assert table == [
        "|  | messaging-core | Node.js |",
        "| --- | ---: | ---: |",
        "| messages/s ↑ | 1,000 | 500 (2.0×) |",
    ]


def test_a_row_that_was_void_once_is_void() -> None:
    made = results(ours=[1000], node=[500])
    made.void["sends-1"]["node"] = "a message was lost"
    assert rendered(made)[2] == "| messages/s ↑ | 1,000 | void |"
    assert rendered(made)[-1].startswith("void: ")


def test_without_our_figure_there_is_no_ratio() -> None:
    made = results(ours=[1000], node=[500])
    made.void["sends-1"]["ours"] = "a message was lost"
    assert rendered(made)[2] == "| messages/s ↑ | void | 500 |"


def test_a_row_that_was_not_measured_is_left_out() -> None:
    assert len(render(Results(), [OURS, NODE], [RATE]).splitlines()) == 2


@pytest.mark.parametrize(
    ("shares", "mark"),
    [({"load_cpu": 0.86}, "†"), ({"load_waited": 0.11}, "‡"), ({"server_others": 0.11}, "‡")],
)
def test_a_row_that_was_short_of_a_core_is_marked(shares: dict[str, float], mark: str) -> None:
    table = rendered(results(ours=[1000], node=[500], **shares))
    assert table[2] == f"| messages/s ↑ | 1,000{mark} | 500{mark} (2.0×) |"
    assert table[-1].startswith(f"{mark}: ")


def test_numbers_have_three_digits_or_more() -> None:
    assert [number(value) for value in (0.123, 1.234, 12.34, 123.4, 12345.6)] == [
        "0.12",
        "1.23",
        "12.3",
        "123",
        "12,346",
    ]
    assert [ratio(value) for value in (0.123, 1.234, 12.34)] == ["0.12×", "1.2×", "12×"]


def test_each_contestant_has_a_name_a_program_and_a_colour_of_its_own() -> None:
    for trait in ("key", "label", "program", "colour"):
        assert len({getattr(contestant, trait) for contestant in CONTESTANTS}) == len(CONTESTANTS)
    for contestant in CONTESTANTS:
        assert contestant is OURS or (PEERS / str(contestant.program)).is_file()


def test_every_line_names_a_row_that_is_measured_and_every_row_has_a_line() -> None:
    measured = {row.key for stage in stages(DEFAULT) for row in stage.rows}
    assert {line.row for line in lines(1000)} == measured
    assert {(line.row, line.figure) for line in short_lines(1000)} == SHORT


def test_only_what_is_between_the_markers_is_replaced() -> None:
    text = f"before\n{BEGIN}\nold\n{END}\nafter"
    assert between_markers(text, "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter"
    assert between_markers(between_markers(text, "new"), "new") == between_markers(text, "new")
    with pytest.raises(ValueError, match="there is no"):
        between_markers("no markers", "new")


def test_what_is_kept_as_json_gives_the_same_table(tmp_path: Path) -> None:
    made = results(ours=[1000, 2000], node=[500, 600])
    made.void["idle"]["node"] = "it ended"
    facts = dict.fromkeys(("date", "processor", "system", "sync", "versions"), "some")
    report = Report(facts, 2, 4.0, 1000, made, {})
    write_json(report, tmp_path / "latest.json")
    kept = json.loads((tmp_path / "latest.json").read_text(encoding="utf-8"))
    assert kept["rows"]["sends-1"]["ours"]["median"]["per_second"] == 1500
    assert kept["void"] == {"idle": {"node": "it ended"}}
    assert read_json(tmp_path / "latest.json").table() == report.table()

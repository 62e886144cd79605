"""Compares this server with its peers on this machine; benchmarks/README.md explains the method.

python -m benchmarks.compare                  # every row of every server
python -m benchmarks.compare --quick          # a smoke test within a minute
python -m benchmarks.compare --rows 'sends*' --servers ours,node --rounds 1
python -m benchmarks.compare --rewrite        # write the tables and the plot again, from the last figures
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import evolve

from benchmarks.compare.agreement import Disagreement
from benchmarks.compare.contestants import CONTESTANTS, OURS, Contestant
from benchmarks.compare.machine import machine_facts
from benchmarks.compare.measuring import Bench, ceiling, disagreements_of, measure
from benchmarks.compare.plan import DEFAULT, QUICK
from benchmarks.compare.publishing import BenchmarkReport, read_json, report_of, write_docs, write_json
from benchmarks.load.processes import NotServing, choose_cores, use_load_core

LATEST = Path(__file__).parents[1] / "results" / "latest.json"


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # exits through the blocks that end the servers
    arguments = _arguments()
    if arguments.rewrite:
        print("\n".join(map(str, write_docs(read_json(LATEST)))))
        return
    cores = choose_cores()
    if cores.load is None:
        print("This machine has one core: the load and the server share it.", file=sys.stderr)
    use_load_core(cores)
    effort = QUICK if arguments.quick else DEFAULT
    effort = evolve(
        effort, rounds=arguments.rounds or effort.rounds, seconds=arguments.seconds or effort.seconds
    )
    LATEST.parent.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=arguments.directory or LATEST.parent, prefix="work-") as directory:
        bench = Bench(Path(directory), cores, effort, arguments.ours_options)
        try:
            _require_agreement(disagreements_of(bench, arguments.servers))
        except NotServing as error:
            sys.exit(f"error: {error}")
        facts = machine_facts(Path(directory))
        limits = ceiling(bench) if arguments.rows == ["*"] and not arguments.quick else {}
        report = report_of(facts, effort, measure(bench, arguments.servers, arguments.rows), limits)
    print(report.table())
    _write(report, arguments)
    if report.results.void:
        sys.exit(1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="a smoke test; its figures mean little")
    parser.add_argument("--rounds", type=int, help=f"{DEFAULT.rounds} by default")
    parser.add_argument("--seconds", type=float, help=f"seconds a row; {DEFAULT.seconds:g} by default")
    parser.add_argument(
        "--rows", type=lambda text: text.split(","), default=["*"], help="patterns: 'sends*,group-100-4'"
    )
    known = ",".join(contestant.key for contestant in CONTESTANTS)
    parser.add_argument("--servers", type=_contestants, default=list(CONTESTANTS), help=f"some of {known}")
    parser.add_argument(
        "--ours-options", default="", metavar="'--OPTION …'", help="more options for our server"
    )
    parser.add_argument("--directory", type=Path, help="for the databases, on the disk to measure")
    parser.add_argument(
        "--output", type=Path, help=f"the JSON file; {os.path.relpath(LATEST)} by default for a full run"
    )
    parser.add_argument("--write-docs", action="store_true", help="also write the tables and the plot")
    parser.add_argument("--rewrite", action="store_true", help="only write them, from the last figures")
    return parser.parse_args()


def _contestants(text: str) -> list[Contestant]:
    by_key = {contestant.key: contestant for contestant in CONTESTANTS}
    unknown = set(text.split(",")) - set(by_key)
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown servers: {', '.join(sorted(unknown))}; choose from {', '.join(by_key)}"
        )
    return [by_key[key] for key in text.split(",")]


def _require_agreement(found: dict[str, list[Disagreement]]) -> None:
    for contestant, differences in found.items():
        for difference in differences:
            print(
                f"{contestant}: {difference.step}\n  {OURS.key}: {difference.ours}\n"
                f"  {contestant}: {difference.theirs}",
                file=sys.stderr,
            )
    if any(found.values()):
        sys.exit("error: the servers respond differently to the same requests, so they cannot be compared")
    print(f"The same responses from {', '.join(['ours', *found])}.", file=sys.stderr)


def _write(report: BenchmarkReport, arguments: argparse.Namespace) -> None:
    """Write the figures; only a full run replaces the last figures by default."""
    full = not arguments.quick and arguments.rows == ["*"] and arguments.servers == list(CONTESTANTS)
    output = arguments.output or (LATEST if full else None)
    if output is not None:
        write_json(report, output)
        print(f"The figures are in {output}.", file=sys.stderr)
    if arguments.write_docs:
        print("\n".join(map(str, write_docs(report))), file=sys.stderr)


if __name__ == "__main__":
    main()

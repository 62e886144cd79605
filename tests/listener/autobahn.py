"""Runs Autobahn's cases against the listener: `python -m tests.listener.autobahn` writes docs/autobahn.md.

kosoku is the fuzzing client: it drives the case files of the Autobahn testsuite, whose own runner needs
Python 2.
"""

import json
import subprocess
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

from tests.listener.server_process import server

REPORT = Path(__file__).parents[2] / "docs" / "autobahn.md"

SECTIONS = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8",
    "7": "Closing",
    "9": "Limits and performance",
    "10": "Automatic fragmentation",
}
"""The sections that apply. There is no 8 or 11; 12 and 13 are compression, which is never accepted."""

LARGE = ("9.*",)
"""Cases with messages of up to 16 MiB: the limit is raised for them alone."""
LARGE_BYTES = 16 * 1024 * 1024 + 1024

PASSED = {"OK", "NON-STRICT", "INFORMATIONAL"}
"""Autobahn's own rule."""


@frozen
class Verdict:
    """The outcome of a case."""

    case: str
    behavior: str
    close: str

    @property
    def passed(self) -> bool:
        return {self.behavior, self.close} <= PASSED


def run_cases(cases: Sequence[str], *, message_bytes: int) -> list[Verdict]:
    """Run the cases of these globs against a fresh server."""
    command = [str(Path(sys.executable).with_name("kosoku")), "--mode", "fuzzingclient"]
    with TemporaryDirectory() as folder, server(message_bytes=message_bytes) as served:
        chosen = [part for case in cases for part in ("--include", case)]
        address = f"{served.address[0]}:{served.address[1]}"
        # Its exit status shows whether all passed; the report has the failures.
        subprocess.run(
            [*command, *chosen, "--outdir", folder, address], check=False, capture_output=True, timeout=300
        )
        (results,) = json.loads((Path(folder) / "index.json").read_text()).values()
    return [Verdict(case, outcome["behavior"], outcome["behaviorClose"]) for case, outcome in results.items()]


def run_all() -> list[Verdict]:
    """Every case that applies: with the listener's own limit wherever its messages fit."""
    small = [f"{section}.*" for section in SECTIONS if f"{section}.*" not in LARGE]
    found = run_cases(small, message_bytes=65_536) + run_cases(LARGE, message_bytes=LARGE_BYTES)
    return sorted(found, key=lambda verdict: [int(part) for part in verdict.case.split(".")])


def table(verdicts: Sequence[Verdict]) -> str:
    """The report, in Markdown."""
    lines = ["| section | cases | OK | non-strict | informational | failed |", "|---|---|---|---|---|---|"]
    for section, title in SECTIONS.items():
        own = [verdict for verdict in verdicts if verdict.case.split(".")[0] == section]
        count = Counter(verdict.behavior for verdict in own if verdict.passed)
        failed = sum(not verdict.passed for verdict in own)
        cells = [
            f"{section} {title}",
            len(own),
            count["OK"],
            count["NON-STRICT"],
            count["INFORMATIONAL"],
            failed,
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    others = [
        verdict
        for verdict in verdicts
        if verdict.behavior != "OK" or verdict.close not in PASSED - {"NON-STRICT"}
    ]
    lines += ["", "| case | behaviour | close |", "|---|---|---|"]
    lines += [f"| {verdict.case} | {verdict.behavior} | {verdict.close} |" for verdict in others]
    return "\n".join(lines)


INTRODUCTION = """# Autobahn's WebSocket testsuite

`python -m tests.listener.autobahn` writes this page. It runs the cases of the Autobahn testsuite through
kosoku {version}, from PyPI, against the listener with an echo application, in a separate process. kosoku
drives Autobahn's own case files; the suite's original runner needs Python 2, and finds the same
(`docs/listener.md`).

{total} cases apply and {passed} pass. Sections 12 and 13 are permessage-deflate, which the listener never
accepts. Section 9 sends messages of up to 16 MiB: for it alone the limit is raised from 64 KiB.

*Non-strict* are cases with a valid message and a violation in one segment: the listener fails the
connection at once, without the echo of that message. RFC 6455 allows it. *Informational* cases have no
correct answer.

"""


def main() -> None:
    ArgumentParser(
        prog="python -m tests.listener.autobahn",
        description=f"Run all of Autobahn's cases that apply, some minutes, and write {REPORT}.",
    ).parse_args()
    verdicts = run_all()
    passed = sum(verdict.passed for verdict in verdicts)
    introduction = INTRODUCTION.format(
        version=version("kosoku"),
        total=len(verdicts),
        passed=passed,
    )
    REPORT.write_text(introduction + table(verdicts) + "\n")
    print(f"{passed} of {len(verdicts)} cases pass: {REPORT}")  # noqa: T201
    sys.exit(passed != len(verdicts))


if __name__ == "__main__":
    main()

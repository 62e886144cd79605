"""Plants faults with mutmut, and names those that no test notices: `make mutants`.

Faults are planted in the whole core, and in a sample of the adapters: modules that decide something without a
network or a database. `pyproject.toml` names them.

A fault (a mutant) that all tests pass is a survivor. A survivor may live if it changes nothing but a text for
people, or if `tests/survivors.toml` has a reason for it. That list names the function and the lines that
differ, so an entry still applies when the function moves or another mutant comes before it. The command fails
if a survivor has no reason, or if an entry of the list is caught.

mutmut changes the bodies of functions and methods. It does not change decorated functions (properties, and
generators of context managers) or code that runs at import (constants, tables, defaults of fields).
"""

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tests" / "survivors.toml"
CAUGHT = {"killed", "timeout"}
SURVIVED = {"survived", "no tests"}
NOT_RUN = "not checked"
CLASS = "\N{LATIN LETTER LATERAL CLICK}"
"""mutmut writes this around the name of a class."""

_TEXT = re.compile(r'f?"[^"]*\w[^"\w]* [^"\w]*\w[^"]*"')
"""A string of several words: only texts for people have them."""


@frozen
class Change:
    """A change that a mutant makes, as the list of survivors names it."""

    function: str
    lines: str
    """The changed lines, without their indentation: `- before` and `+ after`."""

    @property
    def is_of_a_text(self) -> bool:
        """Whether only a text for people differs: tests assert the codes beside it."""
        before, _, after = self.lines.partition("\n+ ")
        for text in _TEXT.findall(before):
            body = text.removeprefix("f").strip('"')
            others = ("None", *(text.replace(body, other) for other in _spoilt(body)))
            if after in {before.removeprefix("- ").replace(text, other) for other in others}:
                return True
        return False


def _spoilt(text: str) -> tuple[str, ...]:
    return f"XX{text}XX", text.lower(), text.upper()


@frozen
class Mutant:
    name: str
    status: str
    change: Change


@frozen
class Survivors:
    """The mutants that may live."""

    functions: Mapping[str, str]
    """Functions all of whose mutants may live, each with the reason."""
    changes: Mapping[Change, str]

    @classmethod
    def parse(cls, text: str) -> "Survivors":
        """From TOML; raises `ValueError` for an entry without a reason."""
        functions: dict[str, str] = {}
        changes: dict[Change, str] = {}
        for entry in tomllib.loads(text).get("survivor", []):
            function, reason = entry["function"], entry["reason"].strip()
            if not reason:
                raise ValueError(f"a mutant of {function} has no reason to live")
            if "changes" not in entry:
                functions[function] = reason
            for change in entry.get("changes", []):
                changes[Change(function, change.strip())] = reason
        return cls(functions, changes)

    def __contains__(self, change: object) -> bool:
        return isinstance(change, Change) and (change in self.changes or change.function in self.functions)


@frozen
class Verdict:
    """The results of a run."""

    lines: tuple[str, ...]
    """A report: survivors without a reason, as entries of the list; then the figures."""
    is_good: bool


def judge(found: Iterable[Mutant], listed: Survivors) -> Verdict:
    """Compare the mutants of a run with the list of those that may live."""
    mutants = list(found)
    statuses = Counter(mutant.status for mutant in mutants)
    survivors = [mutant for mutant in mutants if mutant.status in SURVIVED]
    texts = [mutant for mutant in survivors if mutant.change.is_of_a_text]
    new = [m for m in survivors if not m.change.is_of_a_text and m.change not in listed]
    living = {mutant.change for mutant in survivors}
    not_run = {mutant.change.function for mutant in mutants if mutant.status == NOT_RUN}
    caught = [each for each in listed.changes if each not in living and each.function not in not_run]
    odd = [mutant for mutant in mutants if mutant.status not in CAUGHT | SURVIVED | {NOT_RUN}]
    run = len(mutants) - statuses[NOT_RUN]
    killed = sum(statuses[status] for status in CAUGHT)
    lines = [f"# {mutant.name}: {mutant.status}\n{entry(mutant.change)}" for mutant in new]
    lines += [f"In the list, and caught or gone: {each.function}\n{each.lines}\n" for each in caught]
    lines += [f"{mutant.name}: {mutant.status}\n" for mutant in odd]
    lines.append(
        f"{len(mutants)} mutants, of which {run} were run: {killed} caught ({killed / max(run, 1):.1%}). "
        f"Of {len(survivors)} survivors {len(texts)} change a text for people, "
        f"{len(survivors) - len(texts) - len(new)} have a reason in the list, and {len(new)} have none."
    )
    return Verdict(tuple(lines), not (new or caught or odd))


def entry(change: Change) -> str:
    """An entry of the list without its reason."""
    return (
        f'[[survivor]]\nfunction = "{change.function}"\nreason = ""\n'
        f"changes = [\n'''\n{change.lines}\n''',\n]\n"
    )


def function_of(name: str) -> str:
    """The function in mutmut's name of a mutant: `package.module.Class.method`."""
    module, _, mangled = name.partition("__mutmut_")[0].rpartition(".")
    own = mangled.split(CLASS)[1:] if CLASS in mangled else [mangled.removeprefix("x_")]
    return ".".join([module, *own])


def changed_lines(diff: str) -> str:
    """The changed lines of a unified diff, without their indentation."""
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in diff.splitlines()[2:] if line[0] in "+-")


def mutants_of_last_run() -> Iterator[Mutant]:
    # mutmut reads its configuration from the current directory at import.
    from mutmut.mutation.data import SourceFileMutationData  # noqa: PLC0415
    from mutmut.mutation.diff_apply import get_diff_for_mutant  # noqa: PLC0415
    from mutmut.stats import status_by_exit_code  # noqa: PLC0415
    from mutmut.utils.file_utils import walk_mutatable_files  # noqa: PLC0415

    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            status = status_by_exit_code[code]
            diff = get_diff_for_mutant(name, path=path) if status in SURVIVED else ""
            yield Mutant(name, status, Change(function_of(name), changed_lines(diff)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.partition("\n")[0])
    parser.add_argument("patterns", nargs="*", help="run these again only, such as 'messaging_core.tokens*'")
    parser.add_argument("--survivors", action="store_true", help="run those again that survived last time")
    parser.add_argument("--report", action="store_true", help="run nothing, and report the last run")
    parser.add_argument("--processes", type=int, default=2, help="how many run mutants side by side")
    options = parser.parse_args()
    if (options.report or options.survivors) and not (ROOT / "mutants").exists():
        parser.error("there is no run to look at: run it without options first")
    patterns: list[str] = options.patterns
    if options.survivors:
        patterns += [m.name for m in mutants_of_last_run() if m.status in SURVIVED]
    elif not patterns and not options.report:
        shutil.rmtree(ROOT / "mutants", ignore_errors=True)  # mutmut would keep its old verdicts
    if not options.report:
        program = str(Path(sys.executable).with_name("mutmut"))
        command = [program, "run", "--max-children", str(options.processes), *patterns]
        subprocess.run(command, cwd=ROOT, check=True)
    verdict = judge(mutants_of_last_run(), Survivors.parse(LIST.read_text(encoding="utf-8")))
    sys.stdout.write("\n".join([*verdict.lines, ""]))
    return 0 if verdict.is_good else 1


if __name__ == "__main__":
    sys.exit(main())

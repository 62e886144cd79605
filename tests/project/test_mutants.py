"""The list of survivors that may live, and its comparison with a run of `make mutants`."""

import tomllib
from pathlib import Path

import pytest

from tests.mutants import Change, Mutant, Survivors, Verdict, changed_lines, function_of, judge

DIFF = """--- a
+++ a
@@ -1,3 +1,3 @@
 def take(size):
-    return size + 1
+    return size - 1
"""
CHANGE = Change("core.take", "- return size + 1\n+ return size - 1")
ENTRY = """
[[survivor]]
function = "core.take"
reason = "Nobody calls it."
changes = [
'''
- return size + 1
+ return size - 1
''',
]
"""


def run(*mutants: tuple[str, Change], listed: str = "") -> Verdict:
    named = [Mutant(f"m{number}", status, change) for number, (status, change) in enumerate(mutants)]
    return judge(named, Survivors.parse(listed))


def source_of(root: Path, function: str) -> str:
    """The source of a function's module."""
    path = root / function.replace(".", "/")
    while not path.with_suffix(".py").is_file():
        path = path.parent
    return path.with_suffix(".py").read_text(encoding="utf-8")


def test_every_listed_survivor_has_a_reason(root: Path) -> None:
    """An entry names a function in which faults are planted, lines of its module, and why it may live."""
    selected = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    mutated = [path.removesuffix(".py").replace("/", ".") for path in selected["source_paths"]]
    listed = Survivors.parse((root / "tests" / "survivors.toml").read_text(encoding="utf-8"))
    functions = {*listed.functions, *(change.function for change in listed.changes)}
    assert all(any(name.startswith(f"{module}.") for module in mutated) for name in functions)
    for change in listed.changes:
        code = {line.strip() for line in source_of(root, change.function).splitlines()}
        assert {line[2:] for line in change.lines.splitlines() if line[0] == "-"} <= code, change
    with pytest.raises(ValueError, match=r"core\.take"):
        Survivors.parse(ENTRY.replace("Nobody calls it.", " "))


def test_mutants_run_the_tests_of_make_quick(root: Path) -> None:
    """The Makefile and mutmut's configuration name the same tests."""
    selected = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    makefile = (root / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    (quick,) = [line for line in makefile.splitlines() if line.startswith("QUICK := ")]
    assert selected["pytest_add_cli_args_test_selection"] == quick.split()[2:]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("core.messages.x_page__mutmut_10", "core.messages.page"),
        ("core.messages.x__participant__mutmut_1", "core.messages._participant"),
        ("core.sockets.xǁOutboxǁtake__mutmut_7", "core.sockets.Outbox.take"),
        ("core.limits.xǁLimitsǁ__attrs_post_init____mutmut_2", "core.limits.Limits.__attrs_post_init__"),
    ],
)
def test_a_mutant_is_named_by_its_function(name: str, function: str) -> None:
    """An entry has a function and the changed lines, without the numbers of the mutant or the lines."""
    assert function_of(name) == function
    assert changed_lines(DIFF) == CHANGE.lines


def test_a_survivor_needs_a_reason() -> None:
    """A survivor without an entry, and an entry that is caught, fail the run; both are printed."""
    assert run(("killed", CHANGE), ("timeout", CHANGE)).is_good
    for status in ("survived", "no tests"):
        verdict = run((status, CHANGE))
        assert not verdict.is_good
        printed = Survivors.parse("\n".join(verdict.lines[:-1]).replace('reason = ""', 'reason = "why"'))
        assert printed.changes == {CHANGE: "why"}
        assert run((status, CHANGE), listed=ENTRY).is_good
        assert run((status, CHANGE), listed=ENTRY.partition("changes")[0]).is_good
    assert not run(("killed", CHANGE), listed=ENTRY).is_good
    assert run(("not checked", CHANGE), listed=ENTRY).is_good
    assert not run(("segfault", CHANGE)).is_good


def test_the_share_counts_mutants_that_ran() -> None:
    """Mutants that have not run count neither as caught nor as survivors."""
    mutants = [("killed", CHANGE)] * 3 + [("survived", CHANGE)] + [("not checked", CHANGE)] * 4
    assert run(*mutants).lines[-1].startswith("8 mutants, of which 4 were run: 3 caught (75.0%).")


@pytest.mark.parametrize(
    ("before", "after", "is_of_a_text"),
    [
        ('raise ValueError("no such user")', 'raise ValueError("XXno such userXX")', True),
        ('raise ValueError("No such user")', 'raise ValueError("no such user")', True),
        ('f"{name} is no user"', 'f"XX{name} is no userXX"', True),
        ('FieldError(name, "conflict", "give one of two")', 'FieldError(name, "conflict", None)', True),
        (
            'FieldError(name, "conflict", "give one of two")',
            'FieldError(name, "CONFLICT", "give one of two")',
            False,
        ),
        ('FieldError(name, "conflict", "give one of two")', 'FieldError(name, "conflict", )', False),
        ('header.strip(" \\t")', 'header.strip("XX \\tXX")', False),
        ("return size + 1", "return size - 1", False),
    ],
)
def test_a_text_for_people_may_differ(before: str, after: str, is_of_a_text: bool) -> None:
    """A string of several words is a text for people; tests assert the codes beside it."""
    assert Change("core.take", f"- {before}\n+ {after}").is_of_a_text is is_of_a_text

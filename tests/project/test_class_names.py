"""Each class has a name of its own, so that a name in a log, a review or a search means one thing."""

import ast
from collections import defaultdict
from pathlib import Path

ALLOWED: dict[str, str] = {}
"""Names that several classes may share, each with its reason."""


def classes(source: str) -> list[str]:
    """The names of all classes in a module, including nested ones."""
    return [node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]


def test_no_two_classes_share_a_name(root: Path, project_files: list[Path]) -> None:
    """Outside tests and benchmarks, no two classes have the same name, except those with a reason."""
    modules: defaultdict[str, list[str]] = defaultdict(list)
    for path in project_files:
        module = path.relative_to(root)
        if module.suffix == ".py" and module.parts[0] not in {"tests", "benchmarks"}:
            for name in classes(path.read_text()):
                modules[name].append(str(module))
    shared = {name: where for name, where in modules.items() if len(where) > 1}
    assert {name: where for name, where in shared.items() if name not in ALLOWED} == {}
    assert shared.keys() >= ALLOWED.keys(), "an exception is no longer needed: remove it from ALLOWED"


def test_nested_and_repeated_classes_are_found() -> None:
    """A class inside a function or a class counts, and so does a second one in the same module."""
    source = "class A:\n    class B: ...\ndef f():\n    class A: ...\n"
    assert sorted(classes(source)) == ["A", "A", "B"]

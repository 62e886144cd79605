"""Imports go one way between modules, those for the type checker alone included.

Modules that import each other can only be understood, tested and moved together.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOMS = ("adapters", "benchmarks", "messaging_core", "tests")


def imports_of(source: str, modules: Iterable[str]) -> Iterator[str]:
    """Which of `modules` a module names in its imports, at any depth and under TYPE_CHECKING too.

    `from package import name` counts for the submodule of this name, otherwise for the package.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in modules:
                    yield submodule
                elif node.module in modules:
                    yield node.module


def cycle_in(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The nodes of one cycle, in order and beginning with its smallest; empty if there is none."""
    finished = set[str]()
    for start in sorted(graph):
        path, branches = [start], [iter(sorted(graph[start]))]
        while path and start not in finished:
            following = next(branches[-1], None)
            if following is None:
                finished.add(path.pop())
                branches.pop()
            elif following in path:
                cycle = path[path.index(following) :]
                first = cycle.index(min(cycle))
                return cycle[first:] + cycle[:first]
            elif following not in finished:
                path.append(following)
                branches.append(iter(sorted(graph[following])))
    return []


def test_no_module_imports_itself_through_others(root: Path, project_files: list[Path]) -> None:
    """The graph of all modules' imports has no cycle."""
    modules = dict[str, str]()
    for path in project_files:
        parts = path.relative_to(root).with_suffix("").parts
        if path.suffix == ".py" and parts[0] in ROOMS:
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    graph = {name: set(imports_of(source, modules)) - {name} for name, source in modules.items()}
    assert cycle_in(graph) == []


def test_imports_for_the_type_checker_and_in_functions_count() -> None:
    """Whatever makes one module need another is found."""
    source = (
        "from typing import TYPE_CHECKING\n"
        "import a.b\n"
        "if TYPE_CHECKING:\n    from a import c\n"
        "def f():\n    from a.d import g\n"
    )
    assert set(imports_of(source, {"a", "a.b", "a.c", "a.d", "typing.other"})) == {"a.b", "a.c", "a.d"}


def test_a_cycle_is_found() -> None:
    """A long one, one of two, and none where two ways lead to the same module."""
    assert cycle_in({"a": "b", "b": "c", "c": "d", "d": "b"}) == ["b", "c", "d"]
    assert cycle_in({"a": "b", "b": "a"}) == ["a", "b"]
    assert cycle_in({"a": "bc", "b": "d", "c": "d", "d": ""}) == []

"""The core is pure: no clock, randomness, I/O, async, logging or globals; it depends on attrs alone."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "messaging_core"
MODULES = sorted(path for path in CORE.rglob("*.py") if "testing" not in path.relative_to(CORE).parts)

PURE_STANDARD_LIBRARY = {
    "abc",
    "base64",
    "binascii",
    "bisect",
    "collections",
    "collections.abc",
    "dataclasses",
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "hmac",
    "ipaddress",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "string",
    "types",
    "typing",
    "unicodedata",
}
IMPURE_BUILTINS = {"open", "print", "input", "exec", "eval", "compile", "globals", "__import__", "breakpoint"}
MUTABLE_FACTORIES = {"list", "dict", "set", "bytearray", "defaultdict", "deque", "Counter", "OrderedDict"}
CACHES = {"cache", "lru_cache", "cached_property"}


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every module that `tree` imports, also inside functions, with the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def is_pure(module: str) -> bool:
    """Whether the core may import `module`."""
    return module in PURE_STANDARD_LIBRARY or module.partition(".")[0] in {"attr", "attrs", "messaging_core"}


def is_mutable(value: ast.expr | None) -> bool:
    """Whether an expression creates a mutable value."""
    match value:
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in MUTABLE_FACTORIES
        case _:
            return False


def is_declaration(body: list[ast.stmt]) -> bool:
    """Whether a function has only a docstring and `...`, like the methods of the ports."""
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)


def globals_of(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Mutable values of modules and classes, and functions that assign globals."""
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    scopes += [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for scope in scopes:
        for node in scope.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and is_mutable(node.value):
                yield (
                    node.lineno,
                    f"mutable value {ast.unparse(node)[:60]!r}: use a tuple, frozenset, MappingProxyType",
                )
    for inner in ast.walk(tree):
        if isinstance(inner, ast.Global):
            yield inner.lineno, f"global {', '.join(inner.names)}"


def impurities(source: str) -> list[str]:
    """The violations of the core's purity in a module's source, one finding a line."""
    tree = ast.parse(source)
    found = [(line, f"import of {module}") for line, module in imported(tree) if not is_pure(module)]
    found += globals_of(tree)
    for node in ast.walk(tree):
        match node:
            case ast.AsyncFunctionDef(body=body) if not is_declaration(body):
                found.append((node.lineno, "async"))
            case ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                found.append((node.lineno, "async"))
            case ast.Name(id=name) if name in IMPURE_BUILTINS:
                found.append((node.lineno, f"{name}()"))
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in CACHES:
                found.append((node.lineno, f"{name}: a cache is a global"))
            case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr="now" | "utcnow" | "today"):
                found.append((node.lineno, "the clock"))
            case _:
                pass
    return [f"line {line}: {what}" for line, what in sorted(found)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CORE)))
def test_module_is_pure(path: Path) -> None:
    """No module of the core does I/O, waits, or keeps state between calls."""
    assert impurities(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "import os.path",
        "from random import choice",
        "def f():\n    import trio",
        "import quart",
        "from . import models",
        "async def f(): return 1",
        "def f():\n    async def g(): pass",
        "SEEN = {}",
        "SEEN: dict[str, int] = dict()",
        "class A:\n    seen = []",
        "from collections import defaultdict\nSEEN = defaultdict(int)",
        "def f():\n    global seen\n    seen = 1",
        "from functools import cache\n@cache\ndef f(): ...",
        "from datetime import datetime\nx = datetime.now()",
        "def f(): return open('x')",
    ],
)
def test_impurity_is_found(source: str) -> None:
    """The check finds each kind of impurity."""
    assert impurities(source) != []


def test_purity_is_accepted() -> None:
    """The check accepts the core's style."""
    source = '''
from datetime import datetime
from typing import Protocol
from attrs import frozen
from messaging_core.ids import ChatId
NAMES = frozenset({"a"})
class Port(Protocol):
    async def f(self) -> int:
        """What another implements."""
@frozen
class A:
    at: datetime
def f(a: A) -> dict[str, int]:
    seen = {}
    return seen
'''
    assert impurities(source) == []


WITHOUT_THIRD_PARTIES = """
import importlib, pkgutil, sys

before = set(sys.modules)  # what a measured interpreter starts with is not the core's doing
sys.path.insert(0, sys.argv[1])
ALLOWED = {"attr", "attrs", "messaging_core"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in ALLOWED and top not in sys.stdlib_module_names:
            raise ImportError(f"the core may not import {name}")

sys.meta_path.insert(0, Refuse())
import messaging_core
names = [
    module.name
    for module in pkgutil.walk_packages(messaging_core.__path__, "messaging_core.", onerror=lambda name: None)
    if not module.name.startswith("messaging_core.testing")
]
for name in names:
    importlib.import_module(name)
imported = {name.partition(".")[0] for name in set(sys.modules) - before}
print(len(names), sorted(imported - ALLOWED - set(sys.stdlib_module_names)))
"""


def test_core_needs_attrs_alone() -> None:
    """Every module of the core can be imported if attrs is the only other package."""
    completed = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_THIRD_PARTIES, str(CORE.parent)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert completed.returncode == 0, completed.stderr
    count, foreign = completed.stdout.split(" ", 1)
    assert int(count) == len(MODULES) - 1  # __init__ is the package itself
    assert foreign.strip() == "[]"


@pytest.mark.parametrize(
    ("path", "refused"),
    [("messaging_core/x.py", True), ("messaging_core/testing/x.py", False), ("adapters/runtime/x.py", False)],
)
@pytest.mark.parametrize("module", ["time", "random", "os", "trio", "logging", "asyncio"])
def test_linter_bans_the_world_from_the_core(path: str, refused: bool, module: str) -> None:
    """The linter refuses impure imports in the core, and only there."""
    completed = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--select=TID251", "--stdin-filename", path, "-"],
        cwd=CORE.parent,
        input=f"import {module}\n",
        check=False,
        capture_output=True,
        text=True,
    )
    assert ("TID251" in completed.stdout) is refused, completed.stdout + completed.stderr

"""The imports of the adapters agree with the declared extras."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from adapters.cli.packages import DRIVERS
from adapters.cli.packages import EXTRAS as EXTRAS_OF_COMMANDS

OWN = {"adapters", "messaging_core"}
EXTRAS = ("server", "sql", "postgresql", "nats")


def normalised(name: str) -> str:
    """A distribution's normalised name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_packages(directory: Path) -> set[str]:
    """The top-level names of external packages that modules below `directory` import or read files of."""
    names: set[str] = set()
    for path in directory.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "files":
                names |= {str(name.value) for name in node.args if isinstance(name, ast.Constant)}
    return names - OWN - set(sys.stdlib_module_names)


def test_adapters_declare_what_they_import(root: Path) -> None:
    """Every package that an adapter imports is declared, and every declared one is imported."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    declared = {
        normalised(re.split(r"[^\w.-]", line)[0])
        for line in [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    }
    owners = packages_distributions()
    imported = {normalised(owners[name][0]) for name in imported_packages(root / "adapters")}
    assert imported == declared


def test_named_extras_exist(root: Path) -> None:
    """Each extra that a message or a page names is declared."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    sources = (*root.glob("*.md"), *root.glob("docs/**/*.md"), *(root / "adapters").rglob("*.py"))
    named = re.findall(
        r"pip install '(?:messaging-core|\.)\[([\w,]+)\]'",
        "\n".join(path.read_text(encoding="utf-8") for path in sources),
    )
    named_extras = {extra for names in (*named, *EXTRAS_OF_COMMANDS.values()) for extra in names.split(",")}
    assert named
    assert named_extras | {extra for _, extra in DRIVERS.values()} <= set(project["optional-dependencies"])

"""Texts that the project's files must have, or must not have."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

# The pieces are joined here, so that this file does not contain the forbidden text.
MACHINE_PATH = re.compile(r"(?<![\w.~/:-])/" + r"(?:home|root|work|Users)/[\w.]")
ADDRESS = re.compile(r"https?:/" + r"/(?!127\.0\.0\.1|localhost|\$|\")")
INDEX_OPTION = re.compile(
    r"--(?:extra-)?index-url|--find-links|--trusted-host|--registry|^\s*registry\s*=|\"resolved\""
)
INSTALLERS = [
    "requirements/server.txt",
    "requirements/dev.txt",
    "requirements/bench.txt",
    "benchmarks/peers/node/package.json",
    "benchmarks/peers/node/package-lock.json",
    "benchmarks/peers/node/.npmrc",
    "package.json",
    "package-lock.json",
    ".npmrc",
    "Makefile",
    ".ci/run",
    "scripts/create_venv.sh",
]


@pytest.mark.parametrize("name", INSTALLERS)
def test_installing_names_no_host(root: Path, name: str) -> None:
    """No file names a package registry's host; the machine's configuration selects it."""
    lines = (root / name).read_text(encoding="utf-8").splitlines()
    assert lines
    assert [line for line in lines if ADDRESS.search(line) or INDEX_OPTION.search(line)] == []


@pytest.mark.parametrize("name", [name for name in INSTALLERS if name.startswith("requirements/")])
def test_every_locked_package_has_hashes(root: Path, name: str) -> None:
    """A lock has an exact version and hashes for every package."""
    text = (root / name).read_text(encoding="utf-8")
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[a-z0-9-]+(\[[a-z,]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_locks_agree(root: Path) -> None:
    """dev.txt has all of server.txt, in the same versions, so the tested packages are the served ones."""
    pins = [
        set(
            re.findall(r"^\S+==\S+", (root / "requirements" / name).read_text(encoding="utf-8"), re.MULTILINE)
        )
        for name in ("server.txt", "dev.txt")
    ]
    assert pins[0] < pins[1]


def test_core_depends_on_attrs_alone(root: Path) -> None:
    """The distribution without extras requires attrs alone."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [re.match(r"[a-z-]+", name)[0] for name in project["dependencies"]] == ["attrs"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("see /" + "home/me/notes", True),
        ("cd /" + "work/main", True),
        ("'/" + "root/.ssh'", True),
        ("./" + "work/main", False),
        ("the paths of a/ho" + "me/b", False),
        ("/api/v1/users", False),
    ],
)
def test_a_path_of_a_machine_is_recognised(line: str, found: bool) -> None:
    """The pattern distinguishes a machine's directories from other paths."""
    assert bool(MACHINE_PATH.search(line)) is found


def test_no_file_has_a_path_of_a_machine(project_files: list[Path], root: Path) -> None:
    """No file names a directory of the machine on which it was written."""
    found = [
        f"{path.relative_to(root)}:{number}: {line.strip()[:100]}"
        for path in project_files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_changelog_has_unreleased(root: Path) -> None:
    """The changelog has an "Unreleased" section above every release."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE)[0] == "[Unreleased]"


def test_every_test_states_its_rule(root: Path) -> None:
    """Each test states its rule in a docstring, or in a name that is a sentence."""
    silent = [
        f"{path.relative_to(root)}:{node.lineno}: {node.name}"
        for path in sorted((root / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_") and node.name.count("_") < 4 and not ast.get_docstring(node)
    ]
    assert silent == []

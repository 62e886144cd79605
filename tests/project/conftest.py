"""The project's directory and files."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COLLECTED = pytest.StashKey[list[str]]()
"""The ids of all collected tests, those included that no option selects."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note the tests before a plugin deselects some."""
    config.stash[COLLECTED] = [item.nodeid for item in items]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's directory."""
    return ROOT


@pytest.fixture(scope="session")
def project_files(root: Path) -> list[Path]:
    """Every text file that is under version control, or would be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = [root / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()]

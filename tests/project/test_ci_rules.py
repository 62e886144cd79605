"""In CI, a test that does not run fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOT_RUN = {
    "skipped": "import pytest\ndef test(): pytest.skip('not today')",
    "skipped by mark": "import pytest\n@pytest.mark.skip\ndef test(): pass",
    "expected to fail": "import pytest\n@pytest.mark.xfail\ndef test(): assert False",
    "module skipped": "import pytest\npytest.skip('not here', allow_module_level=True)",
    "module not importable": "import pytest\npytest.importorskip('no_such_module_anywhere')",
}


def run_pytest(directory: Path, source: str, *, ci: str) -> "subprocess.CompletedProcess[str]":
    """Run `source` as a test module with the project's own hooks."""
    (directory / "test_it.py").write_text(source)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "test_it.py",
    ]
    environment = {**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # for speed
    return subprocess.run(
        command, cwd=directory, env=environment, check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize("source", NOT_RUN.values(), ids=NOT_RUN)
def test_a_test_that_does_not_run_fails_in_ci(tmp_path: Path, source: str) -> None:
    """A test that is skipped or expected to fail makes the run fail in CI."""
    completed = run_pytest(tmp_path, source, ci="true")
    assert completed.returncode != 0
    assert "which CI takes for a failure" in completed.stdout


def test_skipping_is_allowed_elsewhere(tmp_path: Path) -> None:
    """Outside CI, a skipped test is skipped."""
    completed = run_pytest(tmp_path, NOT_RUN["skipped"] + "\ndef test_other(): pass", ci="")
    assert completed.returncode == 0, completed.stdout


def test_passing_passes_in_ci(tmp_path: Path) -> None:
    """In CI, a passing test passes."""
    completed = run_pytest(tmp_path, "def test(): pass", ci="true")
    assert completed.returncode == 0, completed.stdout

"""In CI, a test that did not run has failed."""

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
    """Run `source` as a test module under the project's own hooks."""
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
    environment = {**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # our hooks alone: quicker
    return subprocess.run(
        command, cwd=directory, env=environment, check=False, capture_output=True, text=True
    )


@pytest.mark.parametrize("source", NOT_RUN.values(), ids=NOT_RUN)
def test_not_running_is_failing_in_ci(tmp_path: Path, source: str) -> None:
    """A test that skips or is expected to fail makes the run fail in CI."""
    completed = run_pytest(tmp_path, source, ci="true")
    assert completed.returncode != 0
    assert "which CI takes for a failure" in completed.stdout


def test_skipping_is_allowed_elsewhere(tmp_path: Path) -> None:
    """On a developer's machine a skipped test is a skipped test."""
    completed = run_pytest(tmp_path, NOT_RUN["skipped"] + "\ndef test_other(): pass", ci="")
    assert completed.returncode == 0, completed.stdout


def test_passing_passes_in_ci(tmp_path: Path) -> None:
    """A test that passes, passes in CI."""
    completed = run_pytest(tmp_path, "def test(): pass", ci="true")
    assert completed.returncode == 0, completed.stdout

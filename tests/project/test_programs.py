"""Programs that measure or test have a `--help`."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE


@pytest.mark.parametrize(
    "program",
    [["-m", "tests.listener.autobahn"], ["-m", "tests.mutants"], ["-m", "benchmarks.storage"]],
    ids=lambda program: program[-1],
)
def test_help_runs_nothing(root: Path, program: list[str]) -> None:
    """`--help` prints the usage and runs nothing else."""
    command = [sys.executable, *program, "--help"]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage: ")

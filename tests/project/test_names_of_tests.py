"""A test has the same name in every run, so that it can be selected, and runs can be divided."""

import os
import subprocess
import sys
from pathlib import Path


def collect(root: Path, hash_seed: str) -> "subprocess.Popen[str]":
    """The ids of all tests, browser tests included, from a process with its own hash seed."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "", "-p", "no:cacheprovider", "tests"],
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_every_test_keeps_its_id_and_order(root: Path) -> None:
    """No id or order depends on random bytes, the order of a set, or an address in memory."""
    collecting = [collect(root, "1"), collect(root, "2")]
    outputs = [process.communicate()[0] for process in collecting]
    assert [process.returncode for process in collecting] == [0, 0], outputs
    one, other = ([line for line in output.splitlines() if "::" in line] for output in outputs)
    assert f"{Path(__file__).relative_to(root)}::test_every_test_keeps_its_id_and_order" in one
    assert [names for names in zip(one, other, strict=True) if names[0] != names[1]] == []

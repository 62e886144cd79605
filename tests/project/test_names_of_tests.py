"""A test has the same name in every run, so that it can be selected, and runs can be divided."""

import os
import subprocess
import sys

import pytest

from tests.project.conftest import COLLECTED


def test_every_test_keeps_its_id_and_order(request: pytest.FixtureRequest) -> None:
    """No id or order depends on random bytes, the order of a set, or an address in memory.

    A process with another hash seed collects the same tests as this run, browser tests included, and has the
    tests that this run selects in the same order.
    """
    here, selected = request.config.stash[COLLECTED], [item.nodeid for item in request.session.items]
    other_seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    options = ("--collect-only", "-q", "-m", "", "-p", "no:cacheprovider")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *request.config.args],
        cwd=request.config.invocation_params.dir,
        env={**os.environ, "PYTHONHASHSEED": other_seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    there = [line for line in ended.stdout.splitlines() if "::" in line]
    assert request.node.nodeid in selected
    assert sorted(here) == sorted(there)
    in_selection = set(selected)
    assert selected == [node_id for node_id in there if node_id in in_selection]

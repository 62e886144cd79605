"""The documentation of `messaging_core.testing` suffices to use it in another project."""

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from messaging_core import testing
from messaging_core.testing import bus_contract, storage_contract


@pytest.mark.parametrize("contract", [storage_contract, bus_contract])
def test_a_contracts_example_runs(tmp_path: Path, root: Path, contract: ModuleType) -> None:
    """The docstring's module, in a project with the named setting, passes the whole suite."""
    (setting,) = re.findall(r"`(trio_mode = \w+)`", testing.__doc__ or "")
    assert setting in (root / "README.md").read_text(encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{setting}\n")
    example = "\n".join(re.findall(r"^(?:    .*)?$", contract.__doc__ or "", re.MULTILINE))
    (tmp_path / "test_own.py").write_text(dedent(example))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout

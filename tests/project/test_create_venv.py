"""The virtual environment is made where it is asked for, and nowhere else."""

import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", [".venv", ".venv/"])
def test_the_target_of_a_link_is_left_alone(root: Path, tmp_path: Path, name: str) -> None:
    """A symbolic link is refused: to make the environment anew would empty what it points to."""
    kept = tmp_path / "elsewhere" / "kept"
    kept.parent.mkdir()
    kept.write_text("something")
    (tmp_path / ".venv").symlink_to("elsewhere")
    command = ["sh", str(root / "scripts/create_venv.sh"), name]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: .venv is a symbolic link")
    assert kept.read_text() == "something"

"""`scripts/create_venv.sh` creates the virtual environment with a fast Python, and only at the given path."""

import os
import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", [".venv", ".venv/"])
def test_the_target_of_a_link_is_unchanged(root: Path, tmp_path: Path, name: str) -> None:
    """A symbolic link is refused, because creating the environment would empty its target."""
    file = tmp_path / "elsewhere" / "kept"
    file.parent.mkdir()
    file.write_text("something")
    (tmp_path / ".venv").symlink_to("elsewhere")
    command = ["sh", str(root / "scripts/create_venv.sh"), name]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("error: .venv is a symbolic link")
    assert file.read_text() == "something"


def interpreter(path: Path, *, optimized: bool) -> None:
    """A script that stands for an interpreter with or without optimizations."""
    path.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"*enable-optimizations*) exit {0 if optimized else 1} ;;\n"
        '"-m venv"*) echo "made by $0" ;;\n'
        "--version) echo Python ;;\n"
        "esac\n"
    )
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("named", "made_by", "slow"),
    [("", "python3.12", False), ("python3.13", "python3.13", True)],
    ids=["found", "named"],
)
def test_an_optimized_python_is_preferred(
    root: Path, tmp_path: Path, named: str, made_by: str, slow: bool
) -> None:
    """A Python with optimizations is preferred to a newer one without; choosing the latter causes a note."""
    interpreter(tmp_path / "python3.13", optimized=False)
    interpreter(tmp_path / "python3.12", optimized=True)
    interpreter(tmp_path / "python3.11", optimized=True)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["sh", str(root / "scripts/create_venv.sh"), str(tmp_path / ".venv")],
        env={**os.environ, "PATH": path, "PYTHON": named},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    message, creation = ended.stdout.splitlines()
    assert ("without optimizations" in message) is slow
    assert creation == f"made by {tmp_path / made_by}"

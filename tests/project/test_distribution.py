"""The contents of the wheel."""

import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel, built as for a release."""
    directory = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(root)).build(directory=str(directory), versions=["standard"])
    return zipfile.ZipFile(built)


@pytest.mark.parametrize("package", ["messaging_core", "adapters"])
def test_wheel_has_every_file_of_a_package(wheel: zipfile.ZipFile, root: Path, package: str) -> None:
    """Modules, type markers, migrations and static files are in the wheel; caches are not."""
    wanted = {
        str(path.relative_to(root))
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shipped = {name for name in wheel.namelist() if name.startswith(f"{package}/")}
    assert shipped == wanted
    assert f"{package}/py.typed" in shipped


def test_wheel_has_the_migrations(wheel: zipfile.ZipFile) -> None:
    """A server from the wheel can create its tables."""
    assert [name for name in wheel.namelist() if re.match(r"adapters/storage_sql/.*/versions/.+\.py$", name)]


def test_wheel_has_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Tests, scripts and tools are not in the wheel."""
    tops = {name.split("/")[0].split("-")[0] for name in wheel.namelist()}
    assert tops == {"messaging_core", "adapters"}


def test_every_command_and_extra_is_declared(wheel: zipfile.ZipFile, root: Path) -> None:
    """The metadata declares the command `messaging` and the extras."""
    (directory,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{directory}/METADATA").decode()
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in ("server", "sql", "postgresql", "nats"):
        assert f"Provides-Extra: {extra}" in metadata
    assert "License-File: LICENSE" in metadata
    assert f"Version: {project['version']}" in metadata
    assert "messaging = adapters.cli.main:main" in wheel.read(f"{directory}/entry_points.txt").decode()

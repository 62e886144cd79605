"""What others get when they install the distribution."""

import re
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel as it would be released."""
    directory = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(root)).build(directory=str(directory), versions=["standard"])
    return zipfile.ZipFile(built)


@pytest.mark.parametrize("package", ["messaging_core", "adapters"])
def test_wheel_holds_every_file_of_a_package(wheel: zipfile.ZipFile, root: Path, package: str) -> None:
    """Modules, type markers, migrations and static files are shipped; caches are not."""
    wanted = {
        str(path.relative_to(root))
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shipped = {name for name in wheel.namelist() if name.startswith(f"{package}/")}
    assert shipped == wanted
    assert f"{package}/py.typed" in shipped


def test_wheel_holds_the_migrations(wheel: zipfile.ZipFile) -> None:
    """The server that is installed from the wheel can make its tables."""
    assert [name for name in wheel.namelist() if re.match(r"adapters/storage_sql/.*/versions/.+\.py$", name)]


def test_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Tests, scripts and tools stay out of other people's site-packages."""
    tops = {name.split("/")[0].split("-")[0] for name in wheel.namelist()}
    assert tops == {"messaging_core", "adapters"}


def test_every_command_and_extra_is_declared(wheel: zipfile.ZipFile, root: Path) -> None:
    """The metadata offers the command `messaging` and the extras."""
    (directory,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{directory}/METADATA").decode()
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in ("server", "sql", "postgresql", "nats"):
        assert f"Provides-Extra: {extra}" in metadata
    assert "License-File: LICENSE" in metadata
    assert f"Version: {project['version']}" in metadata
    assert "messaging = adapters.cli.main:main" in wheel.read(f"{directory}/entry_points.txt").decode()

"""A PostgreSQL server for one test, which may crash it."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define

from tests.server.fleet import free_fixed_port


@define
class Cluster:
    """A PostgreSQL server, its directory and its port."""

    directory: Path
    port: int

    @property
    def address(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def create(self, settings: Sequence[str]) -> None:
        """Create it with these lines in postgresql.conf, and start it."""
        if os.getuid() == 0:
            shutil.chown(self.directory, "postgres")
        self._run("initdb", "-A", "trust", "-U", "postgres", "--no-instructions")
        own = (f"port={self.port}", "unix_socket_directories=''", "max_connections=300")
        with (self.directory / "data" / "postgresql.conf").open("a") as conf:
            conf.write("\n".join([*own, *settings, ""]))
        self._run("pg_ctl", "start", "-w", "-l", str(self.directory / "log"))

    def restart(self) -> None:
        """Restart it as after a power cut: nothing is finished, and the log is replayed."""
        self._run("pg_ctl", "restart", "-w", "-m", "immediate", "-l", str(self.directory / "log"))

    def follow(self) -> None:
        """Make it a standby, of no server."""
        (self.directory / "data" / "standby.signal").touch()
        self._run("pg_ctl", "restart", "-w", "-l", str(self.directory / "log"))

    def promote(self) -> None:
        """End its time as a standby; it begins a new timeline."""
        self._run("pg_ctl", "promote", "-w")

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-m", "immediate")

    def _run(self, program: str, *arguments: str) -> None:
        command = [path_of(program), "-D", str(self.directory / "data"), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.directory)


def path_of(program: str) -> str:
    """The path of a program; Debian has one for each version, outside of PATH."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    path = str(beside[-1]) if beside else shutil.which(program)
    if path is None:
        pytest.skip(f"these tests need PostgreSQL's own {program} (apt-get install postgresql)")
    return path


@contextmanager
def cluster(*settings: str) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        new = Cluster(Path(directory), free_fixed_port())
        new.create(settings)
        try:
            yield new
        finally:
            new.stop()

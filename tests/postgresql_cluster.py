"""A PostgreSQL server of the tests' own, which may crash."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from attrs import define

from tests.server.fleet import lasting_port


@define
class Cluster:
    """Nobody else uses it."""

    directory: Path
    port: int

    @property
    def address(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def make(self, settings: Sequence[str]) -> None:
        """Have it run with these lines of postgresql.conf."""
        if os.getuid() == 0:
            shutil.chown(self.directory, "postgres")
        self._run("initdb", "-A", "trust", "-U", "postgres", "--no-instructions")
        own = (f"port={self.port}", "unix_socket_directories=''", "max_connections=300")
        with (self.directory / "data" / "postgresql.conf").open("a") as conf:
            conf.write("\n".join([*own, *settings, ""]))
        self._run("pg_ctl", "start", "-w", "-l", str(self.directory / "log"))

    def restart(self) -> None:
        """As a power cut would: nothing is finished, and the log is replayed."""
        self._run("pg_ctl", "restart", "-w", "-m", "immediate", "-l", str(self.directory / "log"))

    def stop(self) -> None:
        self._run("pg_ctl", "stop", "-m", "immediate")

    def _run(self, program: str, *arguments: str) -> None:
        command = [_path(program), "-D", str(self.directory / "data"), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self.directory)


def _path(program: str) -> str:
    """Debian has one for each version, and none in the path."""
    beside = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))
    found = str(beside[-1]) if beside else shutil.which(program)
    if found is None:
        pytest.skip(f"these tests need PostgreSQL's own {program} (apt-get install postgresql)")
    return found


@contextmanager
def cluster(*settings: str) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        made = Cluster(Path(directory), lasting_port())
        made.make(settings)
        try:
            yield made
        finally:
            made.stop()

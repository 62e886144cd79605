"""Whether the names of an SQLite file still lead to what the connections have open.

SQLite goes on after its file was deleted, renamed or replaced: it commits into what no start will find.
"""

import logging
import os
from pathlib import Path
from time import monotonic

from messaging_core.ports import StorageUnavailable

log = logging.getLogger(__name__)

CHECK_EVERY = 0.01
"""Seconds between two looks at the file's name, where commits follow each other: a look takes some 5 us."""
LOOK_EVERY = 0.5
"""Seconds between two looks at all of the names."""
COMPANIONS = ("-wal", "-shm")
"""What SQLite keeps beside the file while it is open, and never replaces: by the end of their names."""

Inode = tuple[int, int]
"""A file itself, whatever its names: its number, and its device."""


class FileWatch:
    """Says whether commits go to the file that the next start will open.

    `name` is what that start will be given, perhaps a symbolic link to `path`, which SQLite has open, and
    `descriptor` too. A further name of the file, such as a backup's hard link, is no trouble. Nor is what was
    renamed and has its name back, unless somebody else has written to it meanwhile.
    """

    def __init__(self, name: Path, path: Path, descriptor: int) -> None:
        self.trouble: str | None = None
        """What has happened to the files, and what to do about it; None while nothing has."""
        self._check_at = 0.0
        self._name = str(name)
        self._path = str(path)
        self._descriptor = descriptor
        self._inode = _inode(os.fstat(descriptor))
        self._companions: dict[str, Inode] = {}
        """Those that have been seen, by their names."""
        self._left: tuple[int, int] | None = None
        """When the file was last written to, and its size, at the beginning of the trouble."""

    def check(self) -> None:
        """Raise `StorageUnavailable` where a commit would be lost, as far as was seen `CHECK_EVERY` ago."""
        if self.trouble is None and (now := monotonic()) >= self._check_at:
            self._check_at = now + CHECK_EVERY
            try:
                found = os.stat(self._name)  # noqa: PTH116 - a Path takes twice as long
            except OSError:
                self.look()
            else:
                if (found.st_ino, found.st_dev) != self._inode:
                    self.look()
        if self.trouble is not None:
            raise StorageUnavailable(self.trouble)

    def look(self) -> None:
        """Look at all of the names; the first to find a change logs it."""
        trouble = self._look()
        if trouble is None and self.trouble is not None:
            if self._left != self._written():
                trouble = self._changed_meanwhile()
            else:
                log.warning("the database file %s has its name back: writes go on", self._name)
        if self.trouble is None and trouble is not None:
            self._left = self._written()
            log.critical("writes are refused, reading goes on: %s", trouble)
        self.trouble = trouble

    def _look(self) -> str | None:
        try:
            open_file = os.fstat(self._descriptor)
            self._inode = _inode(open_file)  # a file system may number its files anew
            found = _found(self._name)
            if found == self._inode:
                return self._look_at_companions()
        except OSError:
            return None  # a directory that may not be read, say: nothing is known, and nothing is lost
        if found is not None:
            happened = "was replaced by another file under the running server"
            advice = "stop the server, and put in its place the file that is to be served; see Restore"
        elif open_file.st_nlink:
            happened = "was renamed or moved under the running server"
            advice = "give it its name back"
        else:
            happened = "was deleted under the running server"
            advice = "do not stop the server before you have rescued what only it still holds"
        process = f"process {os.getpid()} has it open as descriptor {self._descriptor}"
        return f"The database file {self._name} {happened} ({process}): {advice} (docs/deployment.md)."

    def _look_at_companions(self) -> str | None:
        for end in COMPANIONS:
            name = self._path + end
            found = _found(name)
            if found is not None and name not in self._companions:
                self._companions[name] = found
            if found != self._companions.get(name):
                return (
                    f"{name}, which belongs to the database file, was deleted, renamed or replaced under the "
                    "running server: stop the server in an orderly way (SIGTERM), which brings what was "
                    "written into the file, and start it again (docs/deployment.md)."
                )
        return None

    def _changed_meanwhile(self) -> str:
        if self.trouble is not None and self.trouble.endswith(RESTART):
            return self.trouble
        trouble = f"The database file {self._name} has its name back and was changed meanwhile: {RESTART}"
        log.critical("writes are still refused: %s", trouble)
        return trouble

    def _written(self) -> tuple[int, int] | None:
        try:
            open_file = os.fstat(self._descriptor)
        except OSError:
            return None  # a file system that has gone, say
        return open_file.st_mtime_ns, open_file.st_size


RESTART = "restart the server (docs/deployment.md)."


def _inode(found: os.stat_result) -> Inode:
    return found.st_ino, found.st_dev


def _found(name: str) -> Inode | None:
    """What has this name now, if anything has."""
    try:
        return _inode(os.stat(name))  # noqa: PTH116 - as above
    except (FileNotFoundError, NotADirectoryError):
        return None

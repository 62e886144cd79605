"""Checks that the names of an SQLite file still lead to the files that the connections have open, and whole.

SQLite does not notice that its file was deleted, renamed or replaced: it commits into a file that the next
start will not find. Nor does it notice that its file was truncated or overwritten: it commits into the
write-ahead log, whose pages fit no other file.
"""

import logging
import os
from pathlib import Path
from struct import Struct
from time import monotonic

from messaging_core.ports import StorageUnavailable

log = logging.getLogger(__name__)

CHECK_EVERY = 0.01
"""Seconds between two checks of the file's name while commits follow each other: a check takes some 5 us."""
SCAN_EVERY = 0.5
"""Seconds between two checks of all names."""
SIDE_FILES = ("-wal", "-shm")
"""Suffixes of the files that SQLite has beside the database while it is open, and never replaces."""

MAGIC = b"SQLite format 3\x00"
HEADER = Struct(">16s H 6x I I")
"""The magic string, the bytes of a page (1 for 65,536), the number of changes of this page, and the pages of
the file (https://www.sqlite.org/fileformat2.html#the_database_header)."""

Inode = tuple[int, int]
"""Identifies a file whatever its names: inode number and device."""


class FileWatch:
    """Says whether commits go to the file that the next start will open.

    `name` is the name that the next start opens, perhaps a symbolic link to `path`, the file that SQLite and
    `descriptor` have open. A further name of the file, such as a backup's hard link, is no trouble. A file
    that was renamed and has its name back is no trouble either, unless another program has written to it
    meanwhile. A file that was truncated or overwritten stays in trouble.
    """

    def __init__(self, name: Path, path: Path, descriptor: int) -> None:
        self.trouble: str | None = None
        """What happened to the files, and what to do about it; None while all is well."""
        self._check_at = 0.0
        self._name = str(name)
        self._path = str(path)
        self._descriptor = descriptor
        self._inode = _inode(os.fstat(descriptor))
        self._side_files: dict[str, Inode] = {}
        """The inodes of the side files, by name, once they exist."""
        self._mtime_and_size_at_trouble: tuple[int, int] | None = None
        self._size = 0
        self._changes = 0
        """The bytes of the file and the changes of its header, when it was last whole."""
        self._damage: str | None = None

    def check(self) -> None:
        """Raise `StorageUnavailable` if a commit would be lost; the last check is at most `CHECK_EVERY`
        old.
        """
        if self.trouble is None and (now := monotonic()) >= self._check_at:
            self._check_at = now + CHECK_EVERY
            try:
                found = os.stat(self._name)  # noqa: PTH116 - a Path takes twice as long
            except OSError:
                self.scan()
            else:
                if (found.st_ino, found.st_dev) != self._inode or found.st_size < self._size:
                    self.scan()
        if self.trouble is not None:
            raise StorageUnavailable(self.trouble)

    def scan(self) -> None:
        """Check all names; log each change of `trouble` once."""
        trouble = self._find_trouble()
        if trouble is None and self.trouble is not None:
            if self._mtime_and_size_at_trouble != self._mtime_and_size():
                trouble = self._changed_meanwhile()
            else:
                log.warning("the database file %s has its name back: writes go on", self._name)
        if self.trouble is None and trouble is not None:
            self._mtime_and_size_at_trouble = self._mtime_and_size()
            log.critical("writes are refused: %s", trouble)
        self.trouble = trouble

    def _find_trouble(self) -> str | None:
        try:
            open_file = os.fstat(self._descriptor)
            self._inode = _inode(open_file)  # a file system may renumber its inodes
            found = _inode_of(self._name)
            if found == self._inode:
                return self._find_damage(open_file.st_size) or self._find_side_file_trouble()
        except OSError:
            return None  # an unreadable directory, for example: it does not show that anything is lost
        if found is not None:
            happened = "was replaced by another file under the running server"
            advice = "stop the server, and give this name to the file that you want to serve; see Restore"
        elif open_file.st_nlink:
            happened = "was renamed or moved under the running server"
            advice = "give it its name back"
        else:
            happened = "was deleted under the running server"
            advice = "do not stop the server before you have rescued the data, which only it still has"
        process = f"process {os.getpid()} has it open as descriptor {self._descriptor}"
        return f"The database file {self._name} {happened} ({process}): {advice} (docs/deployment.md)."

    def _find_damage(self, size: int) -> str | None:
        """Whether the file was truncated or overwritten in place.

        A VACUUM by another program may shrink the file, too: it counts as a change, and the header has the
        new size by then. A backup has counted fewer changes.
        """
        if self._damage is None:
            header = os.pread(self._descriptor, HEADER.size, 0).ljust(HEADER.size, b"\x00")
            magic, page, changes, pages = HEADER.unpack(header)
            fits = size >= self._size or pages * (65_536 if page == 1 else page) <= size
            if magic == MAGIC and changes >= self._changes and fits:
                self._size, self._changes = size, changes
            else:
                self._damage = (
                    f"The database file {self._name} was truncated or overwritten under the running server: "
                    "stop the server, and restore a backup (docs/deployment.md)."
                )
        return self._damage

    def _find_side_file_trouble(self) -> str | None:
        for suffix in SIDE_FILES:
            name = self._path + suffix
            found = _inode_of(name)
            if found is not None and name not in self._side_files:
                self._side_files[name] = found
            if found != self._side_files.get(name):
                return (
                    f"{name}, which belongs to the database file, was deleted, renamed or replaced under the "
                    "running server: stop the server in an orderly way (SIGTERM), which copies the "
                    "write-ahead log into the file, and start it again (docs/deployment.md)."
                )
        return None

    def _changed_meanwhile(self) -> str:
        if self.trouble is not None and self.trouble.endswith(RESTART):
            return self.trouble
        trouble = f"The database file {self._name} has its name back and was changed meanwhile: {RESTART}"
        log.critical("writes are still refused: %s", trouble)
        return trouble

    def _mtime_and_size(self) -> tuple[int, int] | None:
        try:
            open_file = os.fstat(self._descriptor)
        except OSError:
            return None  # an unmounted file system, for example
        return open_file.st_mtime_ns, open_file.st_size


RESTART = "restart the server (docs/deployment.md)."


def _inode(found: os.stat_result) -> Inode:
    return found.st_ino, found.st_dev


def _inode_of(name: str) -> Inode | None:
    """The file that has this name now, if there is one."""
    try:
        return _inode(os.stat(name))  # noqa: PTH116 - as above
    except (FileNotFoundError, NotADirectoryError):
        return None

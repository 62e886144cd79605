"""An SQLite file: its owner's locks, its checks, and connections to it."""

import fcntl
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from adapters.storage_sql.errors import DatabaseUnusable
from adapters.storage_sql.revision import NEWEST

OLDEST_SQLITE = (3, 33, 0)
"""Released in August 2020; older versions lack features that are used here."""

WRITER_PRAGMAS: Mapping[str, str | int] = {
    # A commit returns once the disk has it, so that acknowledged writes survive a power cut.
    "synchronous": "FULL",
    "foreign_keys": "ON",
    # The event loop begins transactions; where it would have to wait, the thread waits
    # (`writer.LOCK_TIMEOUT`).
    "busy_timeout": 0,
    # The writer checkpoints, between two commits.
    "wal_autocheckpoint": 0,
    # The log shrinks to this size after a burst or a long backup.
    "journal_size_limit": 64 * 1024 * 1024,
    "temp_store": "MEMORY",
    "trusted_schema": "OFF",
}
READER_PRAGMAS: Mapping[str, str | int] = {
    "query_only": "ON",
    # The event loop blocks while this connection waits, which only another program's exclusive lock causes.
    "busy_timeout": 250,
    "temp_store": "MEMORY",
    "trusted_schema": "OFF",
}

_HEADER = b"SQLite format 3\x00"
_LEFT = "left with "
"""How the note in the side file begins that says in what state the file was left."""


class OwnedFile:
    """A file that this process has locked, and its side file, which says in what state an owner left it."""

    def __init__(self, descriptor: int, side: TextIO, left: str) -> None:
        self.descriptor = descriptor
        """Open on the file."""
        self._side = side
        self._left = left

    @property
    def has_changed(self) -> bool:
        """Whether another program wrote to the file after an owner had closed it, and before `accept`."""
        return self._left not in {"", self._state()}

    def accept(self) -> None:
        """The change is dealt with: forget it."""
        self._left = ""
        self._write(f"pid {os.getpid()}")

    def leave(self) -> None:
        """Note the state in which the file is left."""
        self._write(self._left if self.has_changed else self._state())

    def _write(self, text: str) -> None:
        with suppress(OSError):  # without a note, a change in between is not noticed
            self._side.seek(0)
            self._side.truncate()
            self._side.write(text)
            self._side.flush()

    def _state(self) -> str:
        found = os.fstat(self.descriptor)
        return f"{_LEFT}{found.st_size} bytes of {found.st_mtime_ns}"


@contextmanager
def owned(path: Path) -> Iterator[OwnedFile]:
    """Lock the file for this process, under every name of the file.

    Creates a missing file, readable by its owner only; creates no side files next to a file that is not a
    database. One lock is on a side file, which stays and names the owner's process. The other one, on Linux,
    is on the file itself, for processes that open it by a hard link or another mount. The system releases
    both when the process ends, however it ends. Raises `DatabaseUnusable` if another process has the file
    open.
    """
    _refuse_other_files(path)
    side = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(side, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None
    with os.fdopen(descriptor, "r+", encoding="ascii", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = file.readline().strip()
            raise DatabaseUnusable(
                f"The database {path} is in use by another process{owner and f' ({owner})'}. Stop that one, "
                "or name another file: one process owns an SQLite file, and serves all clients."
            ) from None
        except OSError as error:
            raise _unwritable(path, error) from None
        left = next((line for line in file.read().splitlines() if line.startswith(_LEFT)), "")
        file.seek(0)
        file.truncate()
        # The note stays until it is dealt with, in case that this process is killed before.
        file.write(f"pid {os.getpid()}\n{left}")
        file.flush()
        with _open_database(path) as database:
            _lock_inode(path, database)
            found = OwnedFile(database, file, left)
            try:
                yield found
            finally:
                found.leave()


@contextmanager
def _open_database(path: Path) -> Iterator[int]:
    try:
        database = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        yield database
    finally:
        # After SQLite's connections are closed, because this close would release their locks (fcntl(2)).
        os.close(database)


def _lock_inode(path: Path, database: int) -> None:
    if sys.platform != "linux":
        return  # elsewhere this lock and SQLite's own exclude each other
    try:
        fcntl.flock(database, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DatabaseUnusable(
            f"The database {path} is in use by another process under another name: a hard link, or another "
            "mount of its directory. Stop that one, or name another file: under two names SQLite has two "
            "write-ahead logs, which destroy the file."
        ) from None
    except OSError as error:
        raise _unwritable(path, error) from None


def migrate_sqlite(path: Path) -> str | None:
    """Create the file, or upgrade its schema, as opening it does; gives its former revision, if any.

    Raises `DatabaseUnusable`, also while a server has the file open.
    """
    path = path.resolve()
    with owned(path):
        return prepare(path)


def prepare(path: Path) -> str | None:
    """Create a missing file, readable by its owner only, and upgrade the schema.

    Gives the file's former revision, if any. Raises `DatabaseUnusable`.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise DatabaseUnusable(f"SQLite is {sqlite3.sqlite_version} here; {oldest} or newer is needed.")
    with _open_database(path):
        pass
    with explained(path):
        if _has_newest_schema(path):
            return NEWEST
        # Importing it takes a fifth of a server's start, and there is seldom anything to upgrade.
        from adapters.storage_sql.schema import upgrade_sqlite  # noqa: PLC0415

        return upgrade_sqlite(path)


def _refuse_other_files(path: Path) -> None:
    try:
        with path.open("rb") as file:
            header = file.read(len(_HEADER))
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unwritable(path, error) from None
    if header not in {b"", _HEADER}:
        raise DatabaseUnusable(f"{path} is not an SQLite database; name another file.")


def _has_newest_schema(path: Path) -> bool:
    """The first check of an upgrade, without importing what an upgrade needs."""
    with closing(connect_plainly(path)) as connection:
        table = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        if table is None:
            return False
        return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(NEWEST,)]


def connect_plainly(path: Path) -> sqlite3.Connection:
    """Open a connection that leaves the file's journal mode as it is; for short transactions at the start."""
    return _connect(path, "rw", {"busy_timeout": 60_000, "synchronous": "FULL"})


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the writing connection, in WAL mode; raises `DatabaseUnusable`."""
    with explained(path):
        connection = _connect(path, "rw", WRITER_PRAGMAS)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        connection.close()
        raise DatabaseUnusable(
            f"The database {path} cannot have a write-ahead log (its journal mode stays {mode}), as on a "
            "network drive; name a file on a local disk."
        )
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open the reading connection; the writing one must be open. Raises `DatabaseUnusable`."""
    with explained(path):
        connection = _connect(path, "ro", READER_PRAGMAS)
        # SQLite opens the write-ahead log with the first read, so read now, while the log still has its name.
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    return connection


def _connect(path: Path, mode: str, pragmas: Mapping[str, str | int]) -> sqlite3.Connection:
    # The event loop opens the writing connection, and a thread uses it too.
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        cached_statements=256,
        check_same_thread=False,
    )
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}")
    return connection


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise `DatabaseUnusable` for SQLite's errors."""
    try:
        yield
    except sqlite3.Error as error:
        raise DatabaseUnusable(f"The database {path} cannot be used: {error}.") from error


def _unwritable(path: Path, error: OSError) -> DatabaseUnusable:
    if not path.parent.is_dir():
        return DatabaseUnusable(
            f"The directory of the database {path} does not exist; create it (mkdir -p {path.parent}), or "
            "name another file."
        )
    return DatabaseUnusable(
        f"The database {path} cannot be opened for writing ({error.strerror}); its directory must be "
        "writable too."
    )

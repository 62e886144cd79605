"""An SQLite file: whose it is, whether it can be used, and connections to it."""

import fcntl
import os
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from adapters.storage_sql.errors import DatabaseUnusable
from adapters.storage_sql.revision import NEWEST

OLDEST_SQLITE = (3, 31, 0)
"""Of January 2020; older ones lack what is asked of them below."""

WRITER_PRAGMAS: Mapping[str, str | int] = {
    # A commit returns when the disk has it: what was answered is there after a power cut.
    "synchronous": "FULL",
    "foreign_keys": "ON",
    # The event loop begins transactions; where it would have to wait, the thread does (`writer.PATIENCE`).
    "busy_timeout": 0,
    # The writer sees to it, between two commits.
    "wal_autocheckpoint": 0,
    # After a burst, or behind a long backup, the log gives its space back.
    "journal_size_limit": 64 * 1024 * 1024,
    "temp_store": "MEMORY",
    "trusted_schema": "OFF",
}
READER_PRAGMAS: Mapping[str, str | int] = {
    "query_only": "ON",
    # The event loop stands while this connection waits, which takes somebody else's exclusive lock.
    "busy_timeout": 250,
    "temp_store": "MEMORY",
    "trusted_schema": "OFF",
}

_HEADER = b"SQLite format 3\x00"


@contextmanager
def owned(path: Path) -> Iterator[int]:
    """Be the one process that has the file open, under whatever name; gives a descriptor that is open on it.

    Makes the file where there is none, readable by its owner only, and nothing beside a file that is no
    database. One lock lies on a side file, which stays and says whose it is; the other, on Linux, on the file
    itself, for those who reach it by a hard link or another mount. The system takes both away with the
    process, however that ends. Raises `DatabaseUnusable` where another process has the file open.
    """
    _refuse_what_is_no_database(path)
    side = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(side, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None
    with os.fdopen(descriptor, "r+", encoding="ascii", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = file.read().strip()
            raise DatabaseUnusable(
                f"The database {path} is in use by another process{owner and f' ({owner})'}. Stop that one, "
                "or name another file: one process owns an SQLite file, and serves all who come."
            ) from None
        except OSError as error:
            raise _unwritable(path, error) from None
        file.truncate()
        file.write(f"pid {os.getpid()}")
        file.flush()
        with _open_database(path) as database:
            _lock_inode(path, database)
            yield database


@contextmanager
def _open_database(path: Path) -> Iterator[int]:
    try:
        database = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        yield database
    finally:
        # Not before SQLite's connections are closed: it would take their locks away (fcntl(2)).
        os.close(database)


def _lock_inode(path: Path, database: int) -> None:
    if sys.platform != "linux":
        return  # elsewhere this lock and SQLite's own shut each other out
    try:
        fcntl.flock(database, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DatabaseUnusable(
            f"The database {path} is in use by another process under another name: a hard link, or another "
            "mount of its directory. Stop that one, or name another file: under two names SQLite keeps two "
            "write-ahead logs, which destroy the file."
        ) from None
    except OSError as error:
        raise _unwritable(path, error) from None


def migrate_sqlite(path: Path) -> str | None:
    """Make the file, or bring its schema up to date, as opening it would; the revision that it had, if any.

    Raises `DatabaseUnusable`, also while a server has it open.
    """
    path = path.resolve()
    with owned(path):
        return prepare(path)


def prepare(path: Path) -> str | None:
    """Make the file where there is none, readable by its owner only, and bring its schema up to date.

    Gives the revision that it had, if any. Raises `DatabaseUnusable`.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise DatabaseUnusable(f"SQLite is {sqlite3.sqlite_version} here; {oldest} or newer is needed.")
    with _open_database(path):
        pass
    with _explained(path):
        if _has_newest_schema(path):
            return NEWEST
        # It takes a fifth of a server's start to load, and there is seldom anything to upgrade.
        from adapters.storage_sql.schema import upgrade_sqlite  # noqa: PLC0415

        return upgrade_sqlite(path)


def _refuse_what_is_no_database(path: Path) -> None:
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
    """What an upgrade would look at first, without what it takes to upgrade."""
    with closing(_connect(path, "rw", {"busy_timeout": 60_000})) as connection:
        there = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        if there is None:
            return False
        return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(NEWEST,)]


def connect_writer(path: Path) -> sqlite3.Connection:
    """Raises `DatabaseUnusable`."""
    with _explained(path):
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
    """Needs a writer's connection to be open; raises `DatabaseUnusable`."""
    with _explained(path):
        connection = _connect(path, "ro", READER_PRAGMAS)
        # It opens the write-ahead log with its first read: now, while that still has its name.
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    return connection


def _connect(path: Path, mode: str, pragmas: Mapping[str, str | int]) -> sqlite3.Connection:
    # The writer's is made on the event loop and used by one thread.
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
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise DatabaseUnusable(f"The database {path} cannot be used: {error}.") from error


def _unwritable(path: Path, error: OSError) -> DatabaseUnusable:
    if not path.parent.is_dir():
        return DatabaseUnusable(
            f"The directory of the database {path} does not exist; make it (mkdir -p {path.parent}), or name "
            "another file."
        )
    return DatabaseUnusable(
        f"The database {path} cannot be opened for writing ({error.strerror}); its directory must be "
        "writable too."
    )

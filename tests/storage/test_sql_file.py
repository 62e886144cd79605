"""The SQLite file: one owner, the settings that make commits durable, and errors that say what to do."""

import os
import resource
import sqlite3
import stat
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from adapters.storage_sql import DatabaseUnusable, open_sqlite
from adapters.storage_sql.sqlite.storage import SqliteStorage
from messaging_core.effects import StoreUser
from messaging_core.ids import UserId
from messaging_core.models import User
from messaging_core.ports import Storage, Transaction

OPEN = """
import sys, trio
from pathlib import Path
from adapters.storage_sql import DatabaseUnusable, open_sqlite

async def main():
    async with open_sqlite(Path(sys.argv[1])):
        print("open", flush=True)
        sys.stdin.read()

try:
    trio.run(main)
except DatabaseUnusable as error:
    print(error)
"""


def pragmas(connection: sqlite3.Connection, *names: str) -> dict[str, object]:
    return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}


def both(storage: Storage) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    assert isinstance(storage, SqliteStorage)
    return storage._writing, storage._reads._view._connection


def files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def refusal(path: Path) -> str:
    with pytest.raises(DatabaseUnusable) as raised:
        async with open_sqlite(path):
            pass
    return str(raised.value)


async def test_settings(tmp_path: Path) -> None:
    """Commits wait for the disk, foreign keys hold, and the reader cannot write."""
    async with open_sqlite(tmp_path / "test.db") as storage:
        writing, reading = both(storage)
        assert pragmas(
            writing, "journal_mode", "synchronous", "foreign_keys", "busy_timeout", "wal_autocheckpoint"
        ) == {
            "journal_mode": "wal",
            "synchronous": 2,  # FULL
            "foreign_keys": 1,
            "busy_timeout": 0,  # the writer waits in its thread
            "wal_autocheckpoint": 0,  # and checkpoints between commits
        }
        assert pragmas(reading, "query_only", "busy_timeout") == {"query_only": 1, "busy_timeout": 250}
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reading.execute("DELETE FROM users")


async def test_only_the_owner_reads_the_files(tmp_path: Path) -> None:
    """Every created file, side files too, is readable by its owner only."""
    old = os.umask(0)
    try:
        async with open_sqlite(tmp_path / "test.db") as storage:
            await storage.transact(lambda tx: tx.next_user_id())
            modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in files(tmp_path)}
    finally:
        os.umask(old)
    assert modes == dict.fromkeys(("test.db", "test.db-wal", "test.db-shm", "test.db.lock"), 0o600)


def test_one_process_owns_the_file(tmp_path: Path) -> None:
    """A second process is refused with the file's and the owner's name; killing the owner frees the file."""
    path = tmp_path / "test.db"
    (tmp_path / "alias.db").symlink_to(path)
    path.touch()
    (tmp_path / "link.db").hardlink_to(path)  # as of a backup; its existence is no fault

    def opened(name: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path / name)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def output(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    with opened("test.db") as first:
        assert output(first) == "open"
        for name in ("test.db", "alias.db"):
            with opened(name) as second:
                error = output(second)
            assert f"{path} is in use by another process (pid {first.pid})" in error
        with opened("link.db") as second:
            assert "link.db is in use by another process under another name: a hard link" in output(second)
        first.kill()
        first.wait()
    with opened("test.db") as third:
        assert output(third) == "open"
        third.communicate()


async def test_twice_in_one_process(tmp_path: Path) -> None:
    """A second storage in the same process is refused, and the file is free after closing."""
    path = tmp_path / "test.db"
    async with open_sqlite(path):
        assert "is in use" in await refusal(path)
    async with open_sqlite(path):
        pass


async def test_no_such_directory(tmp_path: Path) -> None:
    """A directory that does not exist is named, with the command that makes it."""
    path = tmp_path / "missing" / "test.db"
    assert f"mkdir -p {path.parent}" in await refusal(path)


async def test_not_a_database(tmp_path: Path) -> None:
    """A file of another kind is refused and unchanged."""
    path = tmp_path / "test.db"
    path.write_text("This is not a database, but somebody's novel.")
    assert "is not an SQLite database" in await refusal(path)
    assert path.read_text().startswith("This is not a database")


async def test_damaged(tmp_path: Path) -> None:
    """A database with invalid pages is refused with an explanation."""
    path = tmp_path / "test.db"
    path.write_bytes(b"SQLite format 3\x00" + b"rubbish" * 1000)
    assert f"{path} cannot be used: file is not a database" in await refusal(path)


async def test_a_directory(tmp_path: Path) -> None:
    """The name of a directory is refused with an explanation."""
    assert "Is a directory" in await refusal(tmp_path)


async def test_not_writable() -> None:
    """An unwritable directory is refused with an explanation, before the first attempt to write."""
    message = await refusal(Path("/proc/messaging.db"))
    assert "/proc/messaging.db cannot be opened for writing" in message


async def test_odd_names(tmp_path: Path) -> None:
    """Special characters of URLs are ordinary characters in a file's name."""
    path = tmp_path / "a b?mode=ro&x=%41#ы.db"
    async with open_sqlite(path) as storage:
        await storage.transact(lambda tx: tx.next_user_id())
    assert {each.name for each in files(tmp_path)} == {path.name, f"{path.name}.lock"}


async def test_an_old_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for an SQLite library that is too old names the version."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 7, 17))
    assert "3.33.0 or newer" in await refusal(tmp_path / "test.db")


async def test_a_full_disk_at_the_end(tmp_path: Path) -> None:
    """Closing raises no error; commits stay in the log, where the next start finds them."""
    path = tmp_path / "test.db"
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with open_sqlite(path) as storage:
        for number in range(1, 200):
            await storage.transact(partial(_store_user, number))
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, most))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    async with open_sqlite(path) as storage:
        assert await storage.read(lambda reader: reader.user(UserId(199))) == _user(199)


def _store_user(number: int, tx: Transaction) -> None:
    tx.apply(StoreUser(_user(number), "x" * 500, _user(number).email))


def _user(number: int) -> User:
    created_at = datetime(2026, 1, 1, tzinfo=UTC)
    return User(UserId(number), f"{number}@example.com", "A", f"a{number}", None, created_at)

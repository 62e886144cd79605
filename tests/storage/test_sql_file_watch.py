"""The storage notices that its file was deleted, replaced, truncated …, refuses commits, and logs it once."""

import logging
import os
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trio

from adapters.storage_sql import open_sqlite
from adapters.storage_sql.sqlite.file_watch import CHECK_EVERY
from adapters.storage_sql.sqlite.storage import SqliteStorage
from messaging_core.ids import MessageId
from messaging_core.ports import Reader, Storage, StorageUnavailable
from tests.listener.harness import wait_until
from tests.storage.people import CHAT, prepare, send


def contents(reader: Reader) -> list[str | None]:
    return [message.content for message in reader.messages_after(CHAT, MessageId(0), 100)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directory = tmp_path / "database"
    directory.mkdir()
    return directory / "test.db"


@pytest.fixture
async def storage(path: Path) -> AsyncIterator[Storage]:
    async with open_sqlite(path) as storage:
        await storage.transact(prepare)
        await storage.transact(partial(send, content="before"))
        yield storage


def delete(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def move_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


def replace(path: Path) -> None:
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE t (x)")
    other.replace(path)


def link_and_delete(path: Path) -> None:
    path.with_name("link.db").hardlink_to(path)
    path.unlink()


def delete_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def replace_log(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"")
    other.replace(path.with_name(f"{path.name}-wal"))


def delete_index(path: Path) -> None:
    path.with_name(f"{path.name}-shm").unlink()


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def truncate_in_part(path: Path) -> None:
    os.truncate(path, 2 * 4096)


def in_other_process(program: str, path: Path) -> None:
    """Run a program on the file: if this process closed the file, it would lose its locks."""
    program = f"import os, shutil, sqlite3; path = {str(path)!r}; {program}"
    subprocess.run([sys.executable, "-c", program], check=True)


def overwrite(path: Path) -> None:
    """Copy a backup over the file, which keeps its inode."""
    in_other_process("""sqlite3.connect(path).execute(f"VACUUM INTO '{path}.backup'")""", path)
    in_other_process("shutil.copyfile(path + '.backup', path)", path)


def overwrite_with_text(path: Path) -> None:
    in_other_process("open(path, 'r+').write('text')", path)


HAPPENINGS: dict[Callable[[Path], None], str] = {
    delete: "was deleted under the running server",
    rename: "was renamed or moved under the running server",
    move_directory: "was renamed or moved under the running server",
    link_and_delete: "was renamed or moved under the running server",
    replace: "was replaced by another file under the running server",
    delete_log: "test.db-wal, which belongs to the database file, was deleted",
    replace_log: "test.db-wal, which belongs to the database file, was deleted, renamed or replaced",
    delete_index: "test.db-shm, which belongs to the database file, was deleted",
}

each_happening = pytest.mark.parametrize("happening", HAPPENINGS, ids=lambda happening: happening.__name__)


def critical(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.CRITICAL]


@each_happening
async def test_trouble_is_noticed_without_a_commit(
    storage: Storage, path: Path, caplog: pytest.LogCaptureFixture, happening: Callable[[Path], None]
) -> None:
    """Without a commit, the storage notices the trouble, refuses writes, still reads, and logs one line."""
    assert storage.trouble is None
    happening(path)
    await wait_until(lambda: storage.trouble is not None)
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="docs/deployment"):
            await storage.transact(partial(send, content="meanwhile"))
        assert await storage.read(contents) == ["before"]
    (line,) = critical(caplog)
    assert HAPPENINGS[happening] in line
    assert str(path) in line


@pytest.mark.parametrize(
    "damage", [truncate, truncate_in_part, overwrite, overwrite_with_text], ids=lambda damage: damage.__name__
)
async def test_damage_is_noticed_without_a_commit(
    storage: Storage, path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    """A file that was truncated or overwritten in place is noticed, too; pages that it has lost stay lost."""
    damage(path)
    await wait_until(lambda: storage.trouble is not None)
    for _ in range(3):
        with pytest.raises(StorageUnavailable, match="docs/deployment"):
            await storage.transact(partial(send, content="meanwhile"))
    (line,) = critical(caplog)
    assert f"{path} was truncated or overwritten under the running server" in line


@pytest.mark.parametrize(
    "happening",
    [delete, rename, move_directory, replace, truncate, truncate_in_part],
    ids=lambda one: one.__name__,
)
async def test_the_next_commit_is_refused(
    storage: Storage, path: Path, caplog: pytest.LogCaptureFixture, happening: Callable[[Path], None]
) -> None:
    """A commit checks the file's name, unless another one just has, because it would be lost otherwise."""
    await trio.sleep(CHECK_EVERY)
    happening(path)
    assert storage.trouble is None
    with pytest.raises(StorageUnavailable):
        await storage.transact(partial(send, content="lost"))
    assert len(critical(caplog)) == 1


async def test_a_symbolic_link_that_leads_elsewhere_is_noticed(tmp_path: Path) -> None:
    """The next start would open another file than the one with the commits."""
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "first.db")
    async with open_sqlite(link) as storage:
        await storage.transact(prepare)
        await trio.sleep(CHECK_EVERY)
        link.unlink()
        link.symlink_to(tmp_path / "second.db")
        with pytest.raises(StorageUnavailable, match=r"link\.db was renamed"):
            await storage.transact(partial(send, content="lost"))
        (tmp_path / "second.db").touch()
        await wait_until(lambda: "was replaced" in (storage.trouble or ""))


HARMLESS = [
    "os.link(path, path + '.link')",
    "sqlite3.connect(path).execute('SELECT * FROM users').fetchall()",
    """sqlite3.connect(path).execute(f"VACUUM INTO '{path}.backup'")""",
    "os.unlink(path + '.link')",
    "sqlite3.connect(path).executescript('CREATE TABLE large AS SELECT zeroblob(1000000)')",
    "sqlite3.connect(path).executescript('PRAGMA wal_checkpoint(TRUNCATE)')",
    "sqlite3.connect(path).executescript('DROP TABLE large; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)')",
]


async def test_harmless_actions_are_no_trouble(storage: Storage, path: Path) -> None:
    """A further name of the file, a shell, a backup, a VACUUM and checkpoints cause no trouble."""
    assert isinstance(storage, SqliteStorage)
    sizes = []
    for harmless in HARMLESS:
        await trio.to_thread.run_sync(in_other_process, harmless, path)
        sizes.append(os.stat(path).st_size)  # noqa: PTH116
        storage._watch.scan()
        assert storage.trouble is None, harmless
        await storage.transact(partial(send, content=harmless))
    assert sizes[-2] - sizes[-1] > 900_000
    storage._session.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    storage._watch.scan()
    assert storage.trouble is None


async def test_an_unreadable_directory_is_no_trouble(
    storage: Storage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the check does not show that the file is gone, so commits go on."""
    assert isinstance(storage, SqliteStorage)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("adapters.storage_sql.sqlite.file_watch.os.stat", refuse)
        await storage.transact(partial(send, content="meanwhile"))
    assert storage.trouble is None


async def test_a_truncated_file_stays_in_trouble(storage: Storage, path: Path) -> None:
    """Its old size and header do not bring the lost pages back: only a restart ends the trouble."""
    assert isinstance(storage, SqliteStorage)
    in_other_process("shutil.copyfile(path, path + '.copy')", path)
    truncate(path)
    storage._watch.scan()
    trouble = storage.trouble
    in_other_process("shutil.copyfile(path + '.copy', path)", path)
    storage._watch.scan()
    assert trouble is not None
    assert (trouble in (storage.trouble or "")) or "was changed meanwhile" in (storage.trouble or "")


async def test_a_file_with_its_name_back_is_written_again(
    storage: Storage, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a rename and its reversal, writes go on without a restart."""
    rename(path)
    await wait_until(lambda: storage.trouble is not None)
    path.with_name("moved.db").rename(path)
    await wait_until(lambda: storage.trouble is None)
    await storage.transact(partial(send, content="after"))
    assert await storage.read(contents) == ["before", "after"]
    assert len(critical(caplog)) == 1


async def test_a_file_that_was_changed_meanwhile_is_not_written(
    storage: Storage, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A writer under another name has another write-ahead log, so only a restart sees both."""
    rename(path)
    await wait_until(lambda: storage.trouble is not None)
    with path.with_name("moved.db").open("ab") as file:
        file.write(b"\x00" * 4096)
    path.with_name("moved.db").rename(path)
    await wait_until(lambda: len(critical(caplog)) == 2)
    assert isinstance(storage, SqliteStorage)
    for _ in range(2):
        storage._watch.scan()
        with pytest.raises(StorageUnavailable, match="changed meanwhile"):
            await storage.transact(partial(send, content="after"))
    assert len(critical(caplog)) == 2


@pytest.mark.parametrize("happening", [delete_log, replace_log, delete_index], ids=lambda one: one.__name__)
async def test_an_orderly_end_saves_a_deleted_log(path: Path, happening: Callable[[Path], None]) -> None:
    """As the log line promises, closing copies the whole log into the file, and the next start finds it."""
    async with open_sqlite(path) as storage:
        await storage.transact(prepare)
        for number in range(20):
            await storage.transact(partial(send, content=str(number)))
        happening(path)
        await wait_until(lambda: storage.trouble is not None)
    async with open_sqlite(path) as storage:
        assert await storage.read(contents) == [str(n) for n in range(20)]

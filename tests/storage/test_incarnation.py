"""The log's incarnation stays with its file or database; a copy draws another one, and lifts the counters."""

import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
import trio
from psycopg import sql

from adapters.storage_sql import DatabaseUnusable, incarnations, migrate_sqlite, open_sqlite
from adapters.storage_sql.incarnations import PER_SECOND, STEP, lift
from adapters.storage_sql.postgresql import storage as postgresql_storage
from adapters.storage_sql.postgresql.schema import upgrade_postgresql
from adapters.storage_sql.postgresql.storage import open_postgresql
from adapters.storage_sql.rows import KINDS
from adapters.storage_sql.sqlite import incarnation as of_files
from messaging_core.ports import Storage, StorageUnavailable, Transaction
from tests.patience import PATIENCE
from tests.postgresql import address_of, break_all, connect, new_database
from tests.postgresql_cluster import cluster, path_of

NAME = f"messaging_test_incarnation_{os.getpid()}"


def draw(tx: Transaction) -> list[int]:
    """Draw an identifier of each kind; a change, so that the counters are stored."""
    return [tx.next_user_id(), tx.next_session_id(), tx.next_chat_id(), tx.next_message_id()]


async def found_in(storage: Storage) -> tuple[str, list[int]]:
    """The incarnation, and the next identifiers."""
    return storage.incarnation, await storage.transact(draw)


async def open_file(path: Path) -> tuple[str, list[int]]:
    async with open_sqlite(path) as storage:
        return await found_in(storage)


async def open_database(address: str) -> tuple[str, list[int]]:
    with trio.fail_after(PATIENCE):
        async with open_postgresql(address) as storage:
            return await found_in(storage)


# --- the numbers --------------------------------------------------------------------------------------------


def test_each_restore_continues_from_other_numbers() -> None:
    """Restoring one backup again and again repeats no identifier, nor do wrong clocks."""
    now = 1_800_000_000.0
    first = lift(500, now)
    drawn_in_an_hour = first + 3_600 * PER_SECOND
    assert lift(500, now + 3_600) >= drawn_in_an_hour
    assert lift(drawn_in_an_hour, 0.0) == drawn_in_an_hour + STEP
    in_a_thousand_years = lift(first, now + 1_000 * 366 * 86_400)
    assert in_a_thousand_years < 2**53


# --- SQLite -------------------------------------------------------------------------------------------------


def stay(path: Path) -> Path:
    return path


def move(path: Path) -> Path:
    moved = path.with_name("moved.db")
    path.rename(moved)
    return moved


def link(path: Path) -> Path:
    path.with_name("link.db").hardlink_to(path)
    return path


def migrate(path: Path) -> Path:
    migrate_sqlite(path)
    return path


def lose_the_lock_file(path: Path) -> Path:
    path.with_name("test.db.lock").unlink()
    return path


def be_killed(path: Path) -> Path:
    """Leave the lock file as a killed server does, and change the file as its recovery would."""
    path.with_name("test.db.lock").write_text("pid 7\n")
    os.utime(path)
    return path


def read_by_another_program(path: Path) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("SELECT count(*) FROM users").fetchall()
    return path


@pytest.mark.parametrize(
    "happen", [stay, move, link, migrate, lose_the_lock_file, be_killed, read_by_another_program]
)
async def test_a_file_keeps_its_incarnation(tmp_path: Path, happen: Callable[[Path], Path]) -> None:
    """The file keeps it when it is moved, migrated or read, and identifiers go on without a gap."""
    path = tmp_path / "test.db"
    name, drawn = await open_file(path)
    path = happen(path)
    assert await open_file(path) == (name, [number + 1 for number in drawn])


def copied(path: Path) -> Path:
    return Path(shutil.copy2(path, path.with_name("copy.db")))


def vacuumed(path: Path) -> Path:
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM INTO ?", [str(copy)])
    return copy


def restored(path: Path) -> Path:
    """A new file gets the inode number of the deleted one, in many file systems."""
    backup = vacuumed(path)
    path.unlink()
    shutil.copy2(backup, path)
    return path


def overwritten_by_a_backup(path: Path) -> Path:
    """The inode stays, and no note says how the file was left."""
    backup = vacuumed(path)
    path.with_name("test.db.lock").unlink()
    path.write_bytes(backup.read_bytes())
    return path


def overwritten_by_a_copy(path: Path) -> Path:
    """The inode stays, and the copy has all bytes of the original."""
    path.write_bytes(copied(path).read_bytes())
    return path


def overwritten_and_migrated(path: Path) -> Path:
    """As before; a migration in between is no opening."""
    overwritten_by_a_copy(path)
    migrate_sqlite(path)
    return path


def declared_restored(path: Path) -> Path:
    """The page's command, for what nothing can notice, such as a restored volume."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM incarnations")
    path.with_name("test.db.lock").unlink()
    return path


@pytest.mark.parametrize(
    ("happen", "reason"),
    [
        (copied, "this file is a copy"),
        (vacuumed, "this file is a copy"),
        (restored, "this file is a copy|VACUUM"),
        (overwritten_by_a_backup, "VACUUM INTO"),
        (overwritten_by_a_copy, "another program has written"),
        (overwritten_and_migrated, "another program has written"),
        (declared_restored, "it had none"),
    ],
)
async def test_a_restored_file_gets_another_incarnation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, happen: Callable[[Path], Path], reason: str
) -> None:
    """However a copy came into its place, its counters are lifted once, and one line of the log says why."""
    name, drawn = await open_file(tmp_path / "test.db")
    assert [each for each in caplog.records if each.name == incarnations.__name__] == []
    path = happen(tmp_path / "test.db")
    first, lifted = await open_file(path)
    assert first != name
    assert all(new > old + STEP for new, old in zip(lifted, drawn, strict=True))
    (line,) = [each for each in caplog.records if each.name == incarnations.__name__]
    assert line.levelno == logging.WARNING
    assert first in line.getMessage()
    assert any(part in line.getMessage() for part in reason.split("|"))
    assert await open_file(path) == (first, [number + 1 for number in lifted])


async def test_kinds_without_a_counter_are_lifted_too(tmp_path: Path) -> None:
    """A chat's identifier that was drawn after a backup without chats is not drawn again."""
    path = tmp_path / "test.db"
    async with open_sqlite(path) as storage:
        await storage.transact(lambda tx: tx.next_user_id())
    _, lifted = await open_file(copied(path))
    assert min(lifted) > STEP


async def test_a_file_system_without_generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the device distinguishes files; another number of it counts as another file."""
    path = tmp_path / "test.db"
    monkeypatch.setattr(of_files, "_GENERATION", 0)  # a request that the kernel refuses
    name, drawn = await open_file(path)
    assert await open_file(path) == (name, [number + 1 for number in drawn])
    with closing(sqlite3.connect(path)) as connection:
        (bound_to,) = connection.execute("SELECT bound_to FROM incarnations").fetchone()
    assert bound_to == f"inode {path.stat().st_ino}, device {path.stat().st_dev}"
    monkeypatch.setattr(sys, "platform", "other")
    assert (await open_file(path))[0] == name


# --- PostgreSQL ---------------------------------------------------------------------------------------------


@contextmanager
def database_with_tables() -> Iterator[str]:
    with new_database(NAME) as address, new_database(f"{NAME}_copy"):
        upgrade_postgresql(address)
        yield address


def dump(*arguments: str) -> str:
    command = [path_of("pg_dump"), f"--dbname={address_of(NAME)}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def load(name: str, text: str) -> str:
    command = ["psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", f"--dbname={address_of(name)}"]
    subprocess.run(command, check=True, input=text, text=True, stdout=subprocess.DEVNULL)
    return address_of(name)


def restored_elsewhere() -> str:
    return load(f"{NAME}_copy", dump())


def restored_in_place() -> str:
    return load(NAME, dump("--clean", "--if-exists"))


def restored_rows_in_place() -> str:
    rows = dump("--data-only", "--table=incarnations")
    return load(NAME, f"TRUNCATE incarnations;\n{rows}")


def copied_by_the_server() -> str:
    with connect() as server:
        server.execute(f'DROP DATABASE "{NAME}_copy"')
        server.execute(f'CREATE DATABASE "{NAME}_copy" TEMPLATE "{NAME}"')
    return address_of(f"{NAME}_copy")


@pytest.mark.parametrize(
    "restore", [restored_elsewhere, restored_in_place, restored_rows_in_place, copied_by_the_server]
)
async def test_a_restored_database_gets_another_incarnation(
    caplog: pytest.LogCaptureFixture, restore: Callable[[], str]
) -> None:
    """A database keeps it at each opening; a copy draws its own, lifts the counters once, and says why."""
    with database_with_tables() as address:
        name, drawn = await open_database(address)
        upgrade_postgresql(address)
        with connect(address) as connection:
            connection.execute("VACUUM (FULL, FREEZE) incarnations")
        drawn = [number + 1 for number in drawn]
        assert await open_database(address) == (name, drawn)
        assert [each for each in caplog.records if each.name == incarnations.__name__] == []
        copy = restore()
        first, lifted = await open_database(copy)
        assert first != name
        assert all(new > old + STEP for new, old in zip(lifted, drawn, strict=True))
        (line,) = [each for each in caplog.records if each.name == incarnations.__name__]
        assert "copy or a successor" in line.getMessage()
        assert await open_database(copy) == (first, [number + 1 for number in lifted])


OPEN = """
import sys, trio
from adapters.storage_sql.postgresql.storage import open_postgresql

async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    async with open_postgresql(sys.argv[1]) as storage:
        print(storage.incarnation, await storage.transact(lambda tx: tx.next_user_id()))

trio.run(main)
"""


async def test_processes_that_open_at_once_agree() -> None:
    """Of several processes that open a restored database, one draws the incarnation, and lifts once."""
    root = Path(__file__).parents[2]
    with database_with_tables() as address:
        await open_database(address)
        copy = copied_by_the_server()
        processes = [
            subprocess.Popen(  # noqa: ASYNC220 - threads write to it and read from it
                [sys.executable, "-c", OPEN, copy],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=root,
                env={"PYTHONPATH": str(root)},
            )
            for _ in range(3)
        ]
        for process in processes:
            assert process.stdout is not None
            assert await trio.to_thread.run_sync(process.stdout.readline) == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        said = [(await trio.to_thread.run_sync(process.communicate))[0].split() for process in processes]
        assert len({name for name, _ in said}) == 1
        drawn = sorted(int(number) for _, number in said)
        assert drawn == list(range(drawn[0], drawn[0] + 3))
        with connect(copy) as connection:
            assert connection.execute("SELECT count(*) FROM incarnations").fetchall() == [(2,)]


@pytest.mark.parametrize("ends_connections", [True, False])
async def test_a_process_notices_that_its_database_was_restored(
    monkeypatch: pytest.MonkeyPatch, *, ends_connections: bool
) -> None:
    """From the next connection or comparison on every call is refused, and `replaced` says what happened."""
    monkeypatch.setattr(postgresql_storage, "COMPARE_EVERY", PATIENCE if ends_connections else 0.01)
    said: list[str] = []
    with database_with_tables() as address, trio.fail_after(PATIENCE):
        async with open_postgresql(address) as storage, trio.open_nursery() as nursery:

            async def wait() -> None:
                said.append(await storage.replaced())

            nursery.start_soon(wait)
            await storage.transact(draw)
            assert storage.trouble is None
            restored_rows_in_place()
            if ends_connections:
                break_all(address)
                with pytest.raises(StorageUnavailable, match="restored"):
                    await storage.transact(draw)
        assert said == [storage.trouble]
        async with open_postgresql(address) as storage:
            assert storage.trouble is None


async def test_a_database_without_the_table_is_unavailable() -> None:
    """While a restore has not created the tables yet, a reconnecting process refuses and draws nothing."""
    with database_with_tables() as address, trio.fail_after(PATIENCE):
        async with open_postgresql(address) as storage:
            await storage.transact(draw)
            with connect(address) as connection:
                connection.execute("ALTER TABLE incarnations RENAME TO elsewhere")
            break_all(address)
            with pytest.raises(StorageUnavailable, match="incarnations"):
                await storage.transact(draw)
            with connect(address) as connection:
                connection.execute("ALTER TABLE elsewhere RENAME TO incarnations")
            await storage.transact(draw)
            assert storage.trouble is None


async def test_a_role_that_may_not_see_the_system() -> None:
    """Without the right to call `pg_control_system`, timeline, database and transaction decide."""
    with database_with_tables() as address, connect(address) as connection:
        role = sql.Identifier(f"{NAME}_role")
        connection.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(role))
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'pw'").format(role))
        try:
            for what in ("ALL TABLES", "ALL SEQUENCES"):
                grant = sql.SQL("GRANT ALL ON {} IN SCHEMA public TO {}").format(sql.SQL(what), role)
                connection.execute(grant)
            limited = psycopg.conninfo.make_conninfo(address, user=f"{NAME}_role", password="pw")
            name, drawn = await open_database(limited)
            assert await open_database(limited) == (name, [number + 1 for number in drawn])
            (bound_to,) = connection.execute("SELECT bound_to FROM incarnations").fetchone() or ("",)
            assert bound_to.startswith("system unknown, timeline 1, database ")
        finally:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))


async def test_a_promoted_standby_gets_another_incarnation() -> None:
    """A failover may lose the last commits, so a new timeline is a new incarnation; a standby draws none."""
    with cluster() as server:
        upgrade_postgresql(server.address)
        any_server = f"{server.address}?target_session_attrs=any"
        server.follow()
        with pytest.raises(DatabaseUnusable, match="standby"):
            await open_database(any_server)
        server.promote()
        name, drawn = await open_database(server.address)
        server.follow()
        async with open_postgresql(any_server) as storage:
            assert storage.incarnation == name
        server.promote()
        first, lifted = await open_database(server.address)
        assert first != name
        assert len(lifted) == len(KINDS)
        assert min(lifted) > max(drawn) + STEP
        with connect(server.address) as connection:
            found = connection.execute("SELECT bound_to FROM incarnations ORDER BY number").fetchall()
        assert [bound_to.split(", ")[1] for (bound_to,) in found] == ["timeline 2", "timeline 3"]

"""The schema that the revisions create, and the upgrade of a database to it."""

import logging
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect

from adapters.storage_sql import NEWEST, DatabaseUnusable, open_sqlite
from adapters.storage_sql.schema import upgrade_sqlite
from adapters.storage_sql.tables import metadata
from tests.storage.large_0008 import check_large, fill_large
from tests.storage.older_schema import upgrades_stop_at
from tests.storage.schema_0002 import MESSAGES, check_0002, fill_0002
from tests.storage.schema_0003 import check_0003, fill_0003
from tests.storage.schema_0007 import check_0007, fill_0007
from tests.storage.schema_0008 import check_0008, fill_0008


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


def schema_of(engine: Engine) -> dict[str, object]:
    """The parts that `compare_metadata` ignores: constraints, and tables without row numbers."""
    found = inspect(engine)
    names = set(found.get_table_names()) - {"alembic_version"}
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master").fetchall()
    texts: dict[str, str] = dict(tuple(row) for row in rows)
    return {
        name: (
            sorted((each["name"], each["sqltext"]) for each in found.get_check_constraints(name)),
            sorted((each["name"], *each["constrained_columns"]) for each in found.get_foreign_keys(name)),
            sorted((each["name"], *each["column_names"]) for each in found.get_unique_constraints(name)),
            found.get_pk_constraint(name),
            "WITHOUT ROWID" in texts[name],
        )
        for name in names
    }


def test_revisions_create_the_tables(path: Path) -> None:
    """An upgraded database has the tables, columns, indexes and constraints of `tables`, and no others."""
    upgrade_sqlite(path)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    expected = create_engine("sqlite://")
    metadata.create_all(expected)
    assert schema_of(engine) == schema_of(expected)
    engine.dispose()
    expected.dispose()


def test_the_newest_revision_is_the_last_one() -> None:
    """`NEWEST`, which is compared without loading Alembic, is Alembic's head."""
    config = Config()
    config.set_main_option("script_location", "adapters.storage_sql:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [NEWEST]


def test_stored_responses_survive_their_new_layouts(path: Path) -> None:
    """The upgrade from the first tables loses no Idempotency-Key, and the oldest response comes first."""
    _make(path, "0001")
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = [(7, "POST", "/x", f"key{n}", b"f", 201, b'{"id":%d}' % n, 100 - n) for n in range(3)]
        connection.executemany("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    upgrade_sqlite(path)
    with closing(sqlite3.connect(path)) as connection:
        stored = connection.execute("SELECT * FROM stored_responses ORDER BY id").fetchall()
    assert [row[1:] for row in stored] == [
        (*row[:6], "message", number, row[-1]) for number, row in reversed([*enumerate(rows)])
    ]


async def test_stored_responses_name_the_resource_of_their_body(path: Path) -> None:
    """The upgrade of responses with bodies loses none: each is replayed until it expires."""
    _make(path, "0003")
    with closing(sqlite3.connect(path)) as connection, connection:
        fill_0003(connection.executemany, "?")
    async with open_sqlite(path) as storage:
        await check_0003(storage)


async def test_each_account_is_found_by_its_e_mail(path: Path) -> None:
    """The upgrade from e-mails in lower case locks no account out, and distinguishes none by case alone."""
    _make(path, "0007")
    with closing(sqlite3.connect(path)) as connection, connection:
        fill_0007(connection.executemany, "?")
    async with open_sqlite(path) as storage:
        await check_0007(storage)


async def test_members_become_founders(path: Path) -> None:
    """The upgrade gives everybody a range of their whole chat, which can end, and begin anew."""
    _make(path, "0008")
    with closing(sqlite3.connect(path)) as connection, connection:
        fill_0008(connection.executemany, "?")
    async with open_sqlite(path) as storage:
        await check_0008(storage)


async def test_a_large_database_is_upgraded(path: Path) -> None:
    """The upgrade numbers 100,000 messages of many chats, and rebuilds no table of theirs."""
    _make(path, "0008")
    roots = (
        "SELECT name, rootpage FROM sqlite_master WHERE name IN ('chats', 'members', 'messages', 'events')"
    )
    with closing(sqlite3.connect(path)) as connection, connection:
        fill_large(connection.execute)
        before = connection.execute(roots).fetchall()
    async with open_sqlite(path) as storage:
        await check_large(storage)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(roots).fetchall() == before


async def test_creations_move_to_their_messages(path: Path) -> None:
    """The upgrade moves creations from the log to the messages, and changes no chat's log."""
    _make_0002(path)
    async with open_sqlite(path) as storage:
        await check_0002(storage)


def test_a_message_without_its_creation_stops_the_upgrade(path: Path) -> None:
    """The upgrade guesses nothing, and leaves such a database unchanged."""
    _make_0002(path, "DELETE FROM events WHERE message_id = 4")
    with pytest.raises(sqlite3.IntegrityError, match="sequence"):
        upgrade_sqlite(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM messages").fetchall() == MESSAGES
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0002",)]


def test_messages_out_of_order_stop_the_upgrade(path: Path) -> None:
    """If the log's order differs from the history's, the upgrade leaves the database unchanged."""
    _make_0002(path, "UPDATE events SET message_id = 4 - message_id WHERE message_id IN (1, 3)")
    before = path.read_bytes()
    with pytest.raises(DatabaseUnusable, match=r"test\.db cannot be upgraded: .* chat 1's log message 3 "):
        upgrade_sqlite(path)
    assert path.read_bytes() == before


def _make(path: Path, revision: str) -> None:
    with upgrades_stop_at(revision):
        upgrade_sqlite(path)


def _make_0002(path: Path, *changes: str) -> None:
    """Create a file of revision 0002, and then run these statements."""
    _make(path, "0002")
    with closing(sqlite3.connect(path)) as connection, connection:
        fill_0002(connection.executemany, "?")
        for change in changes:
            connection.execute(change)


def test_upgrading_is_safe_to_repeat(path: Path) -> None:
    """A second upgrade changes nothing."""
    upgrade_sqlite(path)
    before = path.read_bytes()
    upgrade_sqlite(path)
    assert path.read_bytes() == before


def test_concurrent_upgrades(path: Path) -> None:
    """Of concurrent upgrades, one upgrades, and the others find nothing to do."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            upgrade_sqlite(path)
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_upgrading_is_quiet(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An upgrade prints nothing, and leaves the configuration of logging unchanged."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, logging.root.manager.disable)
    upgrade_sqlite(path)
    assert (list(root.handlers), root.level, logging.root.manager.disable) == before
    assert not logging.getLogger("adapters").disabled
    assert capfd.readouterr() == ("", "")


def test_a_failed_upgrade_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revision that fails half-way is rolled back with its tables."""
    create_table = op.create_table

    def fail(name: str, *args: object, **options: object) -> object:
        if name == "messages":
            raise RuntimeError("a failing revision")
        return create_table(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(op, "create_table", fail)
    with pytest.raises(RuntimeError):
        upgrade_sqlite(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()


def test_an_upgrade_that_breaks_references_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Foreign keys are off during revisions; a row with an invalid reference rolls all of them back."""
    run = command.upgrade

    def run_and_break(config: Config, revision: str) -> None:
        run(config, revision)
        config.attributes["connection"].exec_driver_sql("INSERT INTO password_hashes VALUES (7, 'hash')")

    monkeypatch.setattr(command, "upgrade", run_and_break)
    with pytest.raises(DatabaseUnusable, match="password_hashes"):
        upgrade_sqlite(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()


async def test_opening_upgrades(path: Path) -> None:
    """Opening a database without a schema upgrades it to the newest."""
    sqlite3.connect(path).close()
    async with open_sqlite(path) as storage:
        assert await storage.transact(lambda tx: tx.next_user_id()) == 1


async def test_a_newer_schema(path: Path) -> None:
    """A schema of a later version is refused with advice, and unchanged."""
    async with open_sqlite(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(DatabaseUnusable, match=r"schema 9999.*newer version.*backup"):
        async with open_sqlite(path):
            pass


async def test_tables_of_another_program(path: Path) -> None:
    """Opening refuses the database of another program."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    with pytest.raises(DatabaseUnusable, match=r"another program.*bookmarks"):
        async with open_sqlite(path):
            pass

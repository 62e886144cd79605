"""Checks a database's schema, and upgrades it to the newest revision."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, inspect
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError

from adapters.storage_sql.errors import DatabaseUnusable
from adapters.storage_sql.revision import NEWEST

if TYPE_CHECKING:
    from alembic.config import Config

VERSION_TABLE = "alembic_version"


def upgrade_sqlite(path: Path) -> str | None:
    """Upgrade the SQLite database in a file: `upgrade_with`. Raises `sqlite3.Error`."""
    engine = create_engine(URL.create("sqlite", database=str(path)), poolclass=NullPool)
    event.listen(engine, "connect", _take_over_transactions)
    event.listen(engine, "begin", _begin_immediate)
    try:
        return upgrade_with(engine, name=str(path))
    except DatabaseError as error:
        raise error.orig or error from error


def upgrade_with(engine: Engine, *, name: str) -> str | None:
    """Upgrade a database to the newest schema, completely or not at all; gives its former revision, if any.

    Safe to repeat, and to run concurrently: the second upgrade waits, and finds nothing to do. Disposes of
    the engine. Raises `DatabaseUnusable` for a schema that is newer than this code, or another program's.
    """
    try:
        with engine.begin() as connection:
            return _upgrade(connection, name=name)
    finally:
        engine.dispose()


def check_schema(found: str | None, *, name: str, command: str) -> None:
    """Raise `DatabaseUnusable` unless the database has the newest schema; the message names `command`."""
    if found == NEWEST:
        return
    if found is None:
        raise DatabaseUnusable(f"The database {name} has no tables yet. Create them: {command}")
    _refuse_unknown((found,), _revisions_known(), name)
    raise DatabaseUnusable(
        f"The database {name} has the schema {found}, and this version needs {NEWEST}. Upgrade it: {command}"
    )


def _upgrade(connection: Connection, *, name: str) -> str | None:
    found = _revisions(connection)
    if found != (NEWEST,):
        # Importing it takes a sixth of a server's start, and there is seldom anything to upgrade.
        from alembic import command  # noqa: PLC0415

        _refuse_unknown(found, _revisions_known(), name)
        _refuse_others(connection, found, name)
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if connection.dialect.name == "sqlite":
            _check_references(connection, name)
    return ", ".join(found) or None


def _check_references(connection: Connection, name: str) -> None:
    # Foreign keys were off during the revisions, so check the references now, before the commit.
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise DatabaseUnusable(
            f"The database {name} cannot be upgraded: {len(broken)} rows would refer to rows that do not "
            f"exist, the first in the table {broken[0][0]}; nothing was changed."
        )


def _config() -> "Config":
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "adapters.storage_sql:migrations")
    return config


def _revisions_known() -> set[str]:
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _revisions(connection: Connection) -> tuple[str, ...]:
    if not inspect(connection).has_table(VERSION_TABLE):
        return ()
    return tuple(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars())


def _refuse_unknown(found: tuple[str, ...], known: set[str], name: str) -> None:
    unknown = sorted(set(found) - known)
    if unknown:
        raise DatabaseUnusable(
            f"The database {name} has the schema {', '.join(unknown)}, which this version does not know (it "
            f"knows {NEWEST} and older): it was upgraded by a newer version. Install that version or a later "
            "one, or restore a backup from before the upgrade."
        )


def _refuse_others(connection: Connection, found: tuple[str, ...], name: str) -> None:
    tables = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
    if not found and tables:
        other = "file" if connection.dialect.name == "sqlite" else "database"
        raise DatabaseUnusable(
            f"The database {name} has tables of another program ({min(tables)} …); name another {other}."
        )


def _take_over_transactions(connection: Any, _record: Any) -> None:
    """Prevent Python's driver from beginning transactions by itself, and late.

    Foreign keys must be off before a transaction begins: with them on, Alembic's rebuilding of a table would
    drop the rows that refer to it.
    """
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA busy_timeout = 60000")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")

"""The schema of a database, and how it is brought to what this code knows."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, NullPool, create_engine, event, inspect
from sqlalchemy.engine import URL, make_url

from adapters.storage_sql.errors import DatabaseUnusable

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

VERSION_TABLE = "alembic_version"
NEWEST = "0002"
"""The last revision in `migrations/versions`."""


def upgrade(url: str | URL) -> None:
    """Bring the database at an SQLAlchemy URL to the newest schema, all of it or nothing.

    Safe to repeat, and to run at the same time as another: the second waits, and finds nothing to do.
    Raises `DatabaseUnusable` for a schema that is newer than this code, or not ours.
    """
    engine = create_engine(url, poolclass=NullPool)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _take_over_transactions)
        event.listen(engine, "begin", _begin_immediate)
    try:
        with engine.begin() as connection:
            _upgrade(connection, name=make_url(url).database or str(url))
    finally:
        engine.dispose()


def _upgrade(connection: Connection, *, name: str) -> None:
    found = _revisions(connection)
    if found == (NEWEST,):
        return
    # It takes a sixth of a server's start to import, and there is seldom anything to upgrade.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "adapters.storage_sql:migrations")
    config.attributes["connection"] = connection
    known = ScriptDirectory.from_config(config)
    _check(connection, found, known, name)
    command.upgrade(config, "head")
    if connection.dialect.name == "sqlite":
        # Foreign keys were off: what a revision may have broken is found here, before the commit.
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if broken:
            raise DatabaseUnusable(
                f"The database {name} cannot be upgraded: {len(broken)} rows would refer to rows that do not "
                f"exist, the first in the table {broken[0][0]}; nothing was changed."
            )


def _revisions(connection: Connection) -> tuple[str, ...]:
    if not inspect(connection).has_table(VERSION_TABLE):
        return ()
    return tuple(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalars())


def _check(connection: Connection, found: tuple[str, ...], known: "ScriptDirectory", name: str) -> None:
    revisions = {script.revision for script in known.walk_revisions()}
    unknown = sorted(set(found) - revisions)
    if unknown:
        raise DatabaseUnusable(
            f"The database {name} has the schema {', '.join(unknown)}, which this version does not know (it "
            f"knows {known.get_current_head()} and older): it was upgraded by a newer version. Install that "
            "version or a later one, or restore a backup that was made before."
        )
    tables = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
    if not found and tables:
        raise DatabaseUnusable(
            f"The database {name} holds tables of something else ({min(tables)} …); name another file."
        )


def _take_over_transactions(connection: Any, _record: Any) -> None:
    """Keep Python's driver from beginning transactions by itself, and late.

    Foreign keys must be off before a transaction begins: with them on, Alembic's way of rebuilding a table
    would drop it, and everything that refers to it.
    """
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA busy_timeout = 60000")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")

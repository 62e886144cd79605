"""The schema of a PostgreSQL database: a command upgrades it, and servers check it."""

import threading
from pathlib import Path

import attrs
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from adapters.storage_sql import NEWEST, DatabaseUnusable
from adapters.storage_sql.postgresql.config import PostgresqlConfig, secrets_of, without_secrets
from adapters.storage_sql.postgresql.schema import upgrade_postgresql
from adapters.storage_sql.postgresql.storage import open_postgresql
from adapters.storage_sql.postgresql.transaction import postgresql_statements
from adapters.storage_sql.rows import KINDS
from adapters.storage_sql.tables import metadata
from tests.postgresql import SERVER, connect, new_database
from tests.storage.large_0008 import check_large, fill_large
from tests.storage.older_schema import upgrades_stop_at
from tests.storage.schema_0002 import check_0002, fill_0002
from tests.storage.schema_0003 import check_0003, fill_0003
from tests.storage.schema_0007 import check_0007, fill_0007
from tests.storage.schema_0008 import check_0008, fill_0008

NAME = "messaging_test_schema"


async def refusal(address: str) -> str:
    with pytest.raises(DatabaseUnusable) as raised:
        async with open_postgresql(address, PostgresqlConfig(database_connect_time=2)):
            pass
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_revisions_create_the_tables(postgresql_tables: str) -> None:
    """An upgraded database has the tables, columns, indexes and constraints of `tables`, and no others."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(postgresql_tables))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        differences = compare_metadata(context, metadata)
        # PostgreSQL draws identifiers from sequences, SQLite from a table.
        assert [(what, getattr(thing, "name", thing)) for what, thing, *_ in differences] == [
            ("add_table", "sequences")
        ]
    engine.dispose()
    with connect(postgresql_tables) as connection_:
        found = connection_.execute(
            "SELECT sequencename, cache_size FROM pg_sequences WHERE sequencename LIKE '%\\_ids' ORDER BY 1"
        ).fetchall()
    assert found == sorted((f"{kind}_ids", 1) for kind in KINDS)


async def test_servers_do_not_upgrade(tmp_path: Path) -> None:
    """An empty, an old and a newer schema are refused, with the command that helps, which can be repeated."""
    with new_database(NAME) as address:
        message = await refusal(address)
        assert "no tables yet" in message
        assert f"messaging migrate --database '{address}'" in message
        assert upgrade_postgresql(address) is None
        assert upgrade_postgresql(address) == NEWEST
        async with open_postgresql(address) as storage:
            assert await storage.transact(lambda tx: tx.next_user_id()) == 1
        with connect(address) as connection:
            connection.execute("UPDATE alembic_version SET version_num = '0001'")
            message = await refusal(address)
            assert "schema 0001" in message
            assert "messaging migrate" in message
            connection.execute("UPDATE alembic_version SET version_num = '9999'")
        assert "newer version" in await refusal(address)
        with pytest.raises(DatabaseUnusable, match="newer version"):
            upgrade_postgresql(address)


async def test_creations_move_to_their_messages() -> None:
    """The upgrade moves creations from the log to the messages, and changes no chat's log."""
    with new_database(NAME) as address:
        _upgrade_to(address, "0002")
        with connect(address) as connection, connection.cursor() as cursor:
            fill_0002(cursor.executemany, "%s")
        assert upgrade_postgresql(address) == "0002"
        async with open_postgresql(address) as storage:
            await check_0002(storage)


async def test_stored_responses_name_the_resource_of_their_body() -> None:
    """The upgrade of responses with bodies loses none: each is replayed until it expires."""
    with new_database(NAME) as address:
        _upgrade_to(address, "0003")
        with connect(address) as connection, connection.cursor() as cursor:
            fill_0003(cursor.executemany, "%s")
        assert upgrade_postgresql(address) == "0003"
        async with open_postgresql(address) as storage:
            await check_0003(storage)


async def test_each_account_is_found_by_its_e_mail() -> None:
    """The upgrade from e-mails in lower case locks no account out, and distinguishes none by case alone."""
    with new_database(NAME) as address:
        _upgrade_to(address, "0007")
        with connect(address) as connection, connection.cursor() as cursor:
            fill_0007(cursor.executemany, "%s")
        assert upgrade_postgresql(address) == "0007"
        async with open_postgresql(address) as storage:
            await check_0007(storage)


async def test_members_become_founders() -> None:
    """The upgrade gives everybody a range of their whole chat, which can end, and begin anew."""
    with new_database(NAME) as address:
        _upgrade_to(address, "0008")
        with connect(address) as connection, connection.cursor() as cursor:
            fill_0008(cursor.executemany, "%s")
        assert upgrade_postgresql(address) == "0008"
        async with open_postgresql(address) as storage:
            await check_0008(storage)


async def test_a_large_database_is_upgraded() -> None:
    """The upgrade numbers 100,000 messages of many chats."""
    with new_database(NAME) as address:
        _upgrade_to(address, "0008")
        with connect(address) as connection:
            fill_large(connection.execute)
        assert upgrade_postgresql(address) == "0008"
        async with open_postgresql(address) as storage:
            await check_large(storage)


def _upgrade_to(address: str, revision: str) -> None:
    with upgrades_stop_at(revision):
        upgrade_postgresql(address)


def test_concurrent_upgrades() -> None:
    """Of concurrent upgrades, one upgrades, and the others find nothing to do."""
    found: list[str | None] = []
    with new_database(NAME) as address:
        threads = [
            threading.Thread(target=lambda: found.append(upgrade_postgresql(address))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(map(str, found)) == [NEWEST] * 3 + ["None"]


def test_tables_of_another_program() -> None:
    """The upgrade refuses the database of another program."""
    with new_database(NAME) as address:
        with connect(address) as connection:
            connection.execute("CREATE TABLE bookmarks (url TEXT)")
        with pytest.raises(DatabaseUnusable, match=r"bookmarks.*another database"):
            upgrade_postgresql(address)


async def test_an_encoding_other_than_utf_8() -> None:
    """A database that is not in UTF-8 is refused before the first write."""
    options = "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    with new_database(NAME, options=options) as address:
        assert "SQL_ASCII" in await refusal(address)
        with pytest.raises(DatabaseUnusable, match="UTF8"):
            upgrade_postgresql(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://u:s3cret@127.0.0.1:1/x", "refused"),
        (f"{SERVER.rstrip('/')}/no_such_database", "no_such_database"),
        ("postgresql://no_such_role:s3cret@127.0.0.1/postgres", "no_such_role"),
        ("postgresql://u:s3cret@no-such-host.invalid/x", "no-such-host.invalid"),
        ("postgresql://u:s3cr%et@127.0.0.1/x", "escaped"),
        ("postgresql://u:s3cr/et@127.0.0.1/x", "cannot be used"),
        ("postgresql://127.0.0.1/x?password=s3cret&port=zz", "port"),
        ("postgresql://127.0.0.1/x?pass=word", "pass"),
    ],
)
async def test_an_unusable_address(address: str, expected: str) -> None:
    """The error is one line that says what is wrong, without a password."""
    message = await refusal(address)
    assert expected in message
    assert "s3c" not in message


def test_passwords_are_not_shown() -> None:
    """A password is hidden anywhere in an address, in any spelling."""
    for address, shown in {
        "postgresql://u:p@h:1/n?a=b": "postgresql://u:***@h:1/n?a=b",
        "postgresql://u:p@ss@h/n": "postgresql://u:***@h/n",
        "postgresql://h/n?user=u&password=p&sslpassword=q": "postgresql://h/n?user=u&password=***&sslpassword=***",
        "postgresql:///n": "postgresql:///n",
        "sqlite:///a.db": "sqlite:///a.db",
    }.items():
        assert without_secrets(address) == shown
    assert secrets_of("postgresql://u:a%20b@h/?password=c") == {"a%20b", "a b", "c"}


SMALL = {"forget_responses", "forget_sessions", "sequences", "store_sequence"}
"""Statements that select old rows, for which PostgreSQL has several plans, and those of SQLite only."""


@pytest.mark.parametrize("name", sorted(set(attrs.asdict(postgresql_statements()[0])) - SMALL))
def test_plans(postgresql: str, name: str) -> None:
    """No statement scans a table or sorts a history: each finds its rows by an index."""
    sql = getattr(postgresql_statements()[0], name)
    with connect(postgresql) as connection:
        # PostgreSQL would rightly scan tables as small as these.
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET enable_bitmapscan = off")
        count = sql.count("%s")
        connection.execute("SET plan_cache_mode = force_generic_plan")
        text = sql
        for number in range(1, count + 1):
            text = text.replace("%s", f"${number}", 1)
        connection.execute(f"PREPARE it AS {text}")
        arguments = f"({', '.join(['NULL'] * count)})" if count else ""
        plan = [row[0] for row in connection.execute(f"EXPLAIN EXECUTE it{arguments}").fetchall()]
    assert not [step for step in plan if "Seq Scan" in step], plan
    if name in {"messages_before", "messages_after", "last_message_number", "next_message_number", "log"}:
        assert not [step for step in plan if "Sort  (" in step], plan

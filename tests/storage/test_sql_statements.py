"""The cost of the statements: each finds its rows by an index, however large the tables are."""

from pathlib import Path

import attrs
import pytest
from sqlalchemy import bindparam, select
from sqlalchemy.dialects import sqlite

from adapters.storage_sql.core_statements import text_of
from adapters.storage_sql.sqlite.dialect import compiled
from adapters.storage_sql.sqlite.file import connect_writer, prepare
from adapters.storage_sql.sqlite.storage import sqlite_statements
from adapters.storage_sql.tables import users

STATEMENTS = attrs.asdict(sqlite_statements())


def test_statements_sql_is_up_to_date() -> None:
    """The file `statements.sql` equals what SQLAlchemy compiles; if not, run `make statements`."""
    assert sqlite_statements() == compiled()


@pytest.mark.parametrize("name", sorted(set(STATEMENTS) - {"sequences"}))
def test_plans(tmp_path: Path, name: str) -> None:
    """No statement scans a table or sorts, except for `sequences`, two pages of `log`, and the few admins."""
    path = tmp_path / "test.db"
    prepare(path)
    connection = connect_writer(path)
    sql = STATEMENTS[name]
    rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?")).fetchall()
    connection.close()
    plan = [detail for *_, detail in rows]
    # The numbers in one parameter are a virtual table, which is scanned on purpose; others have a few rows.
    small = {"VIRTUAL TABLE", "CONSTANT ROW", "created", "others", "found"}
    scans = [step for step in plan if step.startswith("SCAN")]
    assert not [step for step in scans if not any(each in step for each in small)], plan
    assert name in {"log", "ranked_members"} or not [step for step in plan if "TEMP B-TREE" in step], plan


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("messages_before", "ix_messages_chat_id_sequence (chat_id=? AND sequence>? AND sequence<?)"),
        ("messages_after", "ix_messages_chat_id_sequence (chat_id=? AND sequence>?)"),
        ("message_numbers", "PRIMARY KEY (rowid=?)"),
        ("last_message_number", "COVERING INDEX ix_messages_chat_id_sequence (chat_id=?)"),
        ("next_message_number", "COVERING INDEX ix_messages_chat_id_sequence (chat_id=? AND sequence>?)"),
        ("log", "ix_messages_chat_id_sequence (chat_id=? AND sequence>?)"),
        ("log", "PRIMARY KEY (chat_id=? AND sequence>?)"),
        ("shares_chat", "COVERING INDEX ix_members_user_id_chat_id (user_id=?)"),
        ("shares_chat", "COVERING INDEX ix_members_user_id_chat_id (user_id=? AND chat_id=?)"),
        ("chat_ids_of", "COVERING INDEX ix_members_user_id_chat_id (user_id=? AND chat_id>?)"),
        ("chats_of", "COVERING INDEX ix_members_user_id_chat_id (user_id=? AND chat_id>?)"),
        ("chats_shared", "ix_members_user_id_chat_id (user_id=? AND chat_id=?)"),
        ("chats_made_by", "COVERING INDEX ix_members_user_id_chat_id (user_id=?)"),
        ("ranked_members", "ix_members_chat_id_role (chat_id=?)"),
        ("first_members", "PRIMARY KEY (chat_id=?)"),
    ],
)
def test_pages_cost_the_page(tmp_path: Path, name: str, index: str) -> None:
    """A page is found by both its chat and its anchor, without reading the rest of the history."""
    path = tmp_path / "test.db"
    prepare(path)
    connection = connect_writer(path)
    sql = STATEMENTS[name]
    plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", (1,) * sql.count("?")).fetchall()
    connection.close()
    assert any(index in detail for *_, detail in plan), plan


def test_parameters_must_be_in_the_declared_order() -> None:
    """A statement whose parameters come in another order than declared does not compile."""
    dialect = sqlite.dialect(paramstyle="qmark")
    statement = select(users.c.id).where(users.c.email == bindparam("a"), users.c.tag == bindparam("b"))
    assert text_of(statement, dialect, "a", "b").count("?") == 2
    with pytest.raises(ValueError, match="not"):
        text_of(statement, dialect, "b", "a")


def test_constants_are_part_of_the_text() -> None:
    """A parameter that Core generates becomes a constant of the text, not a parameter of the caller."""
    statement = select(users.c.id).limit(bindparam("count"))
    assert "LIMIT ? OFFSET 0" in text_of(statement, sqlite.dialect(paramstyle="qmark"), "count")

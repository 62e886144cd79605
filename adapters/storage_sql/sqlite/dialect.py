"""The statements in SQLite's dialect, compiled into `statements.sql` by `make statements`.

A server reads that file, and loads SQLAlchemy only to upgrade a schema: compiling at start, and importing
the compiler, would take a quarter of the start's time.
"""

from typing import Any

from sqlalchemy import ColumnElement, Insert, Table, bindparam, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement

from adapters.storage_sql.core_statements import compile_statements
from adapters.storage_sql.sqlite.storage import TEXT
from adapters.storage_sql.statements import Statements, write_statements


def compiled() -> Statements:
    """Compile every statement for SQLite."""
    dialect = sqlite.dialect(paramstyle="qmark")
    return compile_statements(dialect, among=_among, upsert=_upsert, replace=_replace, greater=func.max)


def _among(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    # One JSON array holds any number of values, so the statement is prepared once.
    return column.in_(select(func.json_each(bindparam(name)).table_valued("value").c.value))


def _upsert(table: Table) -> ClauseElement:
    statement = sqlite.insert(table)
    key = list(table.primary_key)
    rest = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=key, set_=rest)


def _replace(table: Table) -> Insert:
    return sqlite.insert(table).prefix_with("OR REPLACE")


if __name__ == "__main__":
    TEXT.write_text(write_statements(compiled()), encoding="utf-8")

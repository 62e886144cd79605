"""The storage in SQL: an SQLite file owned by one process."""

from adapters.storage_sql.errors import DatabaseUnusable
from adapters.storage_sql.schema import upgrade
from adapters.storage_sql.sqlite import open_sqlite

__all__ = ["DatabaseUnusable", "open_sqlite", "upgrade"]

"""The storage in SQL: an SQLite file owned by one process, or a PostgreSQL database shared by many.

This package does not import the modules that load PostgreSQL's driver or SQLAlchemy: `postgresql.storage`,
`postgresql.schema`, `schema`.
"""

from adapters.storage_sql.errors import DatabaseUnusable, InvalidAddress
from adapters.storage_sql.revision import NEWEST
from adapters.storage_sql.sqlite.file import migrate_sqlite
from adapters.storage_sql.sqlite.storage import open_sqlite

__all__ = ["NEWEST", "DatabaseUnusable", "InvalidAddress", "migrate_sqlite", "open_sqlite"]

"""The storage in SQL: an SQLite file owned by one process, or a PostgreSQL database shared by many.

Modules that load PostgreSQL's driver are imported by who needs them: `postgresql`, `postgresql_schema`.
"""

from adapters.storage_sql.errors import DatabaseUnusable
from adapters.storage_sql.schema import NEWEST, upgrade
from adapters.storage_sql.sqlite import open_sqlite
from adapters.storage_sql.sqlite_file import migrate_sqlite

__all__ = ["NEWEST", "DatabaseUnusable", "migrate_sqlite", "open_sqlite", "upgrade"]

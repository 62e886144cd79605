"""The storage in SQL: an SQLite file owned by one process, or a PostgreSQL database shared by many.

Modules that load PostgreSQL's driver or SQLAlchemy are imported by who needs them: `postgresql`,
`postgresql_schema`, `schema`.
"""

from adapters.storage_sql.errors import AddressWrong, DatabaseUnusable
from adapters.storage_sql.revision import NEWEST
from adapters.storage_sql.sqlite.file import migrate_sqlite
from adapters.storage_sql.sqlite.storage import open_sqlite

__all__ = ["NEWEST", "AddressWrong", "DatabaseUnusable", "migrate_sqlite", "open_sqlite"]

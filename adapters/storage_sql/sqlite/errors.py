"""Which errors of SQLite are the machine's, and what a caller receives for them."""

import sqlite3

from messaging_core.ports import StorageUnavailable

_UNAVAILABLE = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    }
)


def is_unavailable(error: BaseException) -> bool:
    """Whether SQLite failed for reasons of the machine; a wrong statement or a violated rule is a defect."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.Error) and code is not None and code & 0xFF in _UNAVAILABLE


def error_for_caller(error: BaseException) -> BaseException:
    """`StorageUnavailable` where the machine failed; any other error as it is."""
    if not is_unavailable(error):
        return error
    unavailable = StorageUnavailable(f"SQLite: {error}")
    unavailable.__cause__ = error
    return unavailable

"""Binds the incarnation of the log to an SQLite file, so that a copy of the file gets another one."""

import fcntl
import os
import sqlite3
import struct
import sys
from contextlib import closing
from pathlib import Path
from time import time

from adapters.storage_sql.incarnations import draw_name, lift, report
from adapters.storage_sql.rows import KINDS
from adapters.storage_sql.sqlite.file import OwnedFile, connect_plainly, explained

_GENERATION = 0x7601 | struct.calcsize("l") << 16 | 2 << 30
"""Linux's FS_IOC_GETVERSION, from linux/fs.h: reads a number that a file system draws for each new file."""


def bind_incarnation(path: Path, file: OwnedFile) -> str:
    """The incarnation of the database's log; draws a new one if this is not the file that has it.

    In the same transaction it lifts the counters of identifiers. Call it before the file's journal mode is
    changed. Raises `DatabaseUnusable`.
    """
    with explained(path), closing(connect_plainly(path)) as connection:
        number, name, bound_to = connection.execute(
            "SELECT number, name, bound_to FROM incarnations ORDER BY number DESC LIMIT 1"
        ).fetchone() or (0, None, None)
        here = _identity(file.descriptor)
        reason = _reason_to_draw(connection, file, bound_to, here)
        if reason is None:
            file.accept()
            return str(name)
        name, now = draw_name(), time()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO incarnations VALUES (?, ?, ?, ?)", (number + 1, name, here, int(now)))
        counters = dict(connection.execute("SELECT kind, last FROM sequences").fetchall())
        is_new = number == 0 and not counters
        if not is_new:
            connection.executemany(
                "INSERT INTO sequences VALUES (?, ?) ON CONFLICT (kind) DO UPDATE SET last = excluded.last",
                [(kind, lift(counters.get(kind, 0), now)) for kind in KINDS],
            )
        connection.execute("COMMIT")
    file.accept()
    if not is_new:
        report(str(path), name, reason)
    return name


def _reason_to_draw(
    connection: sqlite3.Connection, file: OwnedFile, bound_to: str | None, here: str
) -> str | None:
    if bound_to is None:
        return "it had none"
    if bound_to != here:
        return f"this file is a copy: it is {here}, and the copied one was {bound_to}"
    # A copy may have been written into the same file.
    if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        # The server's file has a write-ahead log from its first opening on.
        return "the file was made by SQLite, by VACUUM INTO, say"
    if file.has_changed:
        return "another program has written to the file since the last server closed it"
    return None


def _identity(descriptor: int) -> str:
    """Distinguishes the file from every other, also from a later one with the same inode number.

    File systems give the number of a deleted file to the next one. Where they have no generation, the device
    distinguishes files of several file systems.
    """
    found = os.fstat(descriptor)
    generation = _generation(descriptor)
    distinction = f"generation {generation}" if generation else f"device {found.st_dev}"
    return f"inode {found.st_ino}, {distinction}"


def _generation(descriptor: int) -> int | None:
    if sys.platform != "linux":
        return None
    try:
        read = fcntl.ioctl(descriptor, _GENERATION, bytes(struct.calcsize("l")))
    except OSError:
        return None
    return int.from_bytes(read[:4], sys.byteorder)

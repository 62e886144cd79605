"""Binds the incarnation of the log to a server's timeline and a database, so that a restored one differs."""

from collections.abc import Callable
from time import time

from attrs import evolve, frozen
from psycopg import errors, sql

from adapters.storage_sql.errors import DatabaseUnusable
from adapters.storage_sql.incarnations import draw_name, lift, report
from adapters.storage_sql.postgresql.server import PsycopgConnection
from adapters.storage_sql.rows import KINDS
from messaging_core.ports import StorageUnavailable

INCARNATION_LOCK = 0x6D65_7373_6167_696F
"""The key of the advisory lock under which one of several processes draws an incarnation."""

_SYSTEM = "(SELECT system_identifier::text FROM pg_control_system())"
_FIND = """SELECT {system}, CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_lsn()) END,
(SELECT oid FROM pg_database WHERE datname = current_database()), number, name, bound_to, xmin::text
FROM (SELECT) AS here LEFT JOIN
(SELECT *, xmin FROM incarnations ORDER BY number DESC LIMIT 1) AS newest ON true"""
_DRAW = "INSERT INTO incarnations VALUES (%s, %s, %s || pg_current_xact_id()::xid::text, %s)"


@frozen
class _Found:
    here: str | None
    """Where the database is; None on a standby, which has no timeline of its own yet."""
    number: int
    name: str
    """Empty if there is none."""
    bound_to: str
    written_by: str | None
    """The transaction that wrote the row. Another one did so in a restored dump."""

    @property
    def is_bound(self) -> bool:
        """Whether the incarnation is that of the database it is in."""
        is_here = self.here is None or self.bound_to == f"{self.here}{self.written_by}"
        return bool(self.name) and is_here


class Incarnation:
    """The incarnation of the log that this process has opened; used from several threads."""

    def __init__(self) -> None:
        self.name = ""
        self.trouble: str | None = None
        """What happened, once the database has another incarnation."""
        self.notify: Callable[[], object] = lambda: None
        """Called when there is `trouble`, perhaps by several threads."""
        self._find_it = _FIND.format(system=_SYSTEM)

    def bind(self, connection: PsycopgConnection, *, database: str) -> None:
        """Take the database's incarnation; draw a new one if its last one belongs to another database.

        In the same transaction it lifts the counters of identifiers. Several processes at once agree on one.
        Raises `DatabaseUnusable` on a standby without one.
        """
        if not _may_see_system(connection):
            self._find_it = _FIND.format(system="'unknown'")
        found = self._find(connection)
        if not found.is_bound:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", [INCARNATION_LOCK])
                found = self._find(connection)  # another process may have drawn one
                if not found.is_bound:
                    found = _draw(connection, found, database)
        self.name = found.name

    def check(self, connection: PsycopgConnection) -> None:
        """Raise `StorageUnavailable` if the database of a new connection has another incarnation."""
        self.refuse_if_replaced()
        try:
            found = self._find(connection)
        except errors.ProgrammingError as error:  # a restore is under way: the table does not exist yet
            raise StorageUnavailable(f"PostgreSQL: {error.diag.message_primary}") from error
        if found.name != self.name or not found.is_bound:
            self.trouble = (
                "The database was restored, or another server has taken its place: the log has another "
                "incarnation, so this process ends (docs/deployment.md)."
            )
            self.notify()
        self.refuse_if_replaced()

    def refuse_if_replaced(self) -> None:
        """Raise `StorageUnavailable` once a check has found another incarnation."""
        if self.trouble is not None:
            raise StorageUnavailable(self.trouble)

    def _find(self, connection: PsycopgConnection) -> _Found:
        ((system, log_file, database, number, name, bound_to, written_by),) = connection.execute(
            self._find_it
        ).fetchall()
        here = None
        if log_file is not None:
            # The name of the file begins with the number of the timeline.
            here = f"system {system}, timeline {int(log_file[:8], 16)}, database {database}, transaction "
        return _Found(here, number or 0, name or "", bound_to or "", written_by)


def _may_see_system(connection: PsycopgConnection) -> bool:
    """Whether the role may call `pg_control_system`, as every role may unless somebody has revoked it."""
    may = "SELECT has_function_privilege(to_regprocedure('pg_control_system()'), 'EXECUTE')"
    return connection.execute(may).fetchall() == [(True,)]


def _draw(connection: PsycopgConnection, found: _Found, database: str) -> _Found:
    if found.here is None:
        raise DatabaseUnusable(f"The database {database} is a standby, and its log has no incarnation yet.")
    name, now = draw_name(), time()
    counters = {kind: _last(connection, kind) for kind in KINDS}
    is_new = found.number == 0 and not any(counters.values())
    if not is_new:
        # A rollback does not undo this, and need not.
        for kind, last in counters.items():
            connection.execute("SELECT setval(%s, %s)", [f"{kind}_ids", lift(last, now)])
        reason = "it had none"
        if found.bound_to:
            here = f"{found.here}{found.written_by}"
            reason = f"the database is a copy or a successor: it is {here}, and was {found.bound_to}"
        report(database, name, reason)
    connection.execute(_DRAW, [found.number + 1, name, found.here, int(now)])
    return evolve(found, name=name)


def _last(connection: PsycopgConnection, kind: str) -> int:
    of_kind = sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(f"{kind}_ids"))
    ((last, is_called),) = connection.execute(of_kind).fetchall()
    return int(last) if is_called else 0

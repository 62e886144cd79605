"""A PostgreSQL server: whether it can be used, connections to it, and what its errors mean."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper

from adapters.storage_sql.errors import AddressWrong, DatabaseUnusable
from adapters.storage_sql.postgresql.config import PostgresqlConfig, secrets_of, without_secrets
from messaging_core.ports import StorageUnavailable

OLDEST_POSTGRESQL = 15
"""Of October 2022; the oldest that the tests run against."""
TRY_AGAIN_AFTER = 0.5
"""Seconds for which a server that could not be reached is not asked again: callers are told at once."""

Connection = psycopg.Connection[Any]

DEFAULTS = {
    "application_name": "messaging",
    "client_encoding": "UTF8",
    # After a failover: the server that may be written to, of those in the address.
    "target_session_attrs": "read-write",
    # A peer that is gone without a word is noticed while nothing is asked (30 + 3 * 10 s) and while an answer
    # is waited for (10 s).
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""What libpq is told unless the address says otherwise."""


class PostgresqlServer:
    """Where connections come from; safe to use from several threads.

    While the server cannot be reached, one thread at a time finds out whether that has changed, and the
    others are told so at once: nobody waits behind attempts that fail one after another.
    """

    def __init__(self, address: str, config: PostgresqlConfig) -> None:
        self.name = without_secrets(address)
        self.config = config
        self._lock = Lock()
        self._unreachable: str | None = None
        self._try_again_at = 0.0
        try:
            self._parameters: dict[str, Any] = {**DEFAULTS, **conninfo_to_dict(address)}
        except (psycopg.Error, UnicodeError) as error:
            why = told(error)
            if any(secret in why for secret in secrets_of(address)):
                why = "libpq's words for it would show the password, in which special characters must be "
                why += "escaped (a % as %25)"
            raise AddressWrong(f"the address {self.name} is not understood: {why}.") from None
        options = self._parameters.get("options", "")
        self._patience = {
            "connect_timeout": self._parameters.get("connect_timeout", config.database_connect_time),
            # What the address says comes later, and so it counts.
            "options": " ".join(f"-c {name}={value}" for name, value in self._session().items())
            + f" {options}",
        }

    def _session(self) -> dict[str, str]:
        return {
            "lock_timeout": f"{self.config.database_lock_time * 1000:.0f}ms",
            "statement_timeout": f"{self.config.database_time * 1000:.0f}ms",
            # Ours are idle for as long as Python takes between two statements.
            "idle_in_transaction_session_timeout": f"{self.config.database_time * 2000:.0f}ms",
            # The server, too, notices a machine of ours that is gone without a word, and frees its locks.
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        }

    def connect(self) -> Connection:
        """A new connection; raises `StorageUnavailable`."""
        with self._lock:
            if self._unreachable is not None:
                if monotonic() < self._try_again_at:
                    raise StorageUnavailable(self._unreachable)
                self._try_again_at = monotonic() + self.config.database_connect_time + TRY_AGAIN_AFTER
        try:
            connection = self._connected(**self._patience)
        except psycopg.Error as error:
            with self._lock:
                self._unreachable = f"PostgreSQL: {told(error)}"
                self._try_again_at = monotonic() + TRY_AGAIN_AFTER
            raise StorageUnavailable(self._unreachable) from None
        self._unreachable = None
        return connection

    def connect_patiently(self) -> Connection:
        """A connection as the DB-API has it, whose statements may take their time; raises `psycopg.Error`."""
        time = {"connect_timeout": self._patience["connect_timeout"]}
        return psycopg.connect(**{**self._parameters, **time})

    def _connected(self, **parameters: Any) -> Connection:
        connection: Connection = psycopg.connect(
            **{**self._parameters, **parameters}, autocommit=True, prepare_threshold=0
        )
        # One type for all integers: one prepared statement, whatever is asked for.
        connection.adapters.register_dumper(int, Int8Dumper)
        return connection

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise `DatabaseUnusable` for whatever goes wrong before there is a storage."""
        try:
            yield
        except psycopg.Error as error:
            raise DatabaseUnusable(f"The database {self.name} cannot be used: {told(error)}.") from None
        except StorageUnavailable as error:
            raise DatabaseUnusable(f"The database {self.name} cannot be used: {error}.") from None


def told(error: BaseException) -> str:
    """An error in one line; libpq names the host, the database and the role, and no password."""
    return "; ".join(map(str.strip, str(error).splitlines())).rstrip(".?") or type(error).__name__


def check(connection: Connection, *, name: str) -> None:
    """Raise `DatabaseUnusable` unless the server is new enough, and the database keeps every text."""
    if connection.info.server_version < OLDEST_POSTGRESQL * 10_000:
        version = connection.info.parameter_status("server_version")
        raise DatabaseUnusable(
            f"The database {name} is on PostgreSQL {version}; {OLDEST_POSTGRESQL} or newer is needed."
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise DatabaseUnusable(
            f"The database {name} has the encoding {encoding}, which cannot hold every message; make one "
            "with createdb --encoding UTF8 --template template0."
        )


_CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)
_GOING_DOWN = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.IdleSessionTimeout,
    errors.IdleInTransactionSessionTimeout,
    errors.ReadOnlySqlTransaction,  # it has become a standby
)
_UNAVAILABLE = frozenset({"08", "40", "53", "55", "57", "58", "XX"})
"""Classes of SQLSTATE: connections, conflicts, resources, locks, intervention, the system, its defects."""


def is_lost(connection: Connection, error: psycopg.Error) -> bool:
    """Whether the connection is of no use any more: what is not the server's own word is doubted.

    The driver may find a broken connection in a state that it makes no sense of, before it finds it broken.
    """
    return (
        connection.closed
        or isinstance(error, _GOING_DOWN)
        or (error.sqlstate is None and not isinstance(error, errors.PipelineAborted))
        or error.diag.severity_nonlocalized in {"FATAL", "PANIC"}
        or connection.info.transaction_status == TransactionStatus.UNKNOWN
    )


def is_conflict(error: psycopg.Error) -> bool:
    """Whether two transactions have met in a way that lets one go on, and has the other begin anew."""
    return isinstance(error, _CONFLICTS)


def is_unavailable(error: psycopg.Error) -> bool:
    """Whether PostgreSQL failed for its own reasons; a wrong statement or a violated rule is a defect."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError) and not isinstance(error, errors.PipelineAborted)
    return error.sqlstate[:2] in _UNAVAILABLE or isinstance(error, _GOING_DOWN)

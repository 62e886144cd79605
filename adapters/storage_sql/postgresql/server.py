"""A PostgreSQL server: its checks, connections to it, and the meaning of its errors."""

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

from adapters.storage_sql.errors import DatabaseUnusable, InvalidAddress
from adapters.storage_sql.postgresql.config import PostgresqlConfig, secrets_of, without_secrets
from messaging_core.ports import StorageUnavailable

OLDEST_POSTGRESQL = 15
"""Released in October 2022; the oldest version that the tests run against."""
RETRY_AFTER = 0.5
"""Seconds without a further attempt after a failed one; callers get its error at once."""

PsycopgConnection = psycopg.Connection[Any]

DEFAULTS = {
    "application_name": "messaging",
    "client_encoding": "UTF8",
    # After a failover, selects the server in the address that accepts writes.
    "target_session_attrs": "read-write",
    # Detect a half-open connection while it is idle (30 + 3 * 10 s), and while a statement runs (10 s).
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""Parameters for libpq, which the address may override."""


class PostgresqlServer:
    """Opens connections; safe to use from several threads.

    While the server is unreachable, one thread at a time tries to connect, and the others get the last error
    at once, so that no caller waits for a series of failing attempts.
    """

    def __init__(self, address: str, config: PostgresqlConfig) -> None:
        self.name = without_secrets(address)
        self.config = config
        self._lock = Lock()
        self._unreachable: str | None = None
        self._retry_at = 0.0
        try:
            self._parameters: dict[str, Any] = {**DEFAULTS, **conninfo_to_dict(address)}
        except (psycopg.Error, UnicodeError) as error:
            reason = one_line(error)
            if any(secret in reason for secret in secrets_of(address)):
                reason = "libpq's message would show the password, whose special characters must be "
                reason += "escaped (a % as %25)"
            raise InvalidAddress(f"the address {self.name} is not understood: {reason}.") from None
        options = self._parameters.get("options", "")
        self._timeouts = {
            "connect_timeout": self._parameters.get("connect_timeout", config.database_connect_time),
            # The address's own options come last, so they override these.
            "options": " ".join(f"-c {name}={value}" for name, value in self._session().items())
            + f" {options}",
        }

    def _session(self) -> dict[str, str]:
        return {
            "lock_timeout": f"{self.config.database_lock_time * 1000:.0f}ms",
            "statement_timeout": f"{self.config.database_time * 1000:.0f}ms",
            # A transaction of ours is idle while Python runs between two statements.
            "idle_in_transaction_session_timeout": f"{self.config.database_time * 2000:.0f}ms",
            # The server, too, detects a half-open connection, and releases its locks.
            "tcp_keepalives_idle": "10",
            "tcp_keepalives_interval": "5",
            "tcp_keepalives_count": "3",
        }

    def connect(self) -> PsycopgConnection:
        """Open a connection; raises `StorageUnavailable`."""
        with self._lock:
            if self._unreachable is not None:
                if monotonic() < self._retry_at:
                    raise StorageUnavailable(self._unreachable)
                self._retry_at = monotonic() + self.config.database_connect_time + RETRY_AFTER
        try:
            connection = self._connected(**self._timeouts)
        except psycopg.Error as error:
            with self._lock:
                self._unreachable = f"PostgreSQL: {one_line(error)}"
                self._retry_at = monotonic() + RETRY_AFTER
            raise StorageUnavailable(self._unreachable) from None
        self._unreachable = None
        return connection

    def connect_without_timeouts(self) -> PsycopgConnection:
        """Open a DB-API connection without limits on statements and locks; raises `psycopg.Error`."""
        timeout = {"connect_timeout": self._timeouts["connect_timeout"]}
        return psycopg.connect(**{**self._parameters, **timeout})

    def _connected(self, **parameters: Any) -> PsycopgConnection:
        connection: PsycopgConnection = psycopg.connect(
            **{**self._parameters, **parameters}, autocommit=True, prepare_threshold=0
        )
        # One type for all integers, so that a statement is prepared once, whatever its parameters' size.
        connection.adapters.register_dumper(int, Int8Dumper)
        return connection

    @contextmanager
    def errors_of_opening(self) -> Iterator[None]:
        """Raise `DatabaseUnusable` for each error of opening a storage."""
        try:
            yield
        except psycopg.Error as error:
            raise DatabaseUnusable(f"The database {self.name} cannot be used: {one_line(error)}.") from None
        except StorageUnavailable as error:
            raise DatabaseUnusable(f"The database {self.name} cannot be used: {error}.") from None


def one_line(error: BaseException) -> str:
    """An error's message in one line; libpq names the host, the database and the role, but no password."""
    return "; ".join(map(str.strip, str(error).splitlines())).rstrip(".?") or type(error).__name__


def check_server(connection: PsycopgConnection, *, name: str) -> None:
    """Raise `DatabaseUnusable` unless the server is new enough and the database's encoding is UTF-8."""
    if connection.info.server_version < OLDEST_POSTGRESQL * 10_000:
        version = connection.info.parameter_status("server_version")
        raise DatabaseUnusable(
            f"The database {name} is on PostgreSQL {version}; {OLDEST_POSTGRESQL} or newer is needed."
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise DatabaseUnusable(
            f"The database {name} has the encoding {encoding}, which cannot store every message; create "
            "one with createdb --encoding UTF8 --template template0."
        )


_CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)
_GOING_DOWN = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.IdleSessionTimeout,
    errors.IdleInTransactionSessionTimeout,
    errors.ReadOnlySqlTransaction,  # the server has become a standby
)
_UNAVAILABLE = frozenset({"08", "40", "53", "55", "57", "58", "XX"})
"""SQLSTATE classes: connections, conflicts, resources, locks, intervention, system and internal errors."""


def is_lost(connection: PsycopgConnection, error: psycopg.Error) -> bool:
    """Whether the connection is unusable; an error without the server's SQLSTATE counts as such.

    Before the driver detects that a connection is broken, it may report a state that makes no sense.
    """
    return (
        connection.closed
        or isinstance(error, _GOING_DOWN)
        or (error.sqlstate is None and not isinstance(error, errors.PipelineAborted))
        or error.diag.severity_nonlocalized in {"FATAL", "PANIC"}
        or connection.info.transaction_status == TransactionStatus.UNKNOWN
    )


def is_conflict(error: psycopg.Error) -> bool:
    """Whether the transaction conflicted with another one, and must run again."""
    return isinstance(error, _CONFLICTS)


def is_unavailable(error: psycopg.Error) -> bool:
    """Whether the server or the connection failed; other errors, a violated constraint say, are defects."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError) and not isinstance(error, errors.PipelineAborted)
    return error.sqlstate[:2] in _UNAVAILABLE or isinstance(error, _GOING_DOWN)

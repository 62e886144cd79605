"""What can be set of PostgreSQL, and its address; knows nothing of the driver, which takes time to load."""

import re
from urllib.parse import unquote

from attrs import field, frozen
from attrs.validators import ge, gt

SCHEMES = ("postgresql://", "postgres://")

# As far as the last @: who forgets to escape a password is not told it back either.
_USERINFO = re.compile(r"(?<=://)([^/?#@:]*):(.*)@", re.DOTALL)
_SECRETS = re.compile(r"([?&](?:ssl)?password=)([^&#]*)")


@frozen(kw_only=True)
class PostgresqlConfig:
    """How many ask PostgreSQL at a time, and for how long; times are seconds.

    A number below its bound is refused with `ValueError`.
    """

    database_writers: int = field(default=8, validator=ge(1))
    """Transactions of a process at a time on PostgreSQL, each on a connection and a thread of its own; more
    wait for each other rather than for the disk."""
    database_readers: int = field(default=4, validator=ge(1))
    """Reads of a process at a time on PostgreSQL, apart from the transactions, so that no read waits for a
    lock. The server's max_connections must hold both for every process, and a few more."""
    database_time: float = field(default=10.0, validator=gt(0))
    """For a transaction or a read on PostgreSQL, from its beginning and again for its turn before that, with
    all its waiting and repeating; beyond it nothing was changed and the answer is 503."""
    database_lock_time: float = field(default=5.0, validator=gt(0))
    """For a lock that another transaction on PostgreSQL holds, which takes milliseconds where all is well; a
    503 beyond."""
    database_connect_time: int = field(default=3, validator=ge(2))
    """For each address of the PostgreSQL server to accept a connection; libpq knows whole seconds, from 2."""


def is_postgresql(address: str) -> bool:
    """Whether a `--database` is an address of PostgreSQL, which libpq understands or not."""
    return address.startswith(SCHEMES)


def without_secrets(address: str) -> str:
    """The address as it may be shown and logged: without its passwords."""
    return _SECRETS.sub(r"\1***", _USERINFO.sub(r"\1:***@", address))


def secrets_of(address: str) -> set[str]:
    """The passwords in an address, as they are written there and as they are meant."""
    written = {found[2] for pattern in (_USERINFO, _SECRETS) for found in pattern.finditer(address)} - {""}
    return written | {unquote(secret) for secret in written}

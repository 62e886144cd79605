"""The settings and the address of PostgreSQL; does not import the driver, which takes time to load."""

import re
from urllib.parse import unquote

from attrs import field, frozen
from attrs.validators import ge, gt

SCHEMES = ("postgresql://", "postgres://")

# Up to the last @, so that an unescaped password is hidden too.
_USERINFO = re.compile(r"(?<=://)([^/?#@:]*):(.*)@", re.DOTALL)
_SECRETS = re.compile(r"([?&](?:ssl)?password=)([^&#]*)")


@frozen(kw_only=True)
class PostgresqlConfig:
    """Connections to PostgreSQL, and timeouts in seconds; a number below its bound raises `ValueError`."""

    database_writers: int = field(default=8, validator=ge(1))
    """Concurrent transactions of a process on PostgreSQL, each on its own connection and thread; more would
    wait for each other rather than for the disk."""
    database_readers: int = field(default=4, validator=ge(1))
    """Concurrent reads of a process on PostgreSQL, on connections of their own, so that no read waits for a
    lock. The server's max_connections must allow both for every process, and a few more."""
    database_time: float = field(default=10.0, validator=gt(0))
    """Timeout of a transaction or a read on PostgreSQL, with its waits and retries, and again of the wait for
    a connection before it; after it nothing was changed, and the response is 503."""
    database_lock_time: float = field(default=5.0, validator=gt(0))
    """Timeout of the wait for a lock of another transaction on PostgreSQL, which normally takes milliseconds;
    the response after it is 503."""
    database_connect_time: int = field(default=3, validator=ge(2))
    """Timeout of connecting to each address of the PostgreSQL server; libpq accepts whole seconds, from 2."""


def is_postgresql(address: str) -> bool:
    """Whether a `--database` is meant as an address of PostgreSQL, valid or not."""
    return address.startswith(SCHEMES)


def without_secrets(address: str) -> str:
    """The address without its passwords, for messages and logs."""
    return _SECRETS.sub(r"\1***", _USERINFO.sub(r"\1:***@", address))


def secrets_of(address: str) -> set[str]:
    """The passwords in an address, both as written there and decoded."""
    written = {found[2] for pattern in (_USERINFO, _SECRETS) for found in pattern.finditer(address)} - {""}
    return written | {unquote(secret) for secret in written}

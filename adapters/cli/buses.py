"""The bus that `--bus` names, if any."""

from adapters.storage_sql.postgresql.config import is_postgresql
from messaging_core.ports import Bus

NONE = "none"
POSTGRESQL = "postgresql"
NATS_SCHEMES = ("nats://", "tls://", "ws://", "wss://")


def make_bus(named: str, database: str) -> Bus | None:
    """The bus of this process, not running yet, or None; by default PostgreSQL's with a PostgreSQL database.

    Raises `ValueError` with advice; it never quotes an address, which may hold a password.
    """
    shared = is_postgresql(database)
    chosen = named or (POSTGRESQL if shared else NONE)
    if chosen == NONE:
        return None
    if not shared:
        raise ValueError(
            "one process owns this database, so there is no other process to signal: leave --bus out, "
            "or let several processes share a --database in PostgreSQL"
        )
    # The drivers are slow to load, and only one of them is needed.
    if chosen == POSTGRESQL:
        from adapters.bus_postgres import PostgresBus  # noqa: PLC0415

        return PostgresBus(database)
    if chosen.startswith(NATS_SCHEMES):
        from adapters.bus_nats.bus import NatsAddress, NatsBus  # noqa: PLC0415

        return NatsBus(NatsAddress.parse(chosen))
    raise ValueError("it must be none, postgresql or nats://HOST:PORT/PREFIX")

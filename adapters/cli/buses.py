"""Which bus `--bus` names, if any."""

from adapters.storage_sql.postgresql.config import is_postgresql
from messaging_core.ports import Bus

NONE = "none"
POSTGRESQL = "postgresql"
NATS_SCHEMES = ("nats://", "tls://", "ws://", "wss://")


def make_bus(named: str, database: str) -> Bus | None:
    """The bus of this process, not running yet, or None; the database's own where none is named.

    Raises `ValueError`, which says what to do and repeats no address, for that may hold a password.
    """
    shared = is_postgresql(database)
    chosen = named or (POSTGRESQL if shared else NONE)
    if chosen == NONE:
        return None
    if not shared:
        raise ValueError(
            "one process owns this database, so that there is no other to tell of anything: leave --bus out, "
            "or let several processes share a --database in PostgreSQL"
        )
    # The drivers take a while to load, and only one of them is needed.
    if chosen == POSTGRESQL:
        from adapters.bus_postgres import PostgresBus  # noqa: PLC0415

        return PostgresBus(database)
    if chosen.startswith(NATS_SCHEMES):
        from adapters.bus_nats.bus import Address, NatsBus  # noqa: PLC0415

        return NatsBus(Address.parse(chosen))
    raise ValueError("it is none of none, postgresql and nats://HOST:PORT/PREFIX")

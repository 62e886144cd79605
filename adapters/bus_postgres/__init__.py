"""The bus over PostgreSQL's LISTEN and NOTIFY: no further service."""

from adapters.bus_postgres.bus import PostgresBus

__all__ = ["PostgresBus"]

"""The bus over PostgreSQL's LISTEN and NOTIFY: it needs no further service."""

from adapters.bus_postgres.bus import PostgresBus

__all__ = ["PostgresBus"]

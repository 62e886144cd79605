"""Adapters that bind the core to the world: HTTP, sockets, storages, signatures, a command line."""

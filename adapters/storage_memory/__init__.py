"""The reference storage: everything in dictionaries, gone with the process."""

from adapters.storage_memory.storage import MemoryStorage

__all__ = ["MemoryStorage"]

"""A storage in memory, lost with the process."""

from adapters.storage_memory.storage import MemoryStorage

__all__ = ["MemoryStorage"]

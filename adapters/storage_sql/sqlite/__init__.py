"""One process on one SQLite file: the event loop commits batches, and caches hot objects in memory."""

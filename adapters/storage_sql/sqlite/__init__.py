"""One process on one SQLite file: the event loop commits in groups, and keeps in memory what is hot."""

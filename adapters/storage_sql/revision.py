"""The newest schema revision, for modules that compare it without loading Alembic."""

NEWEST = "0008"
"""The last revision in `migrations/versions`."""

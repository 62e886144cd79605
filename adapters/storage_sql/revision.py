"""The newest schema revision, for modules that compare it without loading Alembic."""

NEWEST = "0011"
"""The last revision in `migrations/versions`."""

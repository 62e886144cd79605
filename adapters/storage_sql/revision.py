"""The newest schema revision, for modules that compare it without loading Alembic."""

NEWEST = "0014"
"""The last revision in `migrations/versions`."""

"""Which schema this code knows, for who only compares."""

NEWEST = "0002"
"""The last revision in `migrations/versions`."""

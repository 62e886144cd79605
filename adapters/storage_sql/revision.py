"""Which schema this code knows, for who only compares."""

NEWEST = "0006"
"""The last revision in `migrations/versions`."""

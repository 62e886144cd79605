"""Which schema this code knows, for who only compares."""

NEWEST = "0008"
"""The last revision in `migrations/versions`."""

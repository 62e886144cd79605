"""Which schema this code knows, for who only compares."""

NEWEST = "0005"
"""The last revision in `migrations/versions`."""

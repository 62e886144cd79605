"""Errors of opening a storage."""


class DatabaseUnusable(Exception):
    """The database cannot be opened; the message names it and the reason, and says what to do."""


class InvalidAddress(DatabaseUnusable):
    """The address of the database is malformed; a retry cannot succeed."""

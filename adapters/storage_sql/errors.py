"""What goes wrong before there is a storage."""


class DatabaseUnusable(Exception):
    """The database cannot be opened; the message names it, says why, and what its operator can do."""


class AddressWrong(DatabaseUnusable):
    """What should say where the database is does not, and never will."""

"""`messaging migrate`: a database to the newest schema."""

import click

from adapters.cli.composition import migrate as migrate_database
from adapters.cli.composition import told_of
from adapters.cli.settings import database_option, misspelt
from adapters.storage_sql import DatabaseUnusable


@click.command()
@database_option
def migrate(database: str) -> None:
    """Bring a database to the newest schema.

    A server on an SQLite file does so by itself. On PostgreSQL, which others may be using, it is done when
    you say so: before the servers of a new version start. Safe to repeat; all of it is done, or nothing.
    """
    for mistake in misspelt():
        click.echo(f"Warning: {mistake}", err=True)
    try:
        click.echo(migrate_database(database))
    except DatabaseUnusable as error:
        raise told_of(error) from None

"""`messaging migrate`: upgrades a database to the newest schema."""

import click

from adapters.cli.composition import command_error
from adapters.cli.composition import migrate as migrate_database
from adapters.cli.settings import database_option, misspelt
from adapters.storage_sql import DatabaseUnusable


@click.command()
@database_option
def migrate(database: str) -> None:
    """Upgrade a database to the newest schema.

    A server on an SQLite file upgrades it at the start. A PostgreSQL database may be in use by other servers,
    so run this command before the servers of a new version start. It is safe to repeat, and atomic.
    """
    for mistake in misspelt():
        click.echo(f"Warning: {mistake}", err=True)
    try:
        click.echo(migrate_database(database))
    except DatabaseUnusable as error:
        raise command_error(error) from None

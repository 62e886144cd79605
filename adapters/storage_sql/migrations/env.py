"""Runs revisions on the connection, and in the transaction, of `adapters.storage_sql.schema.upgrade`."""

from alembic import context

from adapters.storage_sql.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
